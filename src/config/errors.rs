//! What is wrong with a configuration: all of it, one line each.

use super::raw::{Origin, SyntaxError};
use crate::error::ProcessorError;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as it was given.
    pub(super) file: String,
    /// Where the value at fault was written; [`Origin::Default`] where the file as a whole is meant.
    pub(super) origin: Origin,
    /// The column, where the text is no YAML at all.
    pub(super) column: Option<usize>,
    /// The key, dotted; empty where no key is meant.
    pub(super) path: String,
    /// What was found.
    pub(super) found: String,
    /// What would be right.
    pub(super) right: String,
}

impl ConfigError {
    /// An error of the file as a whole.
    pub(super) fn whole_file(file: &str, found: impl Into<String>, right: impl Into<String>) -> Self {
        ConfigError {
            file: file.to_owned(),
            origin: Origin::Default,
            column: None,
            path: String::new(),
            found: found.into(),
            right: right.into(),
        }
    }

    /// A text that is no document.
    pub(super) fn syntax(file: &str, error: SyntaxError) -> Self {
        ConfigError {
            file: file.to_owned(),
            origin: error.line.map_or(Origin::Default, Origin::Line),
            column: error.column,
            path: String::new(),
            found: error.found,
            right: error.right,
        }
    }

    /// The line of the file, from 1, where the error has one.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Origin::Line(line) => Some(line),
            _ => None,
        }
    }

    /// The dotted key at fault, from below `processor`; empty where no single key is.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// `FILE:LINE: path.to.key: what was found; what would be right`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => write!(f, "{}: ", self.file)?,
            Origin::Line(line) => match self.column {
                Some(column) => write!(f, "{}:{line}:{column}: ", self.file)?,
                None => write!(f, "{}:{line}: ", self.file)?,
            },
            Origin::Environment(name) => return write!(f, "environment {name}: {}; {}", self.found, self.right),
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.found, self.right)
    }
}

/// Everything that is wrong with a configuration, in the order of the file's lines, then of the variables' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts the errors and drops doubles.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_cached_key(|error| match &error.origin {
            Origin::Default => (0, 0, String::new()),
            Origin::Line(line) => (1, *line, String::new()),
            Origin::Environment(name) => (2, 0, name.clone()),
        });
        errors.dedup();
        ConfigErrors(errors)
    }

    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

/// One line per error.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigErrors> for ProcessorError {
    fn from(errors: ConfigErrors) -> Self {
        ProcessorError::Config(errors.to_string())
    }
}
