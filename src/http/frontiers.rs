//! The document of `/frontiers`.

use crate::event::WorkerIndex;
use crate::metrics::{CheckpointStatus, Diagnosis, OperatorStatus, OperatorView, PartitionView, Snapshot, diagnose};
use crate::time::EventTime;
use serde_json::{Map, Value, json};

/// Everything about how far the run is, for programs and for people with `jq`: this process, and what the others have told last.
pub(super) fn document(snapshot: &Snapshot, now: EventTime) -> Value {
    let mut document = own(snapshot, now);
    let peers = snapshot.peers.iter().map(|(process, news)| {
        let told: Value = serde_json::from_slice(&news.text).unwrap_or(Value::Null);
        let ago = now.as_millis().saturating_sub(news.at.as_millis()).max(0);
        json!({"process": process, "heard_ms_ago": ago, "frontiers": told})
    });
    document["peers"] = peers.collect();
    document
}

/// The same of this process alone.
pub(super) fn own(snapshot: &Snapshot, now: EventTime) -> Value {
    let diagnosis = diagnose(snapshot, now);
    let sink = |sink: &crate::metrics::SinkStatus| {
        json!({
            "sink": &*sink.name,
            "unacknowledged": sink.unacknowledged,
            "acknowledged": sink.acknowledged,
            "trouble": sink.trouble,
        })
    };
    json!({
        "now": time(now),
        "phase": snapshot.phase.as_str(),
        "frontier": diagnosis.frontier.map(time),
        "held_for_ms": diagnosis.held_for.as_millis(),
        "held_back_by": held_back_by(&diagnosis),
        "operators": snapshot.operators.iter().map(operator).collect::<Vec<_>>(),
        "partitions": snapshot.partitions.iter().map(partition).collect::<Vec<_>>(),
        "sinks": snapshot.sinks.iter().map(sink).collect::<Vec<_>>(),
        "checkpoints": snapshot.checkpoints.as_ref().map(checkpoints),
    })
}

fn checkpoints(status: &CheckpointStatus) -> Value {
    let last = status.last.as_ref().map(|last| {
        json!({
            "epoch": last.epoch.number(),
            "at": time(last.at),
            "took_ms": last.took.map(|took| took.as_millis() as u64),
            "size_bytes": last.size,
            "written_bytes": last.written,
            "restored": last.restored,
        })
    });
    json!({
        "last": last,
        "pending": status.pending.map(|pending| json!({"epoch": pending.epoch.number(), "since": time(pending.since)})),
        "failures_in_a_row": status.failures_in_a_row,
        "last_failure": status.last_failure.as_ref().map(|failure| json!({"at": time(failure.at), "reason": failure.reason})),
    })
}

fn held_back_by(diagnosis: &Diagnosis) -> Value {
    let held = &diagnosis.held_back_by;
    let partition = held.partition.as_ref().map(|name| json!({"topic": &*name.topic, "partition": name.partition}));
    json!({
        "cause": diagnosis.cause.as_str(),
        "partition": partition,
        "worker": held.worker.map(|WorkerIndex(index)| index),
        "operator": held.operator,
        "sink": held.sink,
        "reason": diagnosis.reason,
    })
}

/// A time as text and as a number; before every event there is neither.
fn time(at: EventTime) -> Value {
    if at == EventTime::MIN { Value::Null } else { json!({"time": at.to_string(), "ms": at.as_millis()}) }
}

fn frontier(status: OperatorStatus) -> Value {
    match status {
        OperatorStatus::Done => json!({"done": true}),
        OperatorStatus::At(at) => {
            json!({"done": false, "epoch": at.epoch().number(), "event_time": time(at.event_time())})
        }
    }
}

fn operator(view: &OperatorView) -> Value {
    let workers: Map<String, Value> =
        view.workers.iter().map(|(worker, status)| (worker.to_string(), frontier(*status))).collect();
    json!({
        "operator": view.name,
        "frontier": view.least().map(|(_, status)| frontier(status)),
        "least_on_worker": view.least().map(|(WorkerIndex(index), _)| index),
        "changed_at": time(view.changed_at),
        "workers": workers,
    })
}

fn partition(view: &PartitionView) -> Value {
    let status = &view.status;
    json!({
        "topic": &*status.name.topic,
        "partition": status.name.partition,
        "worker": view.worker.0,
        "watermark": time(status.watermark),
        "max_event_time": time(status.max_seen),
        "changed_at": time(view.changed_at),
        "last_event_at": status.last_event_at.map(time),
        "position": status.position.0,
        "lag": view.lag,
        "records": status.records,
        "idle": status.idle,
        "closed": status.closed,
    })
}
