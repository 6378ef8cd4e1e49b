//! The generator as a source of records.

use super::stream::EventStream;
use crate::config::model::GeneratorConfig;
use crate::error::ProcessorResult;
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::source::{Intake, NoOrigin, PartitionSlot, Polled, Resume, Source, StartAt};
use crate::time::EventTime;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Plays one worker's partitions: number i belongs to worker i modulo the number of workers.
pub struct GeneratorSource {
    partitions: Vec<Partition>,
    /// Where there is a rate: what the wall clock said at the start, and since when it has run.
    clock: Option<(EventTime, Instant)>,
    announced: bool,
    resume: Arc<Resume>,
    /// How many partitions the job has, with the worker that looks for those that are gone.
    all: Option<u32>,
}

struct Partition {
    number: u32,
    slot: PartitionSlot,
    /// `None` once it has ended.
    stream: Option<EventStream>,
    offset: i64,
}

fn name_of(number: u32) -> PartitionName {
    PartitionName { topic: "generator".into(), partition: number as i32 }
}

/// A worker need not come back sooner, however near the next event is.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// A worker looks in at least this often.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl GeneratorSource {
    /// The source of worker `worker` of `peers`. Where there is a rate, the clock starts now.
    pub fn new(config: &GeneratorConfig, worker: WorkerIndex, peers: usize) -> Self {
        Self::resuming(config, worker, peers, Arc::default())
    }

    /// The same, from where `resume` says.
    pub fn resuming(config: &GeneratorConfig, worker: WorkerIndex, peers: usize, resume: Arc<Resume>) -> Self {
        let (start, since) = (EventTime::now(), Instant::now());
        let partition = |number| {
            let at = resume.start(&name_of(number));
            let offset = match at {
                StartAt::Record(next) => next.0,
                StartAt::New | StartAt::Ended => 0,
            };
            let open = at != StartAt::Ended;
            let stream = open.then(|| EventStream::behind(config, number, start, offset.unsigned_abs()));
            Partition { number, slot: PartitionSlot(0), stream, offset }
        };
        let partitions = (worker.0..config.partitions.get()).step_by(peers.max(1)).map(partition).collect();
        let clock = config.rate.map(|_| (start, since));
        let all = (worker == WorkerIndex(0)).then(|| config.partitions.get());
        Self { partitions, clock, announced: false, resume, all }
    }

    /// What the clock says: by the monotonic one, so that a change of the wall clock neither floods nor starves the job.
    fn now(&self) -> Option<EventTime> {
        self.clock.map(|(start, since)| start.saturating_add(since.elapsed().into()))
    }

    fn announce(&mut self, intake: &mut Intake) -> ProcessorResult<()> {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        for partition in &mut self.partitions {
            partition.slot = intake.open_partition(name_of(partition.number), EventTime::MIN);
        }
        if let Some(all) = self.all.take() {
            for ended in self.resume.vanished(|name| (0..all).any(|number| name_of(number) == *name))? {
                intake.open_partition(ended, EventTime::MIN);
            }
        }
        intake.set_ready();
        Ok(())
    }
}

/// Which partition sends next, and when.
fn next_due(partitions: &[Partition]) -> Option<(usize, EventTime)> {
    let due = |(index, partition): (usize, &Partition)| Some((partition.stream.as_ref()?.due()?, index));
    let due = partitions.iter().enumerate().filter_map(due);
    due.min().map(|(time, index)| (index, time))
}

impl Source for GeneratorSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        self.announce(intake)?;
        let now = self.now();
        let mut handed = 0;
        let mut pause = None;
        while handed < max_records {
            let Some((index, due)) = next_due(&self.partitions) else { break };
            if let Some(now) = now
                && due > now
            {
                pause = Some(Duration::from(due.since(now)).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
                break;
            }
            let partition = &mut self.partitions[index];
            if let Some(payload) = partition.stream.as_mut().and_then(EventStream::next_payload) {
                intake.record(partition.slot, Offset(partition.offset), payload, &NoOrigin)?;
                partition.offset += 1;
                handed += 1;
            }
        }
        for partition in &mut self.partitions {
            if partition.stream.take_if(|stream| stream.due().is_none()).is_some() {
                intake.close_partition(partition.slot);
            }
        }
        Ok(match (handed, pause) {
            (0, Some(pause)) => Polled::Nothing(pause),
            (0, None) => Polled::Finished,
            (records, _) => Polled::Records(records),
        })
    }
}
