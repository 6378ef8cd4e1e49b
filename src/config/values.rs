//! Scalars to values: pure functions from a node to a value or to what was found and what would be right.

use super::raw::{Node, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Why a value cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What was found.
    pub(super) found: String,
    /// What would be right.
    pub(super) right: String,
}

impl Problem {
    /// From both halves of the message.
    pub(super) fn new(found: impl Display, right: impl Display) -> Self {
        Problem { found: found.to_string(), right: right.to_string() }
    }

    /// `found; expected right`.
    pub(super) fn expected(found: impl Display, right: impl Display) -> Self {
        Problem::new(found, format_args!("expected {right}"))
    }
}

/// In what a bare number of a duration counts, as the suffix of its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds: `_secs`.
    Seconds,
    /// Milliseconds: `_ms`.
    Millis,
}

impl Unit {
    /// The suffix of keys that take a bare number.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Unit::Seconds => "_secs",
            Unit::Millis => "_ms",
        }
    }

    const fn millis(self) -> f64 {
        match self {
            Unit::Seconds => 1000.0,
            Unit::Millis => 1.0,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Millis => "milliseconds",
        }
    }
}

/// The longest duration that any key takes: 100 years. Sums of a few never overflow.
pub(super) const LONGEST_MILLIS: i64 = 100 * 365 * 24 * 3600 * 1000;

/// Text; numbers count as text, truth values and nothing do not.
pub(super) fn text(node: &Node) -> Result<String, Problem> {
    const RIGHT: &str = "text";
    match &node.value {
        Value::Scalar { text, quoted } if !node.is_null() => {
            if text.trim().is_empty() {
                Err(Problem::expected("empty text", RIGHT))
            } else if !quoted && matches!(text.as_str(), "true" | "false") {
                Err(Problem::expected(
                    format_args!("the truth value {text}"),
                    "text, in quotes where this word is meant",
                ))
            } else {
                Ok(text.clone())
            }
        }
        _ => Err(Problem::expected(node, RIGHT)),
    }
}

/// Any scalar as text: for lists of values to compare with and for properties of other programs.
pub(super) fn any_scalar(node: &Node) -> Result<String, Problem> {
    match node.scalar() {
        Some(text) if !node.is_null() => Ok(text.to_owned()),
        _ => Err(Problem::expected(node, "text, a number or a truth value")),
    }
}

/// `true` or `false`.
pub(super) fn flag(node: &Node) -> Result<bool, Problem> {
    match &node.value {
        Value::Scalar { text, quoted: false } if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::Scalar { text, quoted: false } if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Problem::expected(node, "true or false")),
    }
}

/// A whole number of the range.
pub(super) fn whole(node: &Node, range: RangeInclusive<u64>) -> Result<u64, Problem> {
    let right = || match (*range.start(), *range.end()) {
        (least, u64::MAX) => format!("a whole number of at least {least}"),
        (least, most) => format!("a whole number from {least} to {most}"),
    };
    let number = match &node.value {
        Value::Scalar { text, quoted: false } => text.parse::<u64>().ok(),
        _ => None,
    };
    match number {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(Problem::expected(node, right())),
    }
}

/// A number of the range.
pub(super) fn number(node: &Node, range: RangeInclusive<f64>) -> Result<f64, Problem> {
    match bare_number(node) {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(Problem::expected(node, format_args!("a number from {} to {}", range.start(), range.end()))),
    }
}

/// A number above zero.
pub(super) fn positive(node: &Node) -> Result<f64, Problem> {
    match bare_number(node) {
        Some(number) if number > 0.0 => Ok(number),
        _ => Err(Problem::expected(node, "a number above 0")),
    }
}

fn bare_number(node: &Node) -> Option<f64> {
    match &node.value {
        Value::Scalar { text, quoted: false } if text.bytes().any(|byte| byte.is_ascii_digit()) => {
            text.parse::<f64>().ok().filter(|number| number.is_finite())
        }
        _ => None,
    }
}

/// One of the words; `what` names the kind of thing.
pub(super) fn word<T: Copy>(node: &Node, what: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    let names = || words.iter().map(|(name, _)| *name);
    let right = || one_of(names());
    let Some(text) = node.scalar().filter(|_| !node.is_null()) else {
        return Err(Problem::expected(node, right()));
    };
    if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let found = format!("{node} is no {what}");
    Err(match nearest(text, names()) {
        Some(name) => Problem::new(found, format_args!("did you mean {name:?}? Expected {}", right())),
        None => Problem::expected(found, right()),
    })
}

/// `one of a, b, c`.
pub(super) fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", names.collect::<Vec<_>>().join(", "))
}

