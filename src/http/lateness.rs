//! The document of `/lateness`.

use crate::event::WorkerIndex;
use crate::metrics::{LatenessRow, Snapshot, lateness_ladder};
use crate::time::EventTime;
use crate::time::disorder::Disorder;
use serde_json::{Value, json};

/// How far out of order the events of each partition of this process were so far, and what that means for
/// `max_out_of_orderness`. The buckets are there so that reports can add up several processes.
pub(super) fn document(snapshot: &Snapshot, now: EventTime) -> Value {
    let ladder = lateness_ladder(&[]);
    let mut total = Disorder::default();
    let mut partitions = Vec::with_capacity(snapshot.partitions.len());
    for view in &snapshot.partitions {
        let WorkerIndex(worker) = view.worker;
        let mut document = LatenessRow::new(&view.disorder, &ladder).to_json();
        document["topic"] = (&*view.status.name.topic).into();
        document["partition"] = view.status.name.partition.into();
        document["worker"] = worker.into();
        document["buckets"] = view.disorder.buckets().map(|(up_to, count)| json!([up_to.as_millis(), count])).collect();
        partitions.push(document);
        total.merge(&view.disorder);
    }
    json!({
        "now": now.to_string(),
        "since": snapshot.started_at.to_string(),
        "phase": snapshot.phase.as_str(),
        "max_out_of_orderness_ms": snapshot.time_rules.map(|rules| rules.max_out_of_orderness.as_millis()),
        "relative_error": Disorder::RELATIVE_ERROR,
        "total": LatenessRow::new(&total, &ladder).to_json(),
        "partitions": partitions,
    })
}
