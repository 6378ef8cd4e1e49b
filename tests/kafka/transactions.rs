//! Results in transactions against a real broker: what a reader of committed records sees.

use kafka_broker::{Broker, TestRecord, fresh};
use llm_optimizer_processor::GroupingKey;
use llm_optimizer_processor::checkpoint::protocol::OutboxFingerprint;
use llm_optimizer_processor::config::{Delivery, ProducerConfig};
use llm_optimizer_processor::error::{ExitCode, ProcessorError, ProcessorResult};
use llm_optimizer_processor::runtime::Control;
use llm_optimizer_processor::sink::{
    Firing, Generation, NoObserver, Prepared, ProcessIdentity, ResultOp, ResultRow, ResultSink, ResultValue, Shard,
    SinkContext, SinkRecovery, SinkSpec, TimeWindow, encode_record_key, encode_result,
};
use llm_optimizer_processor::time::{Epoch, EventTime};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// More than two chunks.
const MANY: u64 = 12_000;

/// One job on a broker: a topic of its own, and the sinks of its runs.
struct Job<'a> {
    broker: &'a Broker,
    name: String,
    topic: String,
    properties: BTreeMap<String, String>,
}

/// A sink that is open, and its context.
struct Running {
    sink: Box<dyn ResultSink>,
    context: SinkContext,
}

impl<'a> Job<'a> {
    fn new(broker: &'a Broker) -> Self {
        let name = fresh("exactly");
        let topic = format!("{name}-results");
        broker.create_topic(&topic, 2, &[]);
        Job { broker, name, topic, properties: BTreeMap::new() }
    }

    fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    fn progress(&self) -> String {
        format!("{}-progress", self.name)
    }

    fn open(&self) -> ProcessorResult<Running> {
        self.open_as(ProcessIdentity::ALONE)
    }

    fn open_as(&self, process: ProcessIdentity) -> ProcessorResult<Running> {
        let config = ProducerConfig {
            bootstrap_servers: self.broker.servers().to_owned(),
            result_topic: self.topic.clone(),
            compression_type: "lz4".to_owned(),
            acks: "all".to_owned(),
            retries: None,
            properties: self.properties.clone(),
        };
        let mut sink = SinkSpec::Kafka(config).build_for(&self.name, process, Delivery::ExactlyOnce)?;
        let context = SinkContext::new("kafka", Arc::new(NoObserver), Control::new());
        sink.open(context.clone())?;
        Ok(Running { sink, context })
    }

    /// A sink that has recovered.
    fn start(&self, recovery: SinkRecovery) -> Running {
        let mut running = self.open().unwrap();
        running.sink.recover(recovery).unwrap();
        running
    }

    /// The counts in the results that a reader of committed records sees, in order of size.
    fn seen(&self) -> Vec<u64> {
        let count = |value: Vec<u8>| {
            let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
            value["results"]["count"].as_u64().unwrap()
        };
        let records = self.broker.read_all(&self.topic);
        let mut counts: Vec<u64> = records.into_iter().filter_map(|record| record.value).map(count).collect();
        counts.sort_unstable();
        counts
    }

    /// Epoch and chunk of each shard's last marker.
    fn markers(&self) -> BTreeMap<String, (Option<u64>, u64)> {
        let records = self.broker.read_all(&self.progress()).into_iter();
        records
            .map(|record| {
                let json =
                    |bytes: Option<Vec<u8>>| serde_json::from_slice::<serde_json::Value>(&bytes.unwrap()).unwrap();
                let (key, value) = (json(record.key), json(record.value));
                assert_eq!(key["job"], self.name);
                let shard = key["shard"].as_str().unwrap().to_owned();
                (shard, (value["epoch"].as_u64(), value["chunk"].as_u64().unwrap()))
            })
            .collect()
    }

