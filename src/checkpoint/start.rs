//! How a run is to begin: what the command line says of checkpoints.

use crate::config::{ProcessorConfig, StateBackendKind};
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use serde::{Deserialize, Serialize};

/// How a run is to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// From which checkpoint.
    pub from: StartFrom,
    /// Whether to go on where records that the checkpoint goes on with are lost.
    pub accept_loss: bool,
}

/// From which checkpoint a run begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFrom {
    /// From the newest that can be restored; as a new job where there is none.
    #[default]
    Newest,
    /// From this one. Those after it count no more.
    Checkpoint(Epoch),
    /// As a new job, whatever there is.
    Anew,
}

impl StartOptions {
    /// Refuses options that have no meaning for a job without checkpoints.
    pub fn check(&self, config: &ProcessorConfig) -> ProcessorResult<()> {
        let option = match self.from {
            StartFrom::Checkpoint(_) => "--from-checkpoint",
            StartFrom::Anew => "--ignore-checkpoint",
            StartFrom::Newest if self.accept_loss => "--accept-loss",
            StartFrom::Newest => return Ok(()),
        };
        if config.state.backend == StateBackendKind::RocksDb {
            return Ok(());
        }
        Err(ProcessorError::Config(format!(
            "{option}: this job takes no checkpoints; write state.backend: rocksdb, or leave the option out"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn options_need_checkpoints() {
        let config = |text| config::load_str("t.yaml", text, std::iter::empty()).unwrap().config;
        let (memory, disk) = (config("processor: {}"), config("processor: {state: {backend: rocksdb}}"));
        let options = [
            StartOptions { from: StartFrom::Checkpoint(Epoch::new(7)), accept_loss: false },
            StartOptions { from: StartFrom::Anew, accept_loss: false },
            StartOptions { from: StartFrom::Newest, accept_loss: true },
        ];
        for (options, name) in options.into_iter().zip(["--from-checkpoint", "--ignore-checkpoint", "--accept-loss"]) {
            options.check(&disk).unwrap();
            assert!(options.check(&memory).unwrap_err().to_string().starts_with(name));
        }
        StartOptions::default().check(&memory).unwrap();
    }
}
