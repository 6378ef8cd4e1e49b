//! `processor checkpoints list`.

use super::words::{age, size};
use crate::checkpoint::{CheckpointState, ListedCheckpoint};
use crate::cli::text::{print, push_columns};
use crate::error::{ExitCode, ProcessorResult};

const HEAD: [&str; 7] = ["epoch", "age", "size", "workers", "partitions", "finished", "state"];

pub(super) fn list(listed: &[ListedCheckpoint], place: &str) -> ProcessorResult<ExitCode> {
    if listed.is_empty() {
        return print(&format!("no checkpoints in {place}\n"));
    }
    let mut table = vec![HEAD.map(str::to_owned).to_vec()];
    table.extend(listed.iter().map(row));
    let mut text = String::new();
    push_columns(&mut text, &table, |column| column == 0 || column + 1 == HEAD.len());
    print(&text)
}

fn row(listed: &ListedCheckpoint) -> Vec<String> {
    let mut cells = vec![listed.epoch.number().to_string()];
    match listed.state.manifest() {
        Some(manifest) => {
            let partitions: usize = manifest.snapshots.iter().map(|snapshot| snapshot.cuts.len()).sum();
            let finished = if manifest.finished { "yes" } else { "no" };
            cells.extend([
                age(manifest),
                size(manifest.bytes()),
                manifest.workers.to_string(),
                partitions.to_string(),
                finished.to_owned(),
            ]);
        }
        None => cells.extend(["-"; 5].map(str::to_owned)),
    }
    cells.push(match &listed.state {
        CheckpointState::Complete(_) => "ok".to_owned(),
        CheckpointState::Incomplete { workers } => {
            format!("incomplete: not published, parts of {workers} workers")
        }
        CheckpointState::Damaged { faults, .. } => {
            let first = faults.first().map_or_else(String::new, ToString::to_string);
            let more = if faults.len() > 1 { format!("; {} more", faults.len() - 1) } else { String::new() };
            format!("damaged: {first}{more}")
        }
    });
    cells
}
