//! The helper thread: everything about Kafka that may wait, so that the worker never does.
//!
//! The model: it asks until the brokers have answered what is needed to begin (topics, committed offsets, ranges), announces the
//! worker's partitions through a channel, and assigns them *after* that, so that the worker always knows a partition before its
//! first record. Then it serves librdkafka's events, looks for new partitions, answers the worker's questions about ends,
//! commits offsets, and watches whether the brokers answer.
//!
//! How it fails: what waiting may mend is asked again with growing pauses; what it cannot mend (a missing topic, a refused group)
//! goes to the worker as the error of the run; a panic becomes [`crate::runtime::Control::fail`].

use super::assignment::{self, Available, Start};
use super::batch::{FetchQueue, Waker};
use super::brokers::{Brokers, NoAnswer, PartitionId, TopicState};
use super::commit_metadata;
use super::commit_queue::CommitQueue;
use super::commits::{Commit, Commits};
use super::context::{Events, error_text};
use super::reach::Reach;
use crate::config::OffsetReset;
use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::source::Resume;
use crate::time::EventTime;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::consumer::Consumer;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often events are served when nothing else is to be done.
const TICK: Duration = Duration::from_millis(50);
/// The first and the longest pause between two tries to begin.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often in a row a topic must be missing: a cluster that has just started may not know all its topics at once.
const MISSES: u32 = 3;
const MISS_PAUSE: Duration = Duration::from_millis(400);
/// How often waiting for a topic is logged.
const WAIT_REMINDER: Duration = Duration::from_secs(30);
/// How often brokers that do not answer are asked again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// The least time between two commits.
const COMMIT_PAUSE: Duration = Duration::from_secs(1);
/// How long the last commit may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// From the worker.
pub(super) enum Request {
    /// Where do these partitions end?
    Ends(Question),
    /// Commit this.
    Commit(PartitionId, Commit),
    /// Commit what waits and stop. The sender gets the outcome, and is dropped when the client is gone.
    Close(Sender<ProcessorResult<()>>),
}

/// A question about the ends of partitions.
pub(super) struct Question {
    /// Which.
    pub partitions: Vec<PartitionId>,
    /// When it was asked.
    pub asked_at: Instant,
    /// [`super::context::ReaderContext::disturbances`] at that time.
    pub disturbances: u64,
}

/// To the worker.
pub(super) enum Notice {
    /// The answer to a question; ends that are unknown are left out.
    Ends(Question, Vec<(PartitionId, Offset)>),
    /// The run cannot go on.
    Failed(ProcessorError),
}

/// A partition that the worker is to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// Which.
    pub id: PartitionId,
    /// The first record.
    pub begin: Offset,
    /// For the intake.
    pub closed_before: EventTime,
    /// Where it goes on from a checkpoint: what became of its idleness.
    pub gone_on: Option<GoneOn>,
}

/// How a partition goes on from a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoneOn {
    /// It was idle, and a broker said at that time that nothing has come since. Being idle in the checkpoint alone proves nothing:
    /// what came while nobody read must hold the frontier back as it would have done.
    pub idle: Option<Instant>,
}

/// Partitions that the worker is to read from now on, if any.
pub(super) struct Openings {
    pub partitions: Vec<Opening>,
    /// What an earlier run has completed, for workers without a partition too: they may have windows.
    pub closed_before: EventTime,
}

/// What the helper needs to know of the job.
pub(super) struct Settings {
    pub worker: WorkerIndex,
    pub workers: usize,
    pub reset: OffsetReset,
    pub wait_for_topics: bool,
    pub refresh: Duration,
    pub resume: Arc<Resume>,
}

/// The helper's side of the channels, and its knowledge.
pub(super) struct Helper {
    pub settings: Settings,
    pub brokers: Brokers,
    pub queue: Arc<FetchQueue>,
    pub requests: Receiver<Request>,
    pub openings: Sender<Openings>,
    pub notices: Sender<Notice>,
    pub waker: Waker,
    pub reach: Reach,
    /// How many partitions of each topic are known.
    pub known: Vec<i32>,
    pub commits: Commits,
    pub commit_queue: CommitQueue,
}

