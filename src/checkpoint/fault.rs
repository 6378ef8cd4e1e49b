//! What can be wrong with the files of a checkpoint.

use crate::error::ProcessorError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file of a checkpoint that is not what it was when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub file: PathBuf,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It is not there.
    Missing,
    /// The operating system's words.
    NotReadable(String),
    /// It was cut off, or something was added.
    Length {
        /// As it was written.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// As long as it was, with other bytes.
    Checksum {
        /// As it was written.
        expected: Crc32,
        /// As it is.
        found: Crc32,
    },
    /// Written by a newer version of this program: nothing is wrong with it.
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest that this program reads.
        known: u32,
    },
    /// The checksum is right and the content is not.
    Content(String),
}

/// A CRC-32 (IEEE 802.3), shown and stored as eight hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Crc32(pub u32);

impl Fault {
    pub(crate) fn new(file: &Path, kind: FaultKind) -> Self {
        Self { file: file.to_owned(), kind }
    }

    pub(crate) fn io(file: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FaultKind::Missing,
            _ => FaultKind::NotReadable(error.to_string()),
        };
        Self::new(file, kind)
    }

    pub(crate) fn content(file: &Path, what: impl fmt::Display) -> Self {
        Self::new(file, FaultKind::Content(what.to_string()))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.kind {
            FaultKind::Missing => f.write_str("is missing"),
            FaultKind::NotReadable(error) => write!(f, "cannot be read: {error}"),
            FaultKind::Length { expected, found } if found < expected => {
                write!(f, "ends at byte {found}, and {expected} were written: it was cut off")
            }
            FaultKind::Length { expected, found } => {
                write!(f, "has {found} bytes, and {expected} were written")
            }
            FaultKind::Checksum { expected, found } => {
                write!(f, "is damaged: its checksum is {found}, and was {expected} when it was written")
            }
            FaultKind::NewerFormat { found, known } => write!(
                f,
                "is of format version {found}, and this program reads up to {known}: the version of the program that \
                 wrote it, or a newer one, would be right"
            ),
            FaultKind::Content(what) => f.write_str(what),
        }
    }
}

impl From<Fault> for ProcessorError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::NewerFormat { .. } => ProcessorError::Refused(fault.to_string()),
            _ => ProcessorError::State(fault.to_string()),
        }
    }
}

impl fmt::Display for Crc32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Crc32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Crc32 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Crc32 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let read = u32::from_str_radix(&text, 16).ok().map(Crc32).filter(|crc| crc.to_string() == *text);
        read.ok_or_else(|| serde::de::Error::custom(format!("{text:?}: eight hexadecimal digits would be right")))
    }
}
