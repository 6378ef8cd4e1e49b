//! The generator as a source of records.

use super::stream::EventStream;
use crate::config::model::GeneratorConfig;
use crate::error::ProcessorResult;
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::source::{Intake, NoOrigin, PartitionSlot, Polled, Source};
use crate::time::EventTime;
use std::time::{Duration, Instant};

/// Plays one worker's partitions: number i belongs to worker i modulo the number of workers.
pub struct GeneratorSource {
    partitions: Vec<Partition>,
    /// Where there is a rate: what the wall clock said at the start, and since when it has run.
    clock: Option<(EventTime, Instant)>,
    announced: bool,
}

struct Partition {
    number: u32,
    slot: PartitionSlot,
    stream: EventStream,
    offset: i64,
    open: bool,
}

/// A worker need not come back sooner, however near the next event is.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// A worker looks in at least this often.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl GeneratorSource {
    /// The source of worker `worker` of `peers`. Where there is a rate, the clock starts now.
    pub fn new(config: &GeneratorConfig, worker: WorkerIndex, peers: usize) -> Self {
        let start = EventTime::now();
        let partitions = (worker.0..config.partitions.get()).step_by(peers.max(1)).map(|number| Partition {
            number,
            slot: PartitionSlot(0),
            stream: EventStream::new(config, number, start),
            offset: 0,
            open: true,
        });
        Self { partitions: partitions.collect(), clock: config.rate.map(|_| (start, Instant::now())), announced: false }
    }

    /// What the clock says: by the monotonic one, so that a change of the wall clock neither floods nor starves the job.
    fn now(&self) -> Option<EventTime> {
        self.clock.map(|(start, since)| start.saturating_add(since.elapsed().into()))
    }

    fn announce(&mut self, intake: &mut Intake) {
        if !std::mem::replace(&mut self.announced, true) {
            for partition in &mut self.partitions {
                let name = PartitionName { topic: "generator".into(), partition: partition.number as i32 };
                partition.slot = intake.open_partition(name, EventTime::MIN);
            }
            intake.set_ready();
        }
    }
}

/// Which partition sends next, and when.
fn next_due(partitions: &[Partition]) -> Option<(usize, EventTime)> {
    let due = partitions.iter().enumerate().filter_map(|(index, partition)| Some((partition.stream.due()?, index)));
    due.min().map(|(time, index)| (index, time))
}

impl Source for GeneratorSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        self.announce(intake);
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
            if let Some(payload) = partition.stream.next_payload() {
                intake.record(partition.slot, Offset(partition.offset), payload, &NoOrigin)?;
                partition.offset += 1;
                handed += 1;
            }
        }
        for partition in
            self.partitions.iter_mut().filter(|partition| partition.open && partition.stream.due().is_none())
        {
            partition.open = false;
            intake.close_partition(partition.slot);
        }
        Ok(match (handed, pause) {
            (0, Some(pause)) => Polled::Nothing(pause),
            (0, None) => Polled::Finished,
            (records, _) => Polled::Records(records),
        })
    }
}
