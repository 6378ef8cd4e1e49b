//! What is written beside a committed offset: `v1 closed_before=<milliseconds since 1970>`, or `v1 checkpoint`.
//!
//! Without checkpoints a committed offset says which record is the first that is still needed. Records before it may be read again
//! all the same (the offset is that of the *oldest* open window's first record), so the windows that were complete must be known
//! too. With checkpoints the offset only tells other programs how far reading has come: whoever began there without the checkpoint
//! would lack the events of windows that were open.

use crate::time::EventTime;

const VERSION: &str = "v1";
const CLOSED_BEFORE: &str = "closed_before=";
const CHECKPOINT: &str = "checkpoint";

/// What a committed offset means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The first record that is needed where windows that end at or before this are complete; [`EventTime::MIN`] where none is.
    Needed(EventTime),
    /// The first record of the next epoch: of use together with its checkpoint alone.
    Checkpoint,
}

/// The text to commit; empty where no window is closed yet.
pub(super) fn format(meaning: Meaning) -> String {
    match meaning {
        Meaning::Needed(EventTime::MIN) => String::new(),
        Meaning::Needed(closed_before) => format!("{VERSION} {CLOSED_BEFORE}{}", closed_before.as_millis()),
        Meaning::Checkpoint => format!("{VERSION} {CHECKPOINT}"),
    }
}

/// Reads it back. Text that is not of this kind (another program's commit, or an offset that a person reset) says that reading
/// begins there, and of no window that it is complete.
pub(super) fn parse(metadata: &[u8]) -> Meaning {
    parse_own(metadata).unwrap_or(Meaning::Needed(EventTime::MIN))
}

fn parse_own(metadata: &[u8]) -> Option<Meaning> {
    let text = std::str::from_utf8(metadata).ok()?;
    let mut words = text.split_ascii_whitespace();
    if words.next()? != VERSION {
        return None;
    }
    // Words that a later build may add are passed over.
    words.find_map(|word| match word.strip_prefix(CLOSED_BEFORE) {
        Some(millis) => millis.parse().ok().map(|millis| Meaning::Needed(EventTime::from_millis(millis))),
        None => (word == CHECKPOINT).then_some(Meaning::Checkpoint),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needed(millis: i64) -> Meaning {
        Meaning::Needed(EventTime::from_millis(millis))
    }

    #[test]
    fn what_is_written_is_read() {
        for millis in [0, -1, 1_758_463_999_831, i64::MIN + 1, i64::MAX] {
            assert_eq!(parse(format(needed(millis)).as_bytes()), needed(millis));
        }
        assert_eq!(format(needed(60_000)), "v1 closed_before=60000");
        assert_eq!(format(Meaning::Checkpoint), "v1 checkpoint");
        assert_eq!(parse(b"v1 checkpoint"), Meaning::Checkpoint);
    }

    #[test]
    fn no_closed_window_is_no_text() {
        assert_eq!(format(Meaning::Needed(EventTime::MIN)), "");
        assert_eq!(parse(b""), Meaning::Needed(EventTime::MIN));
    }

    #[test]
    fn words_of_a_later_build_are_passed_over() {
        assert_eq!(parse(b"v1 worker=3 closed_before=5 x=y"), needed(5));
        assert_eq!(parse(b"v1 worker=3 checkpoint x=y"), Meaning::Checkpoint);
    }

    #[test]
    fn other_programs_text_closes_nothing() {
        for text in [
            &b"v2 closed_before=5"[..],
            b"closed_before=5",
            b"v1",
            b"v1 closed_before=soon",
            b"v2 checkpoint",
            b"\xff\xfe",
            b"AgAAAXE=",
        ] {
            assert_eq!(parse(text), Meaning::Needed(EventTime::MIN), "{text:?}");
        }
    }
}