/// The known name that is most like the text, if any is like it.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_lowercase();
    known
        .map(|name| {
            let lower = name.to_lowercase();
            (strsim::jaro_winkler(&text, &lower).max(strsim::normalized_damerau_levenshtein(&text, &lower)), name)
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// A duration in milliseconds: a bare number in `unit` (where the key's suffix names one), or text with units.
pub(super) fn duration(node: &Node, unit: Option<Unit>) -> Result<i64, Problem> {
    let right = || match unit {
        Some(unit) => format!("a number of {}, or text such as 30s, 5m, 250ms, 1h, 1d", unit.name()),
        None => "text with a unit, such as 30s, 5m, 250ms, 1h, 1d".to_owned(),
    };
    let Some(text) = node.scalar().filter(|_| !node.is_null()) else {
        return Err(Problem::expected(node, right()));
    };
    let millis = match (bare_number(node), unit) {
        (Some(number), Some(unit)) => number * unit.millis(),
        (Some(_), None) => return Err(Problem::expected(format_args!("{node} without a unit"), right())),
        (None, _) => match text.strip_prefix('-').map(spelled) {
            Some(Some(millis)) => -millis,
            _ => spelled(text).ok_or_else(|| Problem::expected(node, right()))?,
        },
    };
    if millis < 0.0 {
        return Err(Problem::expected(format_args!("{node} is negative"), "a duration of at least 0"));
    }
    if millis > LONGEST_MILLIS as f64 {
        return Err(Problem::expected(format_args!("{node} is too long"), "at most 100 years (36500d)"));
    }
    let rounded = millis.round();
    if (millis - rounded).abs() > 1e-6 {
        return Err(Problem::expected(
            format_args!("{node} is finer than a millisecond"),
            "a whole number of milliseconds",
        ));
    }
    Ok(rounded as i64)
}

/// `1h30m`, `250ms`, `1.5 s` in milliseconds.
fn spelled(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut millis = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        millis += number
            * match &rest[..letters] {
                "ms" => 1.0,
                "s" => 1000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return None,
            };
        rest = rest[letters..].trim_start();
    }
    Some(millis)
}

/// Milliseconds as a bare number of `unit`: 300, 0.25.
pub(super) fn in_unit(millis: i64, unit: Unit) -> String {
    (millis as f64 / unit.millis()).to_string()
}

/// A scalar that reads back as this text.
pub(super) fn quote(text: &str) -> String {
    let plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "nan"
        );
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A duration as the command line takes it: a bare number of seconds, or text with units.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.trim().parse::<f64>().ok().map(|seconds| seconds * 1000.0);
    let millis = seconds.or_else(|| spelled(text)).filter(|millis| (0.0..=LONGEST_MILLIS as f64).contains(millis));
    let millis = millis.ok_or("a number of seconds, or text such as 30s, 5m, 250ms, 1h, 1d")?;
    Ok(std::time::Duration::from_millis(millis.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::super::raw::Origin;
    use super::*;

    fn plain(text: &str) -> Node {
        Node::plain(text, Origin::Line(1))
    }

    #[test]
    fn durations_as_numbers_and_as_text() {
        for (text, millis) in
            [("300", 300_000), ("0.25", 250), ("0", 0), ("30s", 30_000), ("1h30m", 5_400_000), ("1.5 s", 1500)]
        {
            assert_eq!(duration(&plain(text), Some(Unit::Seconds)), Ok(millis), "{text}");
        }
        assert_eq!(duration(&plain("100"), Some(Unit::Millis)), Ok(100));
        assert_eq!(duration(&plain("2d"), None), Ok(172_800_000));
        // 0.1 + 0.2 style noise is not a fraction of a millisecond.
        assert_eq!(duration(&plain("1.001"), Some(Unit::Seconds)), Ok(1001));
    }

    #[test]
    fn durations_that_are_none() {
        for (text, found) in [
            ("-1", "-1 is negative"),
            ("-5m", "\"-5m\" is negative"),
            ("0.0001", "0.0001 is finer than a millisecond"),
            ("5 minutes", "\"5 minutes\""),
            ("s", "\"s\""),
            ("1e300", "1e300 is too long"),
            (".inf", "\".inf\""),
            ("", "nothing"),
        ] {
            assert_eq!(duration(&plain(text), Some(Unit::Seconds)).unwrap_err().found, found, "{text}");
        }
        assert_eq!(duration(&plain("300"), None).unwrap_err().found, "300 without a unit");
    }

    #[test]
    fn quoting_survives_a_reading() {
        for text in
            ["plain", "a b", "5", "true", "Null", "a\"b\\c\n\u{1}\td", "x: y", "# c", "-", "", "ü", "localhost:9092"]
        {
            let document = format!("k: {}", quote(text));
            let node = super::super::raw::parse(&document).unwrap().unwrap();
            let Value::Map(entries) = node.value else { panic!() };
            assert!(!entries[0].1.is_null());
            assert_eq!(entries[0].1.scalar(), Some(text), "{document}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        assert_eq!(nearest("avrage", ["count", "average"].into_iter()), Some("average"));
        assert_eq!(nearest("zzz", ["count", "average"].into_iter()), None);
    }
}
