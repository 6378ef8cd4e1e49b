//! Events in, event-time windows of aggregates out.
//!
//! ```text
//! source --rows--> window --results--> sink --(frontiers)--> probes
//!   |                 |          \--views--> changes --/   (where there are some)
//!   |                 +--acknowledgements--> credits   (to the sender: rows in flight are bounded)
//!   +--words--> peers                                  (to all workers: who is idle)
//! ```
//!
//! The frontier between source and window is the watermark of all partitions; the one behind the sink says which results are
//! written, and which epochs no worker is in any more. Beside these the workers speak about checkpoints, each to all.

use super::views::ViewParts;
use crate::checkpoint::operator::{CheckpointSettings, checkpoints};
use crate::exchange::flow::return_credits;
use crate::sink::operator::{SinkSettings, sink};
use crate::source::operator::{SourceSettings, source};
use crate::source::peers::hear_peers;
use crate::source::{Intake, Source};
use crate::time::Time;
use crate::window::{WindowSettings, window};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::probe::{Handle, Probe};
use timely::scheduling::SyncActivator;

/// The parts of one worker's share of the program.
pub struct Parts {
    /// What this worker reads.
    pub source: Box<dyn Source>,
    /// How it is taken in.
    pub intake: Intake,
    /// The source operator's surroundings.
    pub source_settings: SourceSettings,
    /// The window operator's surroundings.
    pub window_settings: WindowSettings,
    /// What the views are made of, in a job that has some.
    pub views: Option<ViewParts>,
    /// The sink operator's surroundings.
    pub sink_settings: SinkSettings,
    /// The surroundings of the operator that speaks about checkpoints, in a job that takes them.
    pub checkpoint_settings: Option<CheckpointSettings>,
    /// Follows the frontier behind the sink.
    pub written: Handle<Time>,
    /// Follows the frontier that says which rows windows still need, where the rows do not say it themselves.
    pub needed: Handle<Time>,
}

/// Wires the program. Returns what wakes the source, from any thread.
pub fn build(scope: Scope<'_, Time>, parts: Parts) -> SyncActivator {
    let credits = parts.source_settings.credits.clone();
    let peers = parts.source_settings.peers.clone();
    let from_source = source(scope, parts.source, parts.intake, parts.source_settings);
    hear_peers(from_source.words, peers);
    let from_window = window(from_source.rows, parts.window_settings);
    if let Some(needs) = from_window.needs {
        needs.probe_with(&parts.needed);
    }
    return_credits(from_window.acknowledgements, credits, from_source.activator);
    let results = match parts.views {
        Some(views) => from_window.results.clone().concat(super::views::views(from_window.results, views)),
        None => from_window.results,
    };
    let from_sink = sink(results, parts.sink_settings);
    from_sink.written.probe_with(&parts.written);
    if let Some(settings) = parts.checkpoint_settings {
        from_sink.taken.probe_with(settings.epochs.taken());
        checkpoints(scope, settings);
    }
    from_source.wake
}