/// Why a phase ended.
enum End {
    /// The worker went away or asked for the end.
    Closed(Option<Sender<ProcessorResult<()>>>),
    /// The worker must end.
    Failed(ProcessorError),
}

impl Helper {
    /// Runs until the worker asks for the end or goes away.
    pub(super) fn run(mut self) {
        let end = match self.connect() {
            Ok(()) => self.serve(),
            Err(end) => end,
        };
        match end {
            End::Failed(error) => {
                let _ = self.notices.send(Notice::Failed(error));
                (self.waker)();
                // Later requests find nobody; a close must still be answered.
                while let Ok(request) = self.requests.recv() {
                    if let Request::Close(done) = request {
                        self.leave(Some(done));
                        return;
                    }
                }
            }
            End::Closed(done) => self.leave(done),
        }
    }

    fn leave(mut self, done: Option<Sender<ProcessorResult<()>>>) {
        let outcome = if done.is_some() { self.last_commit() } else { Ok(()) };
        if let Some(done) = &done {
            let _ = done.send(outcome);
        }
        // The client goes with the last of its holders: here, when the worker has let go of it already. `done` goes after it,
        // which tells the worker.
        drop(self);
        drop(done);
    }

    /// Asks until everything is known that is needed to begin.
    fn connect(&mut self) -> Result<(), End> {
        let mut pause = FIRST_PAUSE;
        let mut misses = 0;
        let mut waiting_since: Option<Instant> = None;
        loop {
            match self.discover() {
                Ok(None) => {
                    self.reach.answered();
                    return Ok(());
                }
                Ok(Some(missing)) => {
                    self.reach.answered();
                    misses += 1;
                    if misses >= MISSES && !self.settings.wait_for_topics {
                        return Err(End::Failed(self.missing_topic(missing)));
                    }
                    if misses >= MISSES && waiting_since.is_none_or(|since| since.elapsed() >= WAIT_REMINDER) {
                        waiting_since = Some(Instant::now());
                        let (topic, servers) = (&self.brokers.topics[missing], &self.brokers.servers);
                        tracing::warn!(target: "kafka", "waiting for topic {topic:?}, which {servers} does not have");
                    }
                    self.wait(if misses < MISSES { MISS_PAUSE } else { PROBE_PAUSE })?;
                }
                Err(NoAnswer::Later(reason)) => {
                    misses = 0;
                    let trouble = self.serve_events().trouble;
                    self.reach.failed(trouble.as_deref().unwrap_or(&reason));
                    self.wait(pause)?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(NoAnswer::Never(error)) => return Err(End::Failed(error)),
            }
        }
    }

    fn missing_topic(&self, topic: usize) -> ProcessorError {
        let (topic, servers) = (&self.brokers.topics[topic], &self.brokers.servers);
        ProcessorError::Kafka(format!(
            "topic {topic:?} does not exist on {servers}. Create it (kafka-topics.sh --bootstrap-server {servers} --create --topic \
             {topic} --partitions 4), correct kafka.consumer.topics, or set kafka.consumer.wait_for_topics: true"
        ))
    }

    /// Waits, serving events and requests meanwhile.
    fn wait(&mut self, duration: Duration) -> Result<(), End> {
        let until = Instant::now() + duration;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.take_request(left.min(TICK))?;
            self.serve_events();
        }
    }

    /// Learns all topics, opens this worker's partitions. Answers with a topic that does not exist, if there is one.
    fn discover(&mut self) -> Result<Option<usize>, NoAnswer> {
        let mut counts = Vec::with_capacity(self.brokers.topics.len());
        for topic in 0..self.brokers.topics.len() {
            match self.brokers.topic_state(topic)? {
                TopicState::Partitions(count) => counts.push(count),
                TopicState::Missing => return Ok(Some(topic)),
            }
        }
        let all: Vec<PartitionId> = counts
            .iter()
            .enumerate()
            .flat_map(|(topic, count)| (0..*count).map(move |partition| PartitionId { topic, partition }))
            .collect();
        let (openings, closed_before) = match self.settings.resume.is_restored {
            true => (self.go_on(&all, &counts)?, EventTime::MIN),
            false => self.begin(&all)?,
        };
        self.open(openings, closed_before).map_err(NoAnswer::Never)?;
        self.known = counts;
        Ok(None)
    }

