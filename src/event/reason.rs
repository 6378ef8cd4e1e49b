//! Why a record did not make it into a window.

use std::fmt;

/// The reason on a late or dead-letter record, and the label of its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Behind its partition's watermark by more than the allowed lateness.
    Late,
    /// Its window's state was gone: the partition had been idle.
    Expired,
    /// Too far ahead of the wall clock.
    Future,
    /// Not JSON, or not of the expected shape.
    Malformed,
    /// No timestamp where one is configured, or one that does not parse.
    MissingTimestamp,
    /// A key field is absent, null or no scalar.
    MissingKey,
    /// No value field is present.
    MissingValue,
    /// A value field that holds something else than a finite number.
    NotANumber,
    /// Larger than this program takes.
    TooLarge,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Reason; 9] = [
        Reason::Late,
        Reason::Expired,
        Reason::Future,
        Reason::Malformed,
        Reason::MissingTimestamp,
        Reason::MissingKey,
        Reason::MissingValue,
        Reason::NotANumber,
        Reason::TooLarge,
    ];

    /// The word in records, headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Late => "late",
            Reason::Expired => "expired",
            Reason::Future => "future",
            Reason::Malformed => "malformed",
            Reason::MissingTimestamp => "missing_timestamp",
            Reason::MissingKey => "missing_key",
            Reason::MissingValue => "missing_value",
            Reason::NotANumber => "not_a_number",
            Reason::TooLarge => "too_large",
        }
    }

    /// Whether it is about time (and goes to the late side output) or about the record itself (and follows `error_handling`).
    pub const fn is_about_time(self) -> bool {
        matches!(self, Reason::Late | Reason::Expired | Reason::Future)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
