//! Amounts of memory.

use super::raw::{Node, Value};
use super::values::Problem;
use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Units with their bytes; for showing, larger ones first.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// As text that reads back: in the largest unit of which it is a whole number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match whole {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A number of bytes, or text with a unit; at least `least`.
pub(super) fn byte_size(node: &Node, least: ByteSize) -> Result<ByteSize, Problem> {
    let right = || format!("bytes, or text such as 512MB or 2GiB, at least {least}");
    let text = match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => text,
        _ => return Err(Problem::expected(node, right())),
    };
    parse(text).filter(|size| *size >= least).ok_or_else(|| Problem::expected(node, right()))
}

fn parse(text: &str) -> Option<ByteSize> {
    let text = text.trim();
    let letters = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..letters].trim_end(), &text[letters..]);
    let bytes = match unit {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(bytes).map(ByteSize);
    }
    let size = number.parse::<f64>().ok().filter(|_| !unit.is_empty())? * bytes as f64;
    (size >= 0.0 && size < u64::MAX as f64).then_some(ByteSize(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_numbers_and_as_text() {
        for (text, bytes) in [
            ("1048576", 1 << 20),
            ("512MB", 512_000_000),
            ("2GiB", 2 << 30),
            ("1.5 GiB", 3 << 29),
            ("64mib", 64 << 20),
            ("10 kB", 10_000),
            ("0B", 0),
        ] {
            assert_eq!(parse(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MB", "1.5", "-1MB", "1 M", "1e30TB", "99999999999TiB", "nanMB", "infMB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1_000, 1_024, 1_536, 512_000_000, 2 << 30, 3 << 29, u64::MAX, 1 << 40] {
            let shown = ByteSize(bytes).to_string();
            assert_eq!(parse(&shown), Some(ByteSize(bytes)), "{shown}");
        }
        assert_eq!(ByteSize(3 << 29).to_string(), "1536MiB");
        assert_eq!(ByteSize(512_000_000).to_string(), "512MB");
    }
}
