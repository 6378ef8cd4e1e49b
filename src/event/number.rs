//! Numbers of JSON as doubles.
//!
//! Most numbers of events are short decimals: up to 15 digits and a small power of ten, both exact as doubles, so that one
//! multiplication or division is the correctly rounded result. The rest goes to the standard library's parser.

/// A number read as a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    /// The nearest double; infinite where the text is beyond the largest double.
    pub value: f64,
    /// Whether it is an integer too large for every digit to count (beyond 2^53) that was rounded.
    pub rounded_integer: bool,
}

const POWERS_OF_TEN: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads text that is a number by JSON's grammar.
#[inline]
pub(super) fn parse_number(text: &[u8]) -> Number {
    short_decimal(text).unwrap_or_else(|| parse_slowly(text))
}

/// A number of at most 15 digits without an exponent.
#[inline]
fn short_decimal(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.len() > 16 {
        return None;
    }
    let mut mantissa: u64 = 0;
    let mut point = digits.len();
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' => point = at + 1,
            _ => return None,
        }
    }
    let decimals = digits.len() - point;
    if mantissa > 999_999_999_999_999 {
        return None;
    }
    let magnitude = mantissa as f64 / POWERS_OF_TEN[decimals];
    Some(Number { value: if negative { -magnitude } else { magnitude }, rounded_integer: false })
}

#[inline(never)]
fn parse_slowly(text: &[u8]) -> Number {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let value: f64 = text.parse().unwrap_or(f64::NAN);
    let is_integer = text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    let exact = text.parse::<i128>().is_ok_and(|integer| value.abs() < 1e38 && value as i128 == integer);
    Number { value, rounded_integer: is_integer && !exact }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> f64 {
        parse_number(text.as_bytes()).value
    }

    #[test]
    fn integers_that_lose_digits_are_marked() {
        assert!(!parse_number(b"9007199254740992").rounded_integer);
        assert!(parse_number(b"9007199254740993").rounded_integer);
        assert!(!parse_number(b"9007199254740994").rounded_integer);
        assert!(parse_number(b"-12345678901234567890123").rounded_integer);
        assert!(parse_number(b"1234567890123456789012345678901234567890123").rounded_integer);
        assert!(!parse_number(b"0.12345678901234567890").rounded_integer);
        assert_eq!(parsed("9007199254740993"), 9007199254740992.0);
    }

    #[test]
    fn the_ends_of_the_range() {
        assert_eq!(parsed("1e999"), f64::INFINITY);
        assert_eq!(parsed("-1e999"), f64::NEG_INFINITY);
        assert_eq!(parsed("5e-324"), 5e-324);
        assert_eq!(parsed("1e-999"), 0.0);
        assert!(parsed("-0").is_sign_negative());
        assert!(parsed("-0.0").is_sign_negative());
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_standard_library(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,18})?([eE][+-]?[0-9]{1,3})?") {
            let expected: f64 = text.parse().unwrap();
            prop_assert_eq!(parsed(&text).to_bits(), expected.to_bits(), "{}", text);
        }

        #[test]
        fn shortest_decimals_come_back(value in proptest::num::f64::NORMAL) {
            prop_assert_eq!(parsed(&format!("{value:?}")).to_bits(), value.to_bits());
        }
    }
}
