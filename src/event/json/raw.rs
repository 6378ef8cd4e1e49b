//! A value as it stands in the record: its kind and where its text is.

use std::num::NonZeroU64;

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Absent = 1,
    Null,
    False,
    True,
    Number,
    /// The text is the value.
    String,
    /// The text has escapes.
    EscapedString,
    Array,
    Object,
}

/// A value in the record: from the highest bit, four bits of kind, 30 of start, 30 of end.
///
/// One word, because the results of the scanner's functions then travel in a register; a struct of three fields went through
/// memory, and reading it back at another width than it was written cost half of the time of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw(NonZeroU64);

const POSITION_BITS: u32 = 30;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

/// Records must be shorter than this, so that a position fits.
pub(super) const MAX_LENGTH: usize = POSITION_MASK as usize;

impl Raw {
    pub(super) const ABSENT: Raw = Raw::new(Kind::Absent, 0, 0);

    #[inline(always)]
    pub(super) const fn new(kind: Kind, start: usize, end: usize) -> Self {
        let word = (kind as u64) << (2 * POSITION_BITS)
            | (start as u64 & POSITION_MASK) << POSITION_BITS
            | (end as u64 & POSITION_MASK);
        match NonZeroU64::new(word) {
            Some(word) => Raw(word),
            None => panic!("no kind is 0"),
        }
    }

    #[inline(always)]
    pub(super) fn kind(self) -> Kind {
        match self.0.get() >> (2 * POSITION_BITS) {
            1 => Kind::Absent,
            2 => Kind::Null,
            3 => Kind::False,
            4 => Kind::True,
            5 => Kind::Number,
            6 => Kind::String,
            7 => Kind::EscapedString,
            8 => Kind::Array,
            _ => Kind::Object,
        }
    }

    /// The value's bytes: of a string those between the quotes.
    #[inline(always)]
    pub(super) fn bytes(self, record: &[u8]) -> &[u8] {
        let word = self.0.get();
        &record[(word >> POSITION_BITS & POSITION_MASK) as usize..(word & POSITION_MASK) as usize]
    }

    /// What it is, for people, with the text of short scalars: `the string "fast"`.
    pub(super) fn describe(self, record: &[u8]) -> String {
        let text = || shorten(&String::from_utf8_lossy(self.bytes(record)));
        match self.kind() {
            Kind::Absent => "absent".to_owned(),
            Kind::Null => "null".to_owned(),
            Kind::False => "false".to_owned(),
            Kind::True => "true".to_owned(),
            Kind::Number => format!("the number {}", text()),
            Kind::String | Kind::EscapedString => format!("the string \"{}\"", text()),
            Kind::Array => "an array".to_owned(),
            Kind::Object => "an object".to_owned(),
        }
    }
}

/// At most 60 characters of a text from a record, for a message.
pub(in crate::event) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Appends the text of a string that the cursor has accepted, its escapes resolved.
pub(super) fn unescape_into(escaped: &[u8], out: &mut Vec<u8>) {
    let mut rest = escaped;
    while let Some(backslash) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..backslash]);
        let used = match rest.get(backslash + 1) {
            Some(b'u') => {
                let (character, used) = unicode_escape(&rest[backslash..]);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                used
            }
            Some(letter) => {
                out.push(match letter {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    same => *same,
                });
                2
            }
            None => 1,
        };
        rest = &rest[backslash + used..];
    }
    out.extend_from_slice(rest);
}

/// The character of the escape at the start of `text` (`\u` and four hexadecimal digits, or a surrogate pair of two such), and its
/// length in the text.
fn unicode_escape(text: &[u8]) -> (char, usize) {
    let hex4 = |from: usize| -> u32 {
        text.get(from..from + 4)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .unwrap_or(0xFFFD)
    };
    match hex4(2) {
        high @ 0xD800..0xDC00 => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (hex4(8).saturating_sub(0xDC00) & 0x3FF);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        code => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
    }
}
