//! What gives the state of a job its meaning.
//!
//! The model: parts of a job's definition as canonical texts, each with a name, such as `windows` or `event.key`. A checkpoint can
//! be gone on from by a job that has the same parts with the same texts. What does not change the meaning of state (sinks,
//! addresses, parallelism) is no part.

use crate::error::{ProcessorError, ProcessorResult};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The parts of a job's definition that give its state its meaning, in the order in which people want to read of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobFingerprint(Vec<FingerprintPart>);

/// One part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintPart {
    /// What it is, as the configuration calls it.
    pub name: String,
    /// Its canonical text: equal where the meaning is equal.
    pub text: String,
}

/// A part that is not the same in a checkpoint and in the configuration; `None`: there is no such part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintDifference<'a> {
    /// Which part.
    pub name: &'a str,
    /// Its text in the checkpoint.
    pub checkpoint: Option<&'a str>,
    /// Its text in the configuration.
    pub configuration: Option<&'a str>,
}

impl JobFingerprint {
    /// Adds a part; its name is new.
    pub fn with(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.0.push(FingerprintPart { name: name.into(), text: text.into() });
        self
    }

    /// The parts, in order.
    pub fn parts(&self) -> &[FingerprintPart] {
        &self.0
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|part| part.name == name).map(|part| part.text.as_str())
    }

    /// How this one, of a checkpoint, differs from that of a configuration: in the order of the checkpoint, then what is new.
    pub fn differences<'a>(&'a self, configuration: &'a JobFingerprint) -> Vec<FingerprintDifference<'a>> {
        let new = configuration.0.iter().filter(|part| self.text(&part.name).is_none());
        let names = self.0.iter().chain(new).map(|part| part.name.as_str());
        let compared = names.map(|name| FingerprintDifference {
            name,
            checkpoint: self.text(name),
            configuration: configuration.text(name),
        });
        compared.filter(|part| part.checkpoint != part.configuration).collect()
    }

    /// Refuses a configuration that gives the state another meaning; `checkpoint` names the checkpoint for people.
    pub fn check(&self, configuration: &JobFingerprint, checkpoint: impl fmt::Display) -> ProcessorResult<()> {
        let differences = self.differences(configuration);
        if differences.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
        Err(ProcessorError::Refused(format!(
            "{checkpoint} was taken by a job whose state has another meaning than this one's:\n  {}\nTo go on from it, \
             configure the job as it was. To begin anew, name another state.checkpoint_path, or start with \
             --ignore-checkpoint",
            lines.join("\n  ")
        )))
    }
}

impl fmt::Display for FingerprintDifference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |text: Option<&str>| text.map_or_else(|| "nothing".to_owned(), |text| format!("`{text}`"));
        let (checkpoint, configuration) = (side(self.checkpoint), side(self.configuration));
        write!(f, "{}: {checkpoint} in the checkpoint, {configuration} in the configuration", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_both_values() {
        let taken = JobFingerprint::default().with("windows", "tumbling 60s").with("event.key", "[a]").with("old", "x");
        let now = JobFingerprint::default().with("event.key", "[a]").with("windows", "tumbling 30s").with("new", "y");
        let error = taken.check(&now, "checkpoint 7 in /c").unwrap_err();
        assert_eq!(
            error.to_string(),
            "refused: checkpoint 7 in /c was taken by a job whose state has another meaning than this one's:\n  \
             windows: `tumbling 60s` in the checkpoint, `tumbling 30s` in the configuration\n  \
             old: `x` in the checkpoint, nothing in the configuration\n  \
             new: nothing in the checkpoint, `y` in the configuration\nTo go on from it, configure the job as it was. To \
             begin anew, name another state.checkpoint_path, or start with --ignore-checkpoint"
        );
        assert_eq!(error.exit_code(), crate::error::ExitCode::Refused);
        let reordered =
            JobFingerprint::default().with("event.key", "[a]").with("windows", "tumbling 60s").with("old", "x");
        taken.check(&reordered, "it").unwrap();
    }
}
