//! The Kafka reader against a real broker.

use crate::reader::{PATIENCE, Recorder, Setup, assert_numbered, numbered, pump, pump_for};
use kafka_broker::{Broker, TestRecord, fresh};
use llm_optimizer_processor::ProcessorError;
use llm_optimizer_processor::config::OffsetReset;
use llm_optimizer_processor::event::Offset;
use llm_optimizer_processor::source::{Polled, Settled, Source};
use llm_optimizer_processor::time::EventTime;
use std::time::{Duration, Instant};

#[test]
fn every_record_of_every_codec_comes_once_and_in_order() {
    let broker = Broker::shared();
    let topic = fresh("codecs");
    broker.create_topic(&topic, 4, &[]);
    for (place, codec) in (0u32..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        for partition in 0..4 {
            broker.produce(&topic, codec, numbered(partition, place * 5_000..(place + 1) * 5_000));
        }
    }
    let mut shares = Vec::new();
    for worker in 0..2 {
        let setup = Setup { worker, workers: 2, ..Setup::new(broker, &[&topic], &topic) };
        let (mut source, mut recorder) = (setup.source(), Recorder::default());
        pump(&mut source, &mut recorder, "half of the records", |seen| seen.count >= 50_000);
        pump_for(&mut source, &mut recorder, Duration::from_millis(1_200));
        for partition in [worker as i32, worker as i32 + 2] {
            assert_numbered(&recorder, &topic, partition, 25_000);
            assert_eq!(setup.heard.lag.lock().unwrap()[&(topic.clone(), partition)], 0);
        }
        source.close().expect("nothing is to be committed");
        shares.push(recorder.seen.keys().map(|(_, partition)| *partition).collect::<Vec<_>>());
    }
    assert_eq!(shares, [[0, 2], [1, 3]]);
}

#[test]
fn a_broker_that_dies_during_the_run_costs_no_record_and_repeats_none() {
    let broker = Broker::start();
    broker.create_topic("t", 2, &[]);
    for partition in 0..2 {
        broker.produce("t", "none", numbered(partition, 0..30_000));
    }
    // A small buffer, so that most is still on the broker when it dies.
    let setup = Setup { buffer_size: 500, ..Setup::new(&broker, &["t"], "g") };
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the first records", |seen| seen.count >= 2_000);
    broker.kill();
    pump_for(&mut source, &mut recorder, Duration::from_secs(3));
    assert!(recorder.count < 60_000, "everything was read ahead: the test shows nothing");
    assert!(setup.heard.states.lock().unwrap().last().is_some_and(|(up, _)| !up), "{:?}", setup.heard.states);
    broker.restart();
    for partition in 0..2 {
        broker.produce("t", "lz4", numbered(partition, 30_000..35_000));
    }
    pump(&mut source, &mut recorder, "the rest", |seen| seen.count >= 70_000);
    pump_for(&mut source, &mut recorder, Duration::from_millis(1_500));
    for partition in 0..2 {
        assert_numbered(&recorder, "t", partition, 35_000);
    }
    let ups: Vec<bool> = setup.heard.states.lock().unwrap().iter().map(|(up, _)| *up).collect();
    assert_eq!(ups.last(), Some(&true), "{ups:?}");
    source.close().expect("the broker is there");
}

#[test]
fn a_broker_that_is_down_at_the_start_is_waited_for() {
    let broker = Broker::start();
    broker.create_topic("t", 1, &[]);
    broker.produce("t", "none", numbered(0, 0..10));
    broker.stop();
    let setup = Setup::new(&broker, &["t"], "g");
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    let before = Instant::now();
    assert!(matches!(source.poll_into(&mut recorder, 10), Ok(Polled::Nothing(_))));
    assert!(before.elapsed() < Duration::from_millis(100), "a poll never waits");
    pump_for(&mut source, &mut recorder, Duration::from_secs(6));
    assert!(recorder.opened.is_empty());
    {
        let states = setup.heard.states.lock().unwrap();
        let (up, detail) = states.last().expect("it was told");
        assert!(!up && detail.contains(broker.servers()) && detail.contains("refused"), "{states:?}");
    }
    broker.restart();
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 10);
    assert_numbered(&recorder, "t", 0, 10);
    source.close().expect("the broker is there");
}

#[test]
fn a_missing_topic_is_an_error_that_says_what_to_do() {
    let broker = Broker::shared();
    let setup = Setup::new(broker, &["no-such-topic"], "g-missing");
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    let until = Instant::now() + PATIENCE;
    let error = loop {
        assert!(Instant::now() < until, "no error came");
        match source.poll_into(&mut recorder, 10) {
            Ok(_) => std::thread::park_timeout(Duration::from_millis(50)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ProcessorError::Kafka(_)), "{error:?}");
    let text = error.to_string();
    for part in ["\"no-such-topic\" does not exist", broker.servers(), "kafka-topics.sh", "wait_for_topics"] {
        assert!(text.contains(part), "{text}");
    }
    source.close().expect("there is nothing to commit");
}

#[test]
fn a_missing_topic_is_waited_for_where_that_is_asked_for() {
    let broker = Broker::shared();
    let topic = fresh("awaited");
    let mut setup = Setup::new(broker, &[&topic], &topic);
    setup.consumer.wait_for_topics = true;
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump_for(&mut source, &mut recorder, Duration::from_secs(2));
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, "none", numbered(0, 0..10));
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 10);
    assert_numbered(&recorder, &topic, 0, 10);
    source.close().expect("nothing is to be committed");
}