    /// Where this worker's share of `all` partitions goes on from the checkpoint; those that it does not know were added since, and
    /// are read from their beginning.
    fn go_on(&self, all: &[PartitionId], counts: &[i32]) -> Result<Vec<Opening>, NoAnswer> {
        let resume = &self.settings.resume;
        let mine: Vec<PartitionId> = all.iter().copied().filter(|id| self.is_mine(*id)).collect();
        let asked_at = Instant::now();
        let available = self.brokers.available(&mine)?;
        if self.settings.worker == WorkerIndex(0) {
            let topic = |name: &PartitionName| self.brokers.topics.iter().position(|topic| *topic == name.topic);
            let is_there =
                |name: &PartitionName| topic(name).is_some_and(|topic| (0..counts[topic]).contains(&name.partition));
            // A topic's partition never ends.
            resume.vanished(is_there).map_err(NoAnswer::Never)?;
        }
        let opening = |(id, available): (PartitionId, Available)| {
            let name = PartitionName { topic: self.brokers.topics[id.topic].clone(), partition: id.partition };
            let Some(cut) = resume.cuts.get(&name) else {
                let begin = available.low;
                return Ok(Opening { id, begin, closed_before: EventTime::MIN, gone_on: None });
            };
            let begin = match assignment::go_on(cut.next, available) {
                Ok(next) => next,
                Err(nearest) => {
                    let missing = u64::try_from(nearest.0 - cut.next.0).ok();
                    resume.lose(&name, missing, || out_of_range(cut.next, available)).map_err(NoAnswer::Never)?;
                    nearest
                }
            };
            let idle = (cut.idle && begin == cut.next && begin == available.high).then_some(asked_at);
            Ok(Opening { id, begin, closed_before: EventTime::MIN, gone_on: Some(GoneOn { idle }) })
        };
        mine.into_iter().zip(available).map(opening).collect()
    }

    /// Where this worker's share of `all` partitions begins without a checkpoint, and what an earlier run has completed.
    fn begin(&self, all: &[PartitionId]) -> Result<(Vec<Opening>, EventTime), NoAnswer> {
        // Of all partitions, because what is closed is closed for the whole job.
        let committed = self.brokers.committed(all)?;
        if committed.of_checkpoints {
            tracing::warn!(
                target: "kafka",
                "the offsets of group {:?} are those of a checkpoint that is not restored: windows that were open then would lack \
                 events, so reading begins where auto_offset_reset says",
                self.brokers.group
            );
        }
        let mine: Vec<(PartitionId, Option<Offset>)> =
            all.iter().copied().zip(committed.offsets).filter(|(id, _)| self.is_mine(*id)).collect();
        let ids: Vec<PartitionId> = mine.iter().map(|(id, _)| *id).collect();
        let available = self.brokers.available(&ids)?;
        let openings = mine
            .into_iter()
            .zip(available)
            .map(|((id, offset), available)| {
                let start = assignment::start(offset, available, self.settings.reset);
                if let Start::OutOfRange { wanted, begin } = start {
                    let topic = &self.brokers.topics[id.topic];
                    tracing::warn!(
                        target: "kafka",
                        "{topic}[{}]: the committed offset {wanted} is not there; the partition has {} to {}; \
                         reading from {begin} as auto_offset_reset says",
                        id.partition, available.low, available.high
                    );
                }
                Opening { id, begin: start.offset(), closed_before: committed.closed_before, gone_on: None }
            })
            .collect();
        Ok((openings, committed.closed_before))
    }

    fn is_mine(&self, id: PartitionId) -> bool {
        assignment::owner(id.topic, id.partition, self.settings.workers) == self.settings.worker
    }

