//! Which sink of an earlier run is which of this one.
//!
//! The model: a checkpoint names what sinks had by numbers, and remembers which sink had which number: by what the sink is, not by its
//! place, which may be another the next time. A sink that is found again keeps its number; a new one gets one that no sink ever had.
//!
//! How it fails: a sink that is not there any more, while the checkpoint holds results for it that may not be delivered, is a loss. It
//! is refused, unless losses are accepted.

use super::Manifest;
use crate::error::{ProcessorError, ProcessorResult};
use serde::{Deserialize, Serialize};

/// A sink's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SinkNumber(pub u16);

/// All sinks that a job ever had, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SinkNames(Vec<String>);

impl SinkNames {
    /// The number of each of these sinks, in their order; those that are new are added. Two of one identity are told apart by their
    /// order.
    pub fn number(&mut self, identities: &[String]) -> Vec<SinkNumber> {
        let mut taken = vec![false; self.0.len()];
        let mut numbers = Vec::with_capacity(identities.len());
        for identity in identities {
            let known = (0..self.0.len()).find(|number| !taken[*number] && self.0[*number] == *identity);
            let number = known.unwrap_or_else(|| {
                self.0.push(identity.clone());
                taken.push(false);
                self.0.len() - 1
            });
            taken[number] = true;
            numbers.push(SinkNumber(number as u16));
        }
        numbers
    }
}

/// Refuses to forget results that a checkpoint holds for a sink that is not among these.
pub fn check_sinks(manifest: &Manifest, numbers: &[SinkNumber], accept_loss: bool) -> ProcessorResult<()> {
    let held = manifest.sinks.iter().filter(|held| held.outbox_chunks > 0);
    for gone in held.filter(|held| !numbers.contains(&SinkNumber(held.shard.sink))) {
        let unknown = "a sink".to_owned();
        let name = manifest.sink_names.0.get(usize::from(gone.shard.sink)).unwrap_or(&unknown);
        let text = format!(
            "checkpoint {} holds results for the sink `{name}` that may not be delivered, and the job has no such sink any more",
            manifest.epoch
        );
        if !accept_loss {
            return Err(ProcessorError::Refused(format!(
                "{text}: start once with the sink as it was, or with --accept-loss to let them go"
            )));
        }
        tracing::warn!(target: "checkpoint", "{text}; the loss is accepted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(names: &mut SinkNames, identities: &[&str]) -> Vec<u16> {
        let identities: Vec<String> = identities.iter().map(|identity| (*identity).to_owned()).collect();
        names.number(&identities).into_iter().map(|number| number.0).collect()
    }

    #[test]
    fn a_sink_keeps_its_number_wherever_it_stands() {
        let mut names = SinkNames::default();
        assert_eq!(number(&mut names, &["kafka a", "file b"]), [0, 1]);
        assert_eq!(number(&mut names, &["file b", "kafka c", "kafka a"]), [1, 2, 0]);
        assert_eq!(number(&mut names, &["kafka c"]), [2]);
        assert_eq!(number(&mut names, &["file b", "file b", "kafka a"]), [1, 3, 0], "two alike");
    }
}