#[test]
fn a_partition_that_is_added_is_read_from_its_beginning() {
    let broker = Broker::shared();
    let topic = fresh("grows");
    broker.create_topic(&topic, 1, &[]);
    let mut setup = Setup::new(broker, &[&topic], &topic).property("topic.metadata.refresh.interval.ms", "2000");
    setup.consumer.auto_offset_reset = OffsetReset::Latest;
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the first partition", |seen| seen.opened.len() == 1);
    broker.add_partitions(&topic, 3);
    broker.produce(&topic, "none", numbered(1, 0..100).chain(numbered(2, 0..100)));
    pump(&mut source, &mut recorder, "the added partitions", |seen| seen.count >= 200);
    for partition in 1..3 {
        assert_numbered(&recorder, &topic, partition, 100);
    }
    source.close().expect("nothing is to be committed");
}

#[test]
fn what_is_settled_is_where_the_next_run_begins() {
    let broker = Broker::shared();
    let topic = fresh("settled");
    broker.create_topic(&topic, 2, &[]);
    for partition in 0..2 {
        broker.produce(&topic, "none", numbered(partition, 0..100));
    }
    let setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 200);
    assert!(recorder.opened.iter().all(|(_, closed_before)| *closed_before == EventTime::MIN));
    let settled = |partition, offset, closed_before| Settled {
        slot: recorder.slot(&topic, partition),
        offset: Offset(offset),
        closed_before: EventTime::from_millis(closed_before),
    };
    source.settled(&[settled(0, 40, 60_000)]);
    source.settled(&[settled(0, 70, 120_000)]);
    source.close().expect("the broker is there");
    assert_eq!(broker.committed(&topic, &topic, 0), Some((70, "v1 closed_before=120000".to_owned())));
    assert_eq!(broker.committed(&topic, &topic, 1), None);

    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records again", |seen| seen.count >= 130);
    pump_for(&mut source, &mut recorder, Duration::from_millis(300));
    let first = |partition| recorder.seen[&(topic.clone(), partition)][0].0;
    assert_eq!((first(0), first(1), recorder.count), (70, 0, 130));
    assert_eq!(recorder.opened.len(), 2);
    assert!(recorder.opened.iter().all(|(_, closed_before)| *closed_before == EventTime::from_millis(120_000)));
    source.close().expect("nothing is to be committed");
}

#[test]
fn commits_are_made_while_running_and_not_at_all_where_they_are_switched_off() {
    let broker = Broker::shared();
    let topic = fresh("commits");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, "none", numbered(0, 0..100));
    for (group, commits) in [(fresh("off"), false), (fresh("on"), true)] {
        let mut setup = Setup::new(broker, &[&topic], &group);
        setup.consumer.enable_auto_commit = commits;
        let (mut source, mut recorder) = (setup.source(), Recorder::default());
        pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 100);
        let slot = recorder.slot(&topic, 0);
        source.settled(&[Settled { slot, offset: Offset(50), closed_before: EventTime::MIN }]);
        pump_for(&mut source, &mut recorder, Duration::from_secs(3));
        let expected = commits.then(|| (50, String::new()));
        assert_eq!(broker.committed(&group, &topic, 0), expected);
        source.close().expect("the broker is there");
        assert_eq!(broker.committed(&group, &topic, 0), expected);
    }
}

#[test]
fn a_committed_offset_that_is_gone_is_replaced_as_configured() {
    let broker = Broker::shared();
    let topic = fresh("retention");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, "none", numbered(0, 0..100));
    let setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 100);
    let slot = recorder.slot(&topic, 0);
    source.settled(&[Settled { slot, offset: Offset(10), closed_before: EventTime::MIN }]);
    source.close().expect("the broker is there");
    broker.delete_records(&topic, 0, 60);

    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "what is left", |seen| seen.count >= 40);
    assert_eq!(recorder.seen[&(topic.clone(), 0)][0].0, 60);
    source.close().expect("nothing is to be committed");
}