    /// Announces partitions to the worker, then begins to fetch them.
    fn open(&self, openings: Vec<Opening>, closed_before: EventTime) -> ProcessorResult<()> {
        let failed = |error: rdkafka::error::KafkaError| {
            ProcessorError::Kafka(format!("{}: cannot assign partitions: {}", self.brokers.servers, error_text(&error)))
        };
        for opening in &openings {
            let topic = &self.brokers.topics[opening.id.topic];
            self.queue.forward(topic, opening.id.partition)?;
            tracing::info!(target: "kafka", "reading {topic}[{}] from offset {}", opening.id.partition, opening.begin);
        }
        let positions = openings.iter().map(|opening| (opening.id, rdkafka::Offset::Offset(opening.begin.0)));
        let list = self.brokers.list(positions).map_err(failed)?;
        let any = !openings.is_empty();
        // A worker that has gone away is told by the next request.
        let _ = self.openings.send(Openings { partitions: openings, closed_before });
        (self.waker)();
        if any {
            self.brokers.client.incremental_assign(&list).map_err(failed)?;
        }
        Ok(())
    }

    /// The steady state.
    fn serve(&mut self) -> End {
        let mut refresh_at = Instant::now() + self.settings.refresh;
        let mut probe_at: Option<Instant> = None;
        let mut commit_at = Instant::now();
        loop {
            if let Err(end) = self.take_request(TICK) {
                return end;
            }
            let Events { trouble, all_down, fatal } = self.serve_events();
            if let Some(reason) = fatal {
                return End::Failed(ProcessorError::Kafka(format!("{}: {reason}", self.brokers.servers)));
            }
            let now = Instant::now();
            // What the client says may be over by the time it is read here: the probe finds out what is so.
            if all_down || trouble.is_some() {
                probe_at.get_or_insert(now);
            }
            if probe_at.is_some_and(|at| now >= at) {
                probe_at = (!self.probe(trouble)).then(|| Instant::now() + PROBE_PAUSE);
            }
            if now >= refresh_at && !self.reach.is_down() {
                if let Err(error) = self.refresh() {
                    return End::Failed(error);
                }
                refresh_at = Instant::now() + self.settings.refresh;
            }
            if now >= commit_at {
                commit_at = now + COMMIT_PAUSE;
                self.send_commits();
            }
        }
    }