    /// Writes a marker, as a run that is gone would have.
    fn mark(&self, shard: &str, epoch: u64, chunk: u64, outbox: &[Vec<u8>]) {
        let outbox = OutboxFingerprint::of(outbox).0;
        let key = format!(r#"{{"job":"{}","shard":"{shard}"}}"#, self.name);
        let value = format!(
            r#"{{"epoch":{epoch},"chunk":{chunk},"outbox":"{outbox:016x}","by":1,"generation":1,"run":"1","ready":true}}"#
        );
        let record = TestRecord { key: Some(key.into()), ..TestRecord::to(0, value) };
        self.broker.produce(&self.progress(), "none", [record]);
    }

    fn no_transaction_is_open(&self) {
        for (topic, partitions) in [(self.progress(), 1), (self.topic.clone(), 2)] {
            for partition in 0..partitions {
                let begun = Instant::now();
                // The broker answers a commit before its last markers are written.
                while self.broker.ends(&topic, partition).0 < self.broker.ends(&topic, partition).1 {
                    assert!(begun.elapsed() < Duration::from_secs(5), "{topic}[{partition}] has an open transaction");
                }
            }
        }
    }

    /// A producer with the transactional id of a shard.
    fn raw(&self, shard: &str) -> BaseProducer {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.servers())
            .set("transactional.id", format!("{}-{shard}", self.name))
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }
}

impl Running {
    fn write(&mut self, counts: impl IntoIterator<Item = u64>) {
        let rows: Vec<ResultRow> = counts.into_iter().map(row).collect();
        self.sink.write(&rows).unwrap();
    }

    /// An epoch with these results, up to the commit.
    fn deliver(&mut self, epoch: u64, counts: impl IntoIterator<Item = u64>) -> ProcessorResult<()> {
        self.write(counts);
        self.sink.prepare(Epoch::new(epoch))?;
        self.sink.commit(Epoch::new(epoch))
    }
}

fn recovery(generation: u64, restored: Option<u64>, outbox: &[Vec<u8>]) -> SinkRecovery {
    let prepared = Prepared { file: None, outbox: outbox.to_vec() };
    SinkRecovery {
        shard: Shard::default(),
        generation: Generation(generation),
        restored: restored.map(Epoch::new),
        prepared: vec![(Shard::default(), prepared)],
        taken_over: Vec::new(),
    }
}

