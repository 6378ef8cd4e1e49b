//! `state`, the keys of checkpoints, and what `delivery` asks of them.

use super::output::Placed;
use super::{DEFAULT_CHECKPOINT_MILLIS, millis, non_zero, non_zero_u32};
use crate::config::byte_size::{ByteSize, byte_size};
use crate::config::model::{Delivery, FileMode, SinkConfig, SourceConfig, StateBackendKind, StateConfig};
use crate::config::object_url::ObjectUrl;
use crate::config::raw::Origin;
use crate::config::reader::{Reader, Setting};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use std::path::PathBuf;
use std::time::Duration;

const BACKENDS: [(&str, StateBackendKind); 2] =
    [("memory", StateBackendKind::Memory), ("rocksdb", StateBackendKind::RocksDb)];
/// Under `state.path`: what is here of checkpoints in an object store.
const COPIES: &str = "checkpoints";
const DEFAULT_RETAINED: u64 = 3;
const DEFAULT_FAILURES: u64 = 3;
const DEFAULT_TIMEOUT_MILLIS: i64 = 600_000;
/// With less, most of the work would be reading back what was just written.
const LEAST_MEMORY: ByteSize = ByteSize(16 << 20);

/// What was read.
pub(super) struct State {
    /// The section.
    pub(super) config: StateConfig,
    /// How often checkpoints are taken.
    pub(super) interval: Option<Duration>,
    /// How long one may take.
    pub(super) timeout: Duration,
    backend: Setting<StateBackendKind>,
    interval_origin: Origin,
}

/// Reads the section and the keys beside it.
pub(super) fn build(reader: &mut Reader, root: &Section<'_>, job: &str) -> State {
    let section = reader.section(root, "state");
    let backend = reader.word(&section, "backend", "state backend", StateBackendKind::Memory, &BACKENDS);
    let on_disk = backend.value == StateBackendKind::RocksDb;
    let path = reader.optional_text(&section, "path", on_disk.then(|| format!("state/{job}")));
    let checkpoint_path =
        reader.optional_text(&section, "checkpoint_path", on_disk.then(|| format!("checkpoints/{job}")));
    if let (Some(state), Some(checkpoints)) = (&path.value, &checkpoint_path.value)
        && state == checkpoints
    {
        let problem = Problem::new("the same directory as state.path", "name a directory of its own");
        reader.error(&checkpoint_path.origin, &checkpoint_path.path, problem);
    }
    let shared = reader.flag(&section, "checkpoint_path_shared", true);
    let checkpoint_url = checkpoint_path.value.as_deref().and_then(|text| {
        ObjectUrl::read(text).unwrap_or_else(|problem| {
            reader.error(&checkpoint_path.origin, &checkpoint_path.path, problem);
            None
        })
    });
    if checkpoint_url.is_some() && !shared.value {
        let problem = Problem::new(
            "false, and state.checkpoint_path is in an object store, which all processes share",
            "leave it out, or name a directory",
        );
        reader.error(&shared.origin, &shared.path, problem);
    }
    let copies = path.value.as_ref().map(|state| PathBuf::from(state).join(COPIES));
    // One alone would leave nothing to go back to while the next is written.
    let retain = reader.whole(&section, "retain", DEFAULT_RETAINED, 2, 1_000);
    let memory_limit = reader.optional(
        &section,
        "memory_limit",
        None,
        |node| byte_size(node, LEAST_MEMORY),
        |size: &ByteSize| values::quote(&size.to_string()),
    );
    if backend.sound && !on_disk && memory_limit.value.is_some() {
        let found = "has no meaning where state.backend is memory: there is nowhere else for state to go";
        let problem = Problem::new(found, "write state.backend: rocksdb, or leave it out");
        reader.error(&memory_limit.origin, &memory_limit.path, problem);
    }
    let failures = reader.whole(&section, "tolerable_failures", DEFAULT_FAILURES, 1, u64::from(u32::MAX));
    let default = on_disk.then_some(DEFAULT_CHECKPOINT_MILLIS);
    let interval = reader.optional_duration(root, "checkpoint_interval", Unit::Seconds, default);
    let timeout = reader.duration(root, "checkpoint_timeout", Unit::Seconds, DEFAULT_TIMEOUT_MILLIS, 1);
    let config = StateConfig {
        backend: backend.value,
        path: path.value.map(PathBuf::from),
        checkpoint_path: match checkpoint_url {
            None => checkpoint_path.value.map(PathBuf::from),
            Some(_) => copies,
        },
        checkpoint_path_shared: shared.value,
        checkpoint_url,
        retain: non_zero(retain.value),
        memory_limit: memory_limit.value,
        tolerable_failures: non_zero_u32(&failures),
    };
    State {
        config,
        interval: interval.value.map(millis),
        timeout: millis(timeout.value),
        backend,
        interval_origin: interval.origin,
    }
}

