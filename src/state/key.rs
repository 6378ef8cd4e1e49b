//! How namespaces, keys and windows become bytes; the format is in the documentation of [`super`].

use crate::aggregate::Window;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::GroupingKey;
use chrono::{DateTime, Utc};

/// The bytes of one time.
const TIME: usize = 12;
const SIGN: u64 = 1 << 63;
/// What stands before the text of a window's key.
const GROUP: u8 = 1;

/// The place of a key in the one space of keys.
pub(super) fn place(namespace: &str, key: &[u8]) -> ProcessorResult<Vec<u8>> {
    if namespace.contains('\0') {
        return Err(ProcessorError::State(format!(
            "the namespace {namespace:?} has a NUL; any other text would be right"
        )));
    }
    let mut place = Vec::with_capacity(namespace.len() + 1 + key.len());
    place.extend_from_slice(namespace.as_bytes());
    place.push(0);
    place.extend_from_slice(key);
    Ok(place)
}

/// The key of a place in `namespace`.
pub(super) fn key_of_place<'p>(namespace: &str, place: &'p [u8]) -> &'p [u8] {
    place.get(namespace.len() + 1..).unwrap_or_default()
}

/// The key of a window.
pub(super) fn encode_window(window: &Window) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 * TIME);
    push_time(&mut key, window.start);
    push_time(&mut key, window.end);
    if let Some(group) = &window.key {
        key.push(GROUP);
        key.extend_from_slice(group.as_json().as_bytes());
    }
    key
}

/// The window of a key; `None` where the bytes are no window's.
pub(super) fn decode_window(key: &[u8]) -> Option<Window> {
    let (start, rest) = split_time(key)?;
    let (end, rest) = split_time(rest)?;
    let key = match rest {
        [] => None,
        [GROUP, text @ ..] => Some(GroupingKey::from_canonical_json(std::str::from_utf8(text).ok()?)),
        _ => return None,
    };
    Some(Window { start, end, key })
}

fn push_time(key: &mut Vec<u8>, time: DateTime<Utc>) {
    key.extend_from_slice(&(time.timestamp() as u64 ^ SIGN).to_be_bytes());
    key.extend_from_slice(&time.timestamp_subsec_nanos().to_be_bytes());
}

fn split_time(bytes: &[u8]) -> Option<(DateTime<Utc>, &[u8])> {
    let (seconds, rest) = bytes.split_first_chunk::<8>()?;
    let (nanos, rest) = rest.split_first_chunk::<4>()?;
    let seconds = (u64::from_be_bytes(*seconds) ^ SIGN) as i64;
    Some((DateTime::from_timestamp(seconds, u32::from_be_bytes(*nanos))?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(start: i64, length: i64, nanos: u32, group: Option<&str>) -> Window {
        let at = |seconds| DateTime::from_timestamp(seconds, nanos).unwrap();
        let key = group.map(|group| GroupingKey::from_fields(&[("group", group)]));
        Window { start: at(start), end: at(start + length), key }
    }

    #[test]
    fn namespaces_do_not_touch_each_other() {
        assert_eq!(place("a", b"\0b").unwrap(), b"a\0\0b");
        assert!(place("a", &[255]).unwrap() < place("aa", &[]).unwrap());
        assert_eq!(key_of_place("a", b"a\0\0b"), b"\0b");
        assert_eq!(
            place("a\0b", b"").unwrap_err().to_string(),
            r#"state: the namespace "a\0b" has a NUL; any other text would be right"#
        );
    }

    #[test]
    fn what_is_no_window_is_none() {
        let good = encode_window(&window(0, 1, 0, None));
        assert!(decode_window(&good[..23]).is_none());
        assert!(decode_window(&[&good[..], &[2]].concat()).is_none());
        assert!(decode_window(&[&good[..], &[GROUP, 0xff]].concat()).is_none());
        assert!(decode_window(&[255; 24]).is_none());
    }

    #[test]
    fn the_format_never_changes() {
        let key = encode_window(&window(-1, 2, 5, Some("x")));
        let expected = [
            &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 5][..],
            &[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 5],
            b"\x01{\"group\":\"x\"}",
        ];
        assert_eq!(key, expected.concat());
    }

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_windows_and_come_back(
            a in (-100_000i64..100_000, 1i64..100, 0u32..1_000_000_000, proptest::option::of("[a-c]{0,2}")),
            b in (-100_000i64..100_000, 1i64..100, 0u32..1_000_000_000, proptest::option::of("[a-c]{0,2}")),
        ) {
            let [a, b] = [a, b].map(|(start, length, nanos, group)| window(start, length, nanos, group.as_deref()));
            prop_assert_eq!(encode_window(&a).cmp(&encode_window(&b)), a.cmp(&b));
            prop_assert_eq!(decode_window(&encode_window(&a)), Some(a));
        }
    }
}