fn row(count: u64) -> ResultRow {
    let at = |minute: i64| EventTime::from_millis(1_790_000_000_000 / 60_000 * 60_000 + minute * 60_000);
    ResultRow {
        window: TimeWindow { start: at(0), end: at(1) },
        window_name: None,
        key: GroupingKey::from_fields(&[("model", format!("model-{count}"))]),
        names: ["count"].map(Arc::from).into(),
        values: vec![ResultValue::Count(count)],
        revision: 0,
        op: ResultOp::Upsert,
        firing: Firing::OnTime,
        fired_at: at(2),
        complete: None,
        accumulators: None,
        view: None,
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn refusal(result: ProcessorResult<()>) -> String {
    match result {
        Err(error @ ProcessorError::Refused(_)) => {
            assert_eq!(error.exit_code(), ExitCode::Refused);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_are_seen_when_their_epoch_is_committed_and_not_before() {
    let job = Job::new(Broker::shared());
    let mut run = job.start(recovery(1, None, &[]));
    assert_eq!(job.broker.topic_config(&job.progress(), "cleanup.policy").as_deref(), Some("compact"));
    assert_eq!(job.markers(), [("0-0".to_owned(), (None, 0))].into());
    run.write(0..MANY);
    run.sink.flush().unwrap();
    let outbox = run.sink.prepare(Epoch::new(0)).unwrap().outbox;
    assert_eq!(outbox.len(), 3);
    assert_eq!(job.seen(), [0u64; 0]);
    run.sink.commit(Epoch::new(0)).unwrap();
    assert_eq!(job.seen(), (0..MANY).collect::<Vec<_>>());
    assert_eq!(job.markers(), [("0-0".to_owned(), (Some(0), 3))].into());
    run.deliver(1, []).unwrap();
    assert_eq!(job.markers(), [("0-0".to_owned(), (Some(1), 1))].into(), "an epoch without results is marked");

    let mut retracted = row(7);
    retracted.op = ResultOp::Retract;
    run.sink.write(&[row(MANY), retracted.clone()]).unwrap();
    run.sink.prepare(Epoch::new(2)).unwrap();
    run.sink.commit(Epoch::new(2)).unwrap();
    let bytes = |encode: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        encode(&mut bytes);
        Some(bytes)
    };
    let records = job.broker.read_all(&job.topic);
    let header = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
    let upsert = records.iter().find(|record| record.value == bytes(&|out| encode_result(&row(MANY), out))).unwrap();
    assert_eq!(upsert.key, bytes(&|out| encode_record_key(&row(MANY), out)));
    assert_eq!(upsert.headers, [header("schema-version", "1"), header("job", &job.name)]);
    let tombstone = records.iter().find(|record| record.value.is_none()).unwrap();
    assert_eq!(tombstone.key, bytes(&|out| encode_record_key(&retracted, out)));
    job.no_transaction_is_open();
}

#[test]
fn a_restart_delivers_exactly_what_has_no_marker() {
    let job = Job::new(Broker::shared());
    let outbox = {
        let mut run = job.start(recovery(1, None, &[]));
        run.write(0..MANY);
        run.sink.prepare(Epoch::new(4)).unwrap().outbox
    };
    job.mark("0-0", 4, 1, &outbox);
    let mut run = job.start(recovery(2, Some(4), &outbox));
    assert_eq!(job.seen(), (5_000..MANY).collect::<Vec<_>>());
    assert_eq!(job.markers(), [("0-0".to_owned(), (Some(4), 3))].into());
    drop(job.start(recovery(3, Some(4), &outbox)));
    assert_eq!(job.seen(), (5_000..MANY).collect::<Vec<_>>(), "all of it has markers");
    refusal(run.deliver(5, [1]));
    job.no_transaction_is_open();
}

#[test]
fn a_start_behind_what_was_delivered_is_refused_and_leaves_the_running_one_alone() {
    let job = Job::new(Broker::shared());
    let mut healthy = job.start(recovery(1, None, &[]));
    healthy.deliver(5, [1]).unwrap();
    for (restored, part) in [(Some(4), "the restored checkpoint is that of epoch 4"), (None, "there is no checkpoint")]
    {
        let refused = refusal(job.open().unwrap().sink.recover(recovery(2, restored, &[])));
        assert!(refused.contains("shard 0-0 has delivered results of epoch 5") && refused.contains(part), "{refused}");
        assert!(refused.contains("Start from the checkpoint of epoch 5"), "{refused}");
    }
    healthy.deliver(6, [2]).unwrap();
    let lagging = refusal(job.open().unwrap().sink.recover(recovery(0, Some(6), &[])));
    assert!(lagging.contains("a later start of the job (number 1)"), "{lagging}");
    healthy.deliver(7, [3]).unwrap();
    assert_eq!(job.seen(), [1, 2, 3]);
}

#[test]
fn of_two_runs_the_later_one_wins_and_nothing_of_the_other_is_seen() {
    let job = Job::new(Broker::shared());
    let mut zombie = job.start(recovery(1, None, &[]));
    zombie.write([1]);
    let outbox = zombie.sink.prepare(Epoch::new(0)).unwrap().outbox;
    zombie.sink.commit(Epoch::new(0)).unwrap();
    zombie.write(100..110);
    zombie.sink.prepare(Epoch::new(1)).unwrap();
    let other = refusal(job.open().unwrap().sink.recover(recovery(2, Some(0), &[])));
    assert!(other.contains("delivered results of epoch 0 from a checkpoint that is none of those before"), "{other}");
    zombie.sink.prepare(Epoch::new(1)).unwrap();
    let mut run = job.start(recovery(2, Some(0), &outbox));
    let reason = refusal(zombie.sink.commit(Epoch::new(1)));
    assert!(reason.contains("another run of the job (start 2) has taken over shard 0-0"), "{reason}");
    refusal(zombie.sink.commit(Epoch::new(1)));
    run.deliver(1, [2]).unwrap();
    assert_eq!(job.seen(), [1, 2]);
    job.no_transaction_is_open();
}

#[test]
fn of_two_runs_with_one_number_one_wins() {
    let job = Job::new(Broker::shared());
    let (mut first, mut second) = (job.start(recovery(1, None, &[])), job.start(recovery(1, None, &[])));
    refusal(first.deliver(0, [100]));
    // It has fenced the other before it knew. The other finds that it is the owner.
    second.deliver(0, [1]).unwrap();
    refusal(first.deliver(0, [101]));
    second.deliver(1, [2]).unwrap();
    assert_eq!(job.seen(), [1, 2]);
}

#[test]
fn a_producer_that_lost_its_id_to_nobody_goes_on() {
    let job = Job::new(Broker::shared());
    let mut run = job.start(recovery(1, None, &[]));
    run.deliver(0, [1]).unwrap();
    // What the broker does to a transaction that takes too long looks the same: another epoch of the id.
    drop(job.raw("0-0"));
    run.deliver(1, 2..4).unwrap();
    run.deliver(2, [4]).unwrap();
    assert_eq!(job.seen(), [1, 2, 3, 4]);
    assert_eq!(job.markers(), [("0-0".to_owned(), (Some(2), 1))].into());
}

#[test]
fn what_a_dead_run_left_open_is_aborted() {
    let job = Job::new(Broker::shared());
    drop(job.start(recovery(1, None, &[])));
    let dead = job.raw("0-0");
    dead.begin_transaction().unwrap();
    dead.send(BaseRecord::<[u8], [u8]>::to(&job.topic).payload(&b"never"[..])).unwrap();
    dead.flush(PATIENCE).unwrap();
    std::mem::forget(dead);
    let begun = Instant::now();
    let mut run = job.start(recovery(2, None, &[]));
    assert!(begun.elapsed() < Duration::from_secs(20), "nobody waits for its time-out: {:?}", begun.elapsed());
    run.deliver(0, [1]).unwrap();
    assert_eq!(job.seen(), [1]);
    job.no_transaction_is_open();
}

#[test]
fn a_start_waits_for_open_transactions_of_others() {
    let job = Job::new(Broker::shared());
    drop(job.open().unwrap());
    let other = job.raw("other");
    other.begin_transaction().unwrap();
    let key = format!(r#"{{"job":"{}","shard":"9-9"}}"#, job.name);
    other.send(BaseRecord::<[u8], [u8]>::to(&job.progress()).key(key.as_bytes()).payload(&b"{}"[..])).unwrap();
    other.flush(PATIENCE).unwrap();
    let mut run = job.open().unwrap();
    let context = run.context.clone();
    std::thread::scope(|scope| {
        let recovering = scope.spawn(|| run.sink.recover(recovery(1, None, &[])));
        wait_until("it says that it waits", || {
            context.trouble().is_some_and(|trouble| trouble.reason.contains("another transaction is open"))
        });
        assert!(!recovering.is_finished());
        other.abort_transaction(PATIENCE).unwrap();
        recovering.join().unwrap().unwrap();
    });
    assert_eq!(context.trouble(), None);
}

#[test]
fn a_smaller_cluster_takes_over_what_a_larger_one_left() {
    let job = Job::new(Broker::shared());
    let gone = Shard { sink: 0, process: 1 };
    let mut zombie = job.start(SinkRecovery { shard: gone, ..recovery(1, None, &[]) });
    zombie.deliver(0, [1]).unwrap();
    zombie.write(10..20);
    let prepared = zombie.sink.prepare(Epoch::new(1)).unwrap();
    let mut next = recovery(2, Some(1), &[]);
    next.prepared.push((gone, prepared));
    next.taken_over.push(gone);
    let mut run = job.start(next);
    let expected: Vec<u64> = [1].into_iter().chain(10..20).collect();
    assert_eq!(job.seen(), expected);
    assert_eq!(job.markers(), [("0-0".to_owned(), (None, 0)), ("0-1".to_owned(), (Some(1), 1))].into());
    refusal(zombie.sink.commit(Epoch::new(1)));
    run.deliver(2, [100]).unwrap();
    assert_eq!(job.seen().len(), expected.len() + 1);
    job.no_transaction_is_open();
}

#[test]
fn processes_of_a_start_wait_for_each_other_and_a_later_start_alone_fences_both() {
    let job = Job::new(Broker::shared());
    let mut processes = [0, 1].map(|index| job.open_as(ProcessIdentity { index, count: 2 }).unwrap());
    let [first, second] = &mut processes;
    let of =
        |process| SinkRecovery { shard: Shard { sink: 0, process }, prepared: Vec::new(), ..recovery(1, None, &[]) };
    let context = first.context.clone();
    std::thread::scope(|scope| {
        let recovering = scope.spawn(|| first.sink.recover(of(0)));
        wait_until("it says that it waits", || {
            context.trouble().is_some_and(|trouble| trouble.reason.contains("not all 2 processes are ready"))
        });
        assert!(!recovering.is_finished());
        second.sink.recover(of(1)).unwrap();
        recovering.join().unwrap().unwrap();
    });
    // The other start died before its first checkpoint: no manifest knows its second process.
    let mut alone = job.start(recovery(2, None, &[]));
    refusal(first.deliver(0, [100]));
    refusal(second.deliver(0, [101]));
    alone.deliver(0, [1]).unwrap();
    assert_eq!(job.seen(), [1]);
    assert_eq!(job.markers(), [("0-0".to_owned(), (Some(0), 1)), ("0-1".to_owned(), (None, 0))].into());
}

#[test]
fn limits_of_the_broker_and_a_topic_that_forgets_are_named() {
    let job = Job::new(Broker::shared()).property("transaction.timeout.ms", "1000000");
    match job.open().map(|_| ()) {
        Err(ProcessorError::Config(reason)) => {
            assert!(reason.contains("transaction.timeout.ms: 1000000"), "{reason}");
            assert!(reason.contains("transaction.max.timeout.ms=900000"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    let job = Job::new(Broker::shared());
    job.broker.create_topic(&job.progress(), 1, &[("cleanup.policy", "delete")]);
    match job.open().map(|_| ()) {
        Err(ProcessorError::Config(reason)) => {
            assert!(reason.contains(&job.progress()) && reason.contains("cleanup.policy=delete"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_broker_refuses_is_an_error_and_the_commit_may_be_tried_again() {
    let job = Job::new(Broker::shared());
    job.broker.create_topic(&format!("{}-small", job.topic), 1, &[("max.message.bytes", "300")]);
    let small = Job { topic: format!("{}-small", job.topic), name: job.name.clone(), ..job };
    let mut run = small.start(recovery(1, None, &[]));
    let mut large = row(1);
    large.key = GroupingKey::from_fields(&[("model", (0..900).map(|n| format!("{n}x")).collect::<String>())]);
    run.sink.write(&[row(0), large]).unwrap();
    run.sink.prepare(Epoch::new(0)).unwrap();
    for _ in 0..2 {
        let error = run.sink.commit(Epoch::new(0)).unwrap_err();
        assert!(matches!(&error, ProcessorError::Kafka(reason) if reason.contains(&small.topic)), "{error}");
    }
    assert_eq!(small.broker.read_all(&small.topic).len(), 0);
    assert_eq!(small.markers(), [("0-0".to_owned(), (None, 0))].into());
}

/// The broker goes away while an epoch is delivered, in three ways, one of which outlasts the transaction's time-out.
#[test]
fn a_broker_that_goes_away_in_the_middle_of_commits_loses_and_doubles_nothing() {
    let broker = Broker::start();
    let job = Job::new(&broker).property("transaction.timeout.ms", "4000");
    let mut run = job.start(recovery(1, None, &[]));
    let mut total = 0;
    let rounds = if std::env::var_os("LONG_TESTS").is_some() { 30 } else { 3 };
    for round in 0..rounds {
        run.write(total..total + 4 * MANY);
        total += 4 * MANY;
        run.sink.prepare(Epoch::new(round)).unwrap();
        let context = run.context.clone();
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| run.sink.commit(Epoch::new(round)));
            std::thread::sleep(Duration::from_millis(60 + 40 * (round % 10)));
            match round % 3 {
                0 => {
                    broker.stop();
                    broker.restart();
                }
                1 => {
                    broker.kill();
                    broker.restart();
                }
                _ => {
                    broker.pause();
                    std::thread::sleep(Duration::from_secs(7));
                    broker.resume();
                }
            }
            let begun = Instant::now();
            while !committing.is_finished() {
                if begun.elapsed() >= PATIENCE {
                    let trouble = context.trouble();
                    context.control().fail(ProcessorError::Source("the test is over".into()));
                    panic!("round {round}: the commit has not ended: {:?}", trouble.map(|trouble| trouble.reason));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            committing.join().unwrap().unwrap();
        });
        let seen = job.seen();
        assert_eq!(seen.len() as u64, total, "round {round}");
        assert!(seen.into_iter().eq(0..total), "round {round}");
    }
    job.no_transaction_is_open();
}

/// Which partitions are without the end of the last transaction, when its run is continued.
const LOST_ENDS: [(&str, &[i32], bool); 4] = [
    ("all", &[0, 1], true),
    ("the marker's alone, and what it marks was seen", &[], true),
    ("the marker's and one of the results'", &[1], true),
    ("those of the results", &[0, 1], false),
];

/// A broker that has answered a commit may never write its end: see the documentation of the sink. The logs are cut here as such a
/// broker leaves them.
#[test]
fn a_transaction_that_the_broker_has_forgotten_to_end_is_ended_by_the_next_run() {
    let broker = Broker::start();
    let jobs = LOST_ENDS.map(|_| Job::new(&broker));
    let outboxes = jobs.each_ref().map(|job| {
        let mut run = job.start(recovery(1, None, &[]));
        run.deliver(0, 0..10).unwrap();
        run.write(10..30);
        let outbox = run.sink.prepare(Epoch::new(1)).unwrap().outbox;
        run.sink.commit(Epoch::new(1)).unwrap();
        job.no_transaction_is_open();
        outbox
    });
    broker.kill();
    for ((_, results, marker), job) in LOST_ENDS.iter().zip(&jobs) {
        results.iter().for_each(|&partition| broker.lose_end_of_transaction(&job.topic, partition));
        if *marker {
            broker.lose_end_of_transaction(&job.progress(), 0);
        }
    }
    broker.restart();
    for (((which, _, marker), job), outbox) in LOST_ENDS.iter().zip(&jobs).zip(outboxes) {
        let (stable, end) = broker.ends(&job.progress(), 0);
        assert_eq!(stable < end, *marker, "{which}: the broker is as it is to be");
        let mut next = job.start(recovery(2, Some(1), &outbox));
        next.deliver(2, 30..100).unwrap();
        assert!(job.seen().into_iter().eq(0..100), "{which}: {:?}", job.seen());
        assert_eq!(job.markers(), [("0-0".to_owned(), (Some(2), 1))].into(), "{which}");
        job.no_transaction_is_open();
    }
}

/// A run that is killed in the middle of a delivery, as far as a broker sees it: its connections break, and its successor begins
/// while the broker still has a transaction of it.
#[test]
fn a_run_that_ends_in_the_middle_of_a_delivery_is_continued() {
    let job = Job::new(Broker::shared());
    let mut outbox = Vec::new();
    let mut total = 0;
    for round in 0..5u64 {
        let mut run = job.start(recovery(round, round.checked_sub(1), &outbox));
        assert!(job.seen().into_iter().eq(0..total), "round {round}");
        run.write(total..total + 2 * MANY);
        total += 2 * MANY;
        outbox = run.sink.prepare(Epoch::new(round)).unwrap().outbox;
        let control = run.context.control().clone();
        std::thread::scope(|scope| {
            let committing = scope.spawn(|| run.sink.commit(Epoch::new(round)));
            std::thread::sleep(Duration::from_millis(20 + 30 * round));
            control.fail(ProcessorError::Source("elsewhere".into()));
            if let Err(error) = committing.join().unwrap() {
                assert!(error.to_string().contains("the run ended first"), "{error}");
            }
        });
    }
    drop(job.start(recovery(9, Some(4), &outbox)));
    assert!(job.seen().into_iter().eq(0..total));
    job.no_transaction_is_open();
}