    fn take_request(&mut self, patience: Duration) -> Result<(), End> {
        match self.requests.recv_timeout(patience) {
            Ok(Request::Ends(question)) => self.answer(question),
            Ok(Request::Commit(id, commit)) => {
                self.commits.add(id, commit);
                // There may be one for each partition.
                while let Ok(request) = self.requests.try_recv() {
                    match request {
                        Request::Ends(question) => self.answer(question),
                        Request::Commit(id, commit) => self.commits.add(id, commit),
                        Request::Close(done) => return Err(End::Closed(Some(done))),
                    }
                }
            }
            Ok(Request::Close(done)) => return Err(End::Closed(Some(done))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(End::Closed(None)),
        }
        Ok(())
    }

    fn answer(&mut self, question: Question) {
        let ends = match self.brokers.ends(&question.partitions) {
            Ok(ends) => ends,
            Err(_) => {
                self.brokers.client.context().disturb(Some("no answer about the ends of partitions".into()));
                Vec::new()
            }
        };
        let known = question.partitions.iter().zip(ends).filter_map(|(id, end)| Some((*id, end?))).collect();
        let _ = self.notices.send(Notice::Ends(question, known));
        (self.waker)();
    }

    /// Serves librdkafka's events and the answers to commits. Tells what has happened.
    fn serve_events(&mut self) -> Events {
        for _ in 0..4 {
            // One call serves what there is. It returns early for an error, which comes through the context as well; nothing else
            // is returned here, since records have their own queue.
            if self.brokers.client.poll(Duration::from_millis(1)).is_none() {
                break;
            }
        }
        while let Some(answer) = self.commit_queue.answer() {
            self.commit_ended(answer);
        }
        self.brokers.client.context().take_events()
    }

    fn commit_ended(&mut self, outcome: Result<(), String>) {
        self.commits.sent(outcome.is_ok());
        if let Err(reason) = outcome
            && let Some(more) = self.brokers.client.context().may_log("commit")
        {
            tracing::warn!(
                target: "kafka",
                kept_back = more,
                "{}: offsets could not be committed to group {:?} and will be tried again: {reason}",
                self.brokers.servers, self.brokers.group
            );
        }
    }

    /// Asks whether anybody answers.
    fn probe(&mut self, trouble: Option<String>) -> bool {
        match self.brokers.topic_state_within(0, PROBE_PAUSE) {
            Err(NoAnswer::Later(reason)) => {
                self.brokers.client.context().disturb(None);
                self.reach.failed(trouble.as_deref().unwrap_or(&reason));
                false
            }
            _ => {
                self.reach.answered();
                true
            }
        }
    }

    /// Looks for partitions that were added. They are read from their beginning, because nothing in them was seen before.
    fn refresh(&mut self) -> ProcessorResult<()> {
        for topic in 0..self.brokers.topics.len() {
            let name = &self.brokers.topics[topic];
            let count = match self.brokers.topic_state(topic) {
                Ok(TopicState::Partitions(count)) => count,
                Ok(TopicState::Missing) => {
                    tracing::warn!(target: "kafka", "topic {name:?} is gone from {}", self.brokers.servers);
                    continue;
                }
                Err(NoAnswer::Later(reason)) => {
                    tracing::debug!(target: "kafka", "no answer about topic {name:?}: {reason}");
                    continue;
                }
                Err(NoAnswer::Never(error)) => {
                    tracing::warn!(target: "kafka", "{error}");
                    continue;
                }
            };
            self.open_added(topic, count)?;
        }
        Ok(())
    }

    fn open_added(&mut self, topic: usize, count: i32) -> ProcessorResult<()> {
        let added: Vec<PartitionId> = (self.known[topic]..count)
            .map(|partition| PartitionId { topic, partition })
            .filter(|id| self.is_mine(*id))
            .collect();
        // What cannot be learnt now is learnt at the next refresh.
        let Ok(available) = self.brokers.available(&added) else { return Ok(()) };
        let openings = added
            .into_iter()
            .zip(available)
            .map(|(id, available)| Opening { id, begin: available.low, closed_before: EventTime::MIN, gone_on: None })
            .collect::<Vec<_>>();
        if !openings.is_empty() {
            self.open(openings, EventTime::MIN)?;
        }
        self.known[topic] = self.known[topic].max(count);
        Ok(())
    }

    fn send_commits(&mut self) {
        let waiting = self.commits.send();
        if waiting.is_empty() {
            return;
        }
        let positions = waiting.iter().map(|(id, commit)| (*id, rdkafka::Offset::Offset(commit.offset.0)));
        let sent = self.brokers.list(positions).map_err(|error| error_text(&error)).and_then(|list| {
            for (id, commit) in waiting {
                let metadata = commit_metadata::format(commit.meaning);
                if let Some(mut element) = list.find_partition(&self.brokers.topics[id.topic], id.partition)
                    && !metadata.is_empty()
                {
                    element.set_metadata(metadata);
                }
            }
            self.commit_queue.send(&list)
        });
        if let Err(reason) = sent {
            self.commit_ended(Err(reason));
        }
    }

    /// Commits what waits, for a few seconds at most.
    fn last_commit(&mut self) -> ProcessorResult<()> {
        let until = Instant::now() + LAST_COMMIT;
        // What the worker asked for before the end.
        while let Ok(request) = self.requests.try_recv() {
            if let Request::Commit(id, commit) = request {
                self.commits.add(id, commit);
            }
        }
        while !self.commits.is_done() {
            if Instant::now() >= until {
                return Err(ProcessorError::Kafka(format!(
                    "{}: the last offsets could not be committed to group {:?} within {} s; the next run reads again from the \
                     commit before",
                    self.brokers.servers,
                    self.brokers.group,
                    LAST_COMMIT.as_secs()
                )));
            }
            self.send_commits();
            self.serve_events();
        }
        Ok(())
    }
}

fn out_of_range(wanted: Offset, available: Available) -> String {
    let Available { low, high } = available;
    let why = match wanted < low {
        true => "retention has deleted the records between",
        false => "the topic was made anew, or has lost records",
    };
    format!("the checkpoint goes on at offset {wanted}, and the partition has {low} to {high}: {why}")
}