/// Checks that what is asked of delivery and checkpoints can be done with this source and these sinks.
pub(super) fn check(
    reader: &mut Reader,
    state: &State,
    delivery: &Setting<Delivery>,
    source: &SourceConfig,
    sinks: &[Placed<SinkConfig>],
) {
    if !state.backend.sound || !delivery.sound {
        return;
    }
    if state.backend.value == StateBackendKind::RocksDb {
        check_checkpoints(reader, state, delivery, source, sinks);
    }
    if delivery.value == Delivery::ExactlyOnce {
        check_exactly_once(reader, state, delivery, source, sinks);
    }
}

fn check_checkpoints(
    reader: &mut Reader,
    state: &State,
    delivery: &Setting<Delivery>,
    source: &SourceConfig,
    sinks: &[Placed<SinkConfig>],
) {
    if *source == SourceConfig::Stdin && delivery.value == Delivery::AtLeastOnce {
        let text = "standard input cannot be read again: a run that was interrupted will not be able to go on from its checkpoint";
        reader.warn(&state.backend.origin, &state.backend.path, text);
    }
    let is_atomic = |sink: &&Placed<SinkConfig>| matches!(sink.output, SinkConfig::File { mode: FileMode::Atomic, .. });
    // Of Kafka it is said already.
    for sink in sinks.iter().filter(is_atomic).filter(|_| *source != SourceConfig::Kafka) {
        let found = "atomic, while state.backend is rocksdb; a run that goes on from a checkpoint does not write again what was \
                     fired before it";
        let right = "write mode: append, or state.backend: memory";
        reader.error(sink.origin(), &format!("{}.mode", sink.path()), Problem::new(found, right));
    }
}

fn check_exactly_once(
    reader: &mut Reader,
    state: &State,
    delivery: &Setting<Delivery>,
    source: &SourceConfig,
    sinks: &[Placed<SinkConfig>],
) {
    let mut refuse = |found: &str, right: &str| {
        reader.error(&delivery.origin, &delivery.path, Problem::new(format_args!("exactly_once, {found}"), right));
    };
    if state.backend.value == StateBackendKind::Memory {
        let right = "write state.backend: rocksdb, or delivery: at_least_once";
        refuse("while state.backend is memory, which takes no checkpoints", right);
    }
    if *source == SourceConfig::Stdin {
        let right = "read from Kafka or files, or write delivery: at_least_once";
        refuse("while source.type is stdin, which cannot be read again after a crash", right);
    }
    let can =
        |sink: &SinkConfig| matches!(sink, SinkConfig::Kafka { .. } | SinkConfig::File { mode: FileMode::Append, .. });
    let is_written = |sink: &&Placed<SinkConfig>| sink.output == SinkConfig::Stdout;
    if !sinks.is_empty() && !sinks.iter().any(|sink| can(&sink.output)) {
        let right = "write a sink of type kafka or file, or delivery: at_least_once";
        refuse("and no sink can take back what it has shown", right);
    } else if let Some(stdout) = sinks.iter().find(is_written) {
        let found = "stdout, while delivery is exactly_once; lines that are written cannot be taken back";
        let right = "write type: kafka or type: file, or delivery: at_least_once";
        reader.error(stdout.origin(), &format!("{}.type", stdout.path()), Problem::new(found, right));
    }
    let has_end = match source {
        SourceConfig::Kafka => false,
        SourceConfig::File { .. } | SourceConfig::Stdin => true,
        SourceConfig::Generator(generator) => generator.count.is_some(),
    };
    if state.backend.value == StateBackendKind::RocksDb && state.interval.is_none() && !has_end {
        let found =
            "null, while delivery is exactly_once and the source has no end; results become visible with a checkpoint";
        let problem = Problem::new(found, "write how often, such as 60");
        reader.error(&state.interval_origin, "checkpoint_interval_secs", problem);
    }
}
