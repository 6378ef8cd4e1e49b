//! What is written beside a committed offset: `v1 closed_before=<milliseconds since 1970>`.
//!
//! A committed offset says which record is the first that is still needed. Records before it may be read again all the same
//! (the offset is that of the *oldest* open window's first record), so the windows that were complete must be known too.

use crate::time::EventTime;

const VERSION: &str = "v1";
const CLOSED_BEFORE: &str = "closed_before=";

/// The text to commit; empty where no window is closed yet.
pub(super) fn format(closed_before: EventTime) -> String {
    if closed_before == EventTime::MIN {
        String::new()
    } else {
        format!("{VERSION} {CLOSED_BEFORE}{}", closed_before.as_millis())
    }
}

/// Reads it back; `None` where the text is not of this kind (another program's commit, or an offset that a person reset).
pub(super) fn parse(metadata: &[u8]) -> Option<EventTime> {
    let text = std::str::from_utf8(metadata).ok()?;
    let mut words = text.split_ascii_whitespace();
    if words.next()? != VERSION {
        return None;
    }
    // Words that a later build may add are passed over.
    let millis = words.find_map(|word| word.strip_prefix(CLOSED_BEFORE))?;
    millis.parse().ok().map(EventTime::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for millis in [0, -1, 1_758_463_999_831, i64::MIN + 1, i64::MAX] {
            let time = EventTime::from_millis(millis);
            assert_eq!(parse(format(time).as_bytes()), Some(time));
        }
        assert_eq!(format(EventTime::from_millis(60_000)), "v1 closed_before=60000");
    }

    #[test]
    fn no_closed_window_is_no_text() {
        assert_eq!(format(EventTime::MIN), "");
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn words_of_a_later_build_are_passed_over() {
        assert_eq!(parse(b"v1 worker=3 closed_before=5 x=y"), Some(EventTime::from_millis(5)));
    }

    #[test]
    fn other_programs_text_is_none() {
        for text in
            [&b"v2 closed_before=5"[..], b"closed_before=5", b"v1", b"v1 closed_before=soon", b"\xff\xfe", b"AgAAAXE="]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