#[test]
fn tombstones_keys_and_headers_come_through() {
    let broker = Broker::shared();
    let topic = fresh("origins");
    broker.create_topic(&topic, 1, &[]);
    let headers = vec![
        ("trace".to_owned(), Some(b"abc".to_vec())),
        ("trace".to_owned(), Some(vec![0, 255])),
        ("empty".to_owned(), Some(Vec::new())),
        ("none".to_owned(), None),
    ];
    let full = TestRecord { key: Some(b"k".to_vec()), headers: headers.clone(), ..TestRecord::to(0, "v") };
    let empty = TestRecord::to(0, "");
    let tombstone = TestRecord { partition: Some(0), key: Some(b"k".to_vec()), ..TestRecord::default() };
    broker.produce(&topic, "none", [full, tombstone, empty]);
    let setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder { keep_origins: true, ..Recorder::default() });
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 3);
    let values: Vec<Option<Vec<u8>>> =
        recorder.seen[&(topic.clone(), 0)].iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(values, [Some(b"v".to_vec()), None, Some(Vec::new())]);
    assert_eq!(recorder.origins, [(Some(b"k".to_vec()), headers.clone()), (None, Vec::new())]);
    source.close().expect("nothing is to be committed");
    // The harness reads the same.
    let read = broker.read_all(&topic);
    assert_eq!(read.len(), 3);
    assert_eq!((&read[0].key, &read[0].headers), (&Some(b"k".to_vec()), &headers));
    assert_eq!((read[1].partition, read[1].offset, &read[1].value), (0, 1, &None));
    assert!(read[2].timestamp.is_some());
}

#[test]
fn a_partition_is_idle_on_evidence_and_not_when_the_broker_stalls() {
    let broker = Broker::start();
    broker.create_topic("t", 2, &[]);
    broker.produce("t", "none", numbered(0, 0..10));
    let timeout = Duration::from_millis(700);
    let setup = Setup { idle_timeout: Some(timeout), ..Setup::new(&broker, &["t"], "g") };
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 10);
    let (full, empty) = (recorder.slot("t", 0), recorder.slot("t", 1));
    let since = Instant::now();
    pump(&mut source, &mut recorder, "both partitions to be idle", |seen| seen.is_idle(full) && seen.is_idle(empty));
    assert!(since.elapsed() >= timeout - Duration::from_millis(100), "too early: {:?}", since.elapsed());
    // The lease is renewed.
    pump_for(&mut source, &mut recorder, Duration::from_secs(4));
    assert_eq!((&recorder.idle[&full.0], &recorder.idle[&empty.0]), (&vec![true], &vec![true]));
    // A broker that does not answer proves nothing.
    broker.pause();
    pump(&mut source, &mut recorder, "neither to be idle", |seen| !seen.is_idle(full) && !seen.is_idle(empty));
    pump_for(&mut source, &mut recorder, Duration::from_secs(3));
    assert!(!recorder.is_idle(full) && !recorder.is_idle(empty));
    broker.resume();
    pump(&mut source, &mut recorder, "both to be idle again", |seen| seen.is_idle(full) && seen.is_idle(empty));
    // A record wakes a partition; after it the silence is counted anew.
    broker.produce("t", "none", numbered(0, 10..11));
    pump(&mut source, &mut recorder, "the record", |seen| seen.count >= 11);
    assert!(!recorder.is_idle(full));
    let told = recorder.idle[&full.0].len();
    pump(&mut source, &mut recorder, "idle once more", |seen| seen.idle[&full.0].len() > told);
    assert!(recorder.is_idle(full));
    source.close().expect("the broker is there");
}

#[test]
fn a_worker_without_a_partition_is_ready_and_waits() {
    let broker = Broker::shared();
    let topic = fresh("narrow");
    broker.create_topic(&topic, 1, &[]);
    let setup = Setup { worker: 1, workers: 2, ..Setup::new(broker, &[&topic], &topic) }
        .property("topic.metadata.refresh.interval.ms", "1000");
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    assert!(!recorder.ready);
    pump(&mut source, &mut recorder, "the start", |seen| seen.ready);
    assert!(recorder.opened.is_empty());
    // The next partition falls to this worker.
    broker.add_partitions(&topic, 2);
    broker.produce(&topic, "none", numbered(1, 0..10));
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 10);
    assert_numbered(&recorder, &topic, 1, 10);
    source.close().expect("nothing is to be committed");
}

#[test]
fn a_record_wakes_a_sleeping_worker() {
    let broker = Broker::shared();
    let topic = fresh("wakes");
    broker.create_topic(&topic, 1, &[]);
    let setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the partition", |seen| !seen.opened.is_empty());
    pump_for(&mut source, &mut recorder, Duration::from_secs(1));
    let sent = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            broker.produce(&topic, "none", numbered(0, 0..1));
            Instant::now()
        });
        // It sleeps far longer than it takes the record to come.
        while recorder.count == 0 {
            std::thread::park_timeout(Duration::from_secs(20));
            source.poll_into(&mut recorder, 10).expect("reading goes on");
        }
        let read = Instant::now();
        (producer.join().expect("the record is acknowledged"), read)
    });
    assert!(sent.1.saturating_duration_since(sent.0) < Duration::from_secs(2), "nobody woke it");
    source.close().expect("nothing is to be committed");
}
