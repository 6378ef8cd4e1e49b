//! The lexical level: a cursor over one record that checks JSON's grammar (RFC 8259) as it moves.
//!
//! Strings and runs of digits are measured a block of bytes at a time ([`super::block`]), without a loop for the short ones
//! that events are made of. The text is valid UTF-8 before a cursor is made, so only structure is checked here.

use super::block::{self, StringBlock};
use super::raw::{Kind, Raw};

/// How deep arrays and objects may nest; deeper is malformed. serde_json has the same limit.
pub(super) const MAX_DEPTH: u32 = 127;

/// Where a record stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Byte position in the record.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

/// The record is no JSON; the cursor knows where and why ([`Cursor::syntax_error`]). It has no size, so that results of the
/// functions on the hot path stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop;

/// A position in a record.
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    expected: &'static str,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, expected: "" }
    }

    #[inline(always)]
    pub(super) fn text(&self) -> &'t [u8] {
        self.text
    }

    #[inline(always)]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Goes back, for the place in a message.
    pub(super) fn back_to(&mut self, position: usize) {
        self.at = position;
    }

    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Ends the pass: the record stops being JSON at the cursor.
    #[cold]
    #[inline(never)]
    pub(super) fn error<T>(&mut self, expected: &'static str) -> Result<T, Stop> {
        self.expected = expected;
        Err(Stop)
    }

    /// Where and why the pass ended, after [`Stop`].
    pub(super) fn syntax_error(&self) -> SyntaxError {
        SyntaxError { at: self.at, expected: self.expected }
    }

    /// The byte at the cursor; 0 at the end, which is no part of any token.
    #[inline(always)]
    fn peek(&self) -> u8 {
        match self.text.get(self.at) {
            Some(byte) => *byte,
            None => 0,
        }
    }

    /// Moves past white space; the byte that follows, 0 at the end.
    #[inline(always)]
    pub(super) fn token(&mut self) -> u8 {
        let byte = self.peek();
        if byte > b' ' { byte } else { self.token_after_space() }
    }

    #[inline(never)]
    fn token_after_space(&mut self) -> u8 {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.peek()
    }

    /// Whether nothing is left.
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Reads a member's name and the colon. The cursor is anywhere before the opening quote.
    #[inline(always)]
    pub(super) fn member_name(&mut self) -> Result<Raw, Stop> {
        if self.token() != b'"' {
            return self.error("a member name in double quotes");
        }
        self.at += 1;
        let name = self.string()?;
        if self.token() != b':' {
            return self.error("':' after a member name");
        }
        self.at += 1;
        Ok(name)
    }

    /// Reads a string; the cursor is behind the opening quote. The value is what stands between the quotes.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Raw, Stop> {
        let start = self.at;
        let end = self.to_special()?;
        if self.text[end] == b'"' {
            self.at = end + 1;
            return Ok(Raw::new(Kind::String, start, end));
        }
        self.string_with_escapes(start)
    }

    /// Moves to the next quote, backslash or control character.
    #[inline(always)]
    fn to_special(&mut self) -> Result<usize, Stop> {
        while let Some(block) = self.text.get(self.at..).and_then(|rest| rest.first_chunk::<{ StringBlock::LENGTH }>())
        {
            if let Some(distance) = StringBlock::first_special(block) {
                self.at += distance;
                return Ok(self.at);
            }
            self.at += StringBlock::LENGTH;
        }
        self.to_special_near_the_end()
    }

    #[inline(never)]
    fn to_special_near_the_end(&mut self) -> Result<usize, Stop> {
        while let Some(byte) = self.text.get(self.at) {
            if matches!(byte, b'"' | b'\\' | 0..0x20) {
                return Ok(self.at);
            }
            self.at += 1;
        }
        self.error("the closing quote of a string")
    }

    #[inline(never)]
    fn string_with_escapes(&mut self, start: usize) -> Result<Raw, Stop> {
        loop {
            match self.text[self.to_special()?] {
                b'"' => {
                    self.at += 1;
                    return Ok(Raw::new(Kind::EscapedString, start, self.at - 1));
                }
                b'\\' => self.escape()?,
                _ => return self.error("an escape sequence instead of a control character inside a string"),
            }
        }
    }

    /// Checks one escape; a surrogate must have its other half. The cursor is on the backslash.
    fn escape(&mut self) -> Result<(), Stop> {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Ok(())
            }
            b'u' => {
                let first = self.at - 1;
                self.at += 1;
                match self.hex4()? {
                    0xD800..0xDC00 => {
                        if self.text.get(self.at..self.at + 2) == Some(b"\\u") {
                            self.at += 2;
                            if matches!(self.hex4()?, 0xDC00..0xE000) {
                                return Ok(());
                            }
                        }
                        self.at = first;
                        self.error("a pair of \\u escapes instead of half a surrogate pair")
                    }
                    0xDC00..0xE000 => {
                        self.at = first;
                        self.error("a pair of \\u escapes instead of half a surrogate pair")
                    }
                    _ => Ok(()),
                }
            }
            _ => self.error("one of \" \\ / b f n r t u after a backslash"),
        }
    }

    fn hex4(&mut self) -> Result<u32, Stop> {
        let mut code = 0;
        for _ in 0..4 {
            match (self.peek() as char).to_digit(16) {
                Some(digit) => code = code * 16 + digit,
                None => return self.error("four hexadecimal digits after \\u"),
            }
            self.at += 1;
        }
        Ok(code)
    }

    /// Moves past digits; whether there were any.
    #[inline(always)]
    fn digits(&mut self) -> bool {
        let start = self.at;
        if let Some(block) = self.text.get(start..).and_then(|rest| rest.first_chunk::<8>()) {
            let count = block::leading_digits(block);
            self.at += count;
            if count < 8 {
                return count > 0;
            }
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        self.at > start
    }

    /// Reads a number; the cursor is on its first byte.
    #[inline(always)]
    fn number(&mut self) -> Result<Raw, Stop> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
            if self.peek().is_ascii_digit() {
                return self.error("no digit after a leading zero");
            }
        } else if !self.digits() {
            return self.error("a digit");
        }
        if self.peek() == b'.' {
            self.at += 1;
            if !self.digits() {
                return self.error("a digit after the decimal point");
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.exponent()?;
        }
        Ok(Raw::new(Kind::Number, start, self.at))
    }

    #[inline(never)]
    fn exponent(&mut self) -> Result<(), Stop> {
        self.at += 1;
        if matches!(self.peek(), b'+' | b'-') {
            self.at += 1;
        }
        if self.digits() { Ok(()) } else { self.error("a digit in the exponent") }
    }

    #[inline(always)]
    fn word(&mut self, word: &'static [u8], kind: Kind, expected: &'static str) -> Result<Raw, Stop> {
        let start = self.at;
        if self.text.get(start..start + word.len()) == Some(word) {
            self.at += word.len();
            Ok(Raw::new(kind, start, self.at))
        } else {
            self.error(expected)
        }
    }

    /// Reads a scalar whose first byte is `first`.
    #[inline(always)]
    fn scalar(&mut self, first: u8) -> Result<Raw, Stop> {
        match first {
            b'"' => {
                self.at += 1;
                self.string()
            }
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true", Kind::True, "a value (true?)"),
            b'f' => self.word(b"false", Kind::False, "a value (false?)"),
            b'n' => self.word(b"null", Kind::Null, "a value (null?)"),
            _ => self.error("a value"),
        }
    }

    /// Reads any value at this depth of nesting (the number of containers around it).
    #[inline(always)]
    pub(super) fn value(&mut self, depth: u32) -> Result<Raw, Stop> {
        match self.token() {
            first @ (b'{' | b'[') => {
                let start = self.at;
                self.container(depth)?;
                let kind = if first == b'{' { Kind::Object } else { Kind::Array };
                Ok(Raw::new(kind, start, self.at))
            }
            first => self.scalar(first),
        }
    }

    /// Reads a whole object or array without recursion: `objects` has a bit for each open container, 1 for an object.
    #[inline(never)]
    fn container(&mut self, depth: u32) -> Result<(), Stop> {
        let mut objects: u128 = 0;
        let mut open = 0;
        loop {
            match self.token() {
                first @ (b'{' | b'[') => {
                    if depth + open >= MAX_DEPTH {
                        return self.error("at most 127 levels of nesting");
                    }
                    self.at += 1;
                    let is_object = first == b'{';
                    objects = (objects << 1) | u128::from(is_object);
                    open += 1;
                    if self.token() == if is_object { b'}' } else { b']' } {
                        self.at += 1;
                        objects >>= 1;
                        open -= 1;
                    } else {
                        if is_object {
                            self.member_name()?;
                        }
                        continue;
                    }
                }
                first => {
                    self.scalar(first)?;
                }
            }
            // Behind a value: close what ends here, or go on to the next value.
            loop {
                if open == 0 {
                    return Ok(());
                }
                let is_object = objects & 1 == 1;
                match self.token() {
                    b',' => {
                        self.at += 1;
                        if is_object {
                            self.member_name()?;
                        }
                        break;
                    }
                    b'}' if is_object => self.at += 1,
                    b']' if !is_object => self.at += 1,
                    _ if is_object => return self.error("',' or '}'"),
                    _ => return self.error("',' or ']'"),
                }
                objects >>= 1;
                open -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nesting_stops_at_the_limit_and_not_before() {
        for (levels, accepted) in [(127, true), (128, false), (100_000, false)] {
            let text = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
            assert_eq!(Cursor::new(text.as_bytes()).value(0).is_ok(), accepted, "{levels}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), accepted, "serde_json, {levels}");
        }
    }

    /// Text from the alphabet of JSON: most of it broken, some of it not.
    fn near_json() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            proptest::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u00e9", "\\ud83d", "\\ude00", "\\n", "a", "é", "😀", "0",
                "1", "-", ".", "e", "E", "+", "true", "false", "null", " ", "\n", "\t", "\u{1}", "\u{0}", "\"a\":",
                "\"\"", "1.5e3",
            ]),
            0..14,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn it_accepts_what_serde_json_accepts(text in near_json()) {
            let mut cursor = Cursor::new(text.as_bytes());
            let accepted = cursor.value(0).is_ok_and(|_| cursor.token() == 0 && cursor.at_end());
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(_) => prop_assert!(accepted, "{text:?}"),
                // A number too large for a double is JSON all the same.
                Err(error) if error.to_string().starts_with("number out of range") => {}
                Err(error) => prop_assert!(!accepted, "{text:?}: {error}"),
            }
        }
    }
}
