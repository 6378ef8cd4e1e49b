//! The Kafka reader going on from the cuts of a checkpoint.

use crate::reader::{PATIENCE, Recorder, Setup, assert_numbered, numbered, pump};
use kafka_broker::{Broker, fresh};
use llm_optimizer_processor::ProcessorError;
use llm_optimizer_processor::checkpoint::PartitionCut;
use llm_optimizer_processor::config::OffsetReset;
use llm_optimizer_processor::event::{Offset, PartitionName};
use llm_optimizer_processor::source::{Losses, Resume, Settled, Source};
use llm_optimizer_processor::time::EventTime;
use llm_optimizer_processor::time::disorder::Disorder;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn cut(topic: &str, partition: i32, next: i64) -> PartitionCut {
    PartitionCut {
        name: PartitionName { topic: topic.into(), partition },
        next: Offset(next),
        max_seen: EventTime::MIN,
        idle: false,
        returned: false,
        closed: false,
        records: 0,
        disorder: Disorder::default(),
    }
}

fn from(setup: Setup, cuts: impl IntoIterator<Item = PartitionCut>, accept_loss: bool) -> Setup {
    Setup { resume: Arc::new(Resume::from_cuts(cuts, accept_loss, Losses::default())), ..setup }
}

/// The error with which reading ends.
fn refusal(setup: &Setup) -> String {
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    let until = Instant::now() + PATIENCE;
    let error = loop {
        match source.poll_into(&mut recorder, 1_000) {
            Ok(_) => assert!(Instant::now() < until, "nobody refuses"),
            Err(error) => break error,
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(recorder.opened.is_empty() && recorder.count == 0, "nothing is read");
    source.close().expect("there is nothing to commit");
    assert!(matches!(error, ProcessorError::Refused(_)), "{error}");
    error.to_string()
}

#[test]
fn cuts_come_before_the_groups_offsets_and_what_was_added_is_read_from_its_beginning() {
    let broker = Broker::shared();
    let topic = fresh("cuts");
    broker.create_topic(&topic, 2, &[]);
    for partition in 0..2 {
        broker.produce(&topic, "none", numbered(partition, 0..100));
    }
    let mut setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 200);
    source.settled(&[Settled {
        slot: recorder.slot(&topic, 0),
        offset: Offset(90),
        closed_before: EventTime::from_millis(60_000),
    }]);
    source.close().expect("the broker is there");
    broker.add_partitions(&topic, 3);
    broker.produce(&topic, "none", numbered(2, 0..50));

    setup.consumer.auto_offset_reset = OffsetReset::Latest;
    let setup = from(setup, [cut(&topic, 0, 30), cut(&topic, 1, 100)], false);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the rest", |seen| seen.count >= 120);
    let next = |seen: &Recorder| [0, 1, 2].map(|partition| seen.next[&seen.slot(&topic, partition).0]);
    pump(&mut source, &mut recorder, "to be told of the ends", |seen| next(seen) == [100, 100, 50]);
    assert_eq!(recorder.count, 120);
    assert_eq!(recorder.seen[&(topic.clone(), 0)][0].0, 30);
    assert!(!recorder.seen.contains_key(&(topic.clone(), 1)));
    assert_numbered(&recorder, &topic, 2, 50);
    assert!(recorder.opened.iter().all(|(_, closed_before)| *closed_before == EventTime::MIN));
    source.close().expect("nothing is to be committed");
}

#[test]
fn a_published_cut_is_committed_and_no_run_without_its_checkpoint_begins_there() {
    let broker = Broker::shared();
    let topic = fresh("lag");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, "none", numbered(0, 0..100));
    let setup = Setup::new(broker, &[&topic], &topic);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the records", |seen| seen.count >= 100);
    source.checkpointed(&[cut(&topic, 0, 80), cut("another", 0, 3)]);
    source.close().expect("the broker is there");
    assert_eq!(broker.committed(&topic, &topic, 0), Some((80, "v1 checkpoint".to_owned())));

    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "all records again", |seen| seen.count >= 100);
    assert_numbered(&recorder, &topic, 0, 100);
    source.close().expect("nothing is to be committed");
}

#[test]
fn what_the_broker_does_not_have_is_refused_with_the_range_that_it_has_unless_the_loss_is_accepted() {
    let broker = Broker::shared();
    let topic = fresh("lost");
    broker.create_topic(&topic, 1, &[]);
    broker.produce(&topic, "none", numbered(0, 0..100));
    broker.delete_records(&topic, 0, 60);
    let of = |next, accept_loss| from(Setup::new(broker, &[&topic], &topic), [cut(&topic, 0, next)], accept_loss);
    let text = refusal(&of(20, false));
    assert!(
        text.contains(&format!("{topic}[0]: the checkpoint goes on at offset 20, and the partition has 60 to 100")),
        "{text}"
    );
    assert!(text.contains("--accept-loss"), "{text}");
    assert!(refusal(&of(101, false)).contains("goes on at offset 101, and the partition has 60 to 100"));

    let setup = of(20, true);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "what is left", |seen| seen.count >= 40);
    assert_eq!(recorder.seen[&(topic.clone(), 0)][0].0, 60);
    assert_eq!((setup.resume.losses.partitions(), setup.resume.losses.records()), (1, 40));
    source.close().expect("nothing is to be committed");

    let setup = of(101, true);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the start", |seen| seen.ready);
    broker.produce(&topic, "none", numbered(0, 100..101));
    pump(&mut source, &mut recorder, "the next record", |seen| seen.count >= 1);
    assert_eq!(recorder.seen[&(topic.clone(), 0)][0].0, 100);
    source.close().expect("nothing is to be committed");
}

#[test]
fn a_partition_or_topic_that_is_gone_is_refused_by_name() {
    let broker = Broker::shared();
    let topic = fresh("narrower");
    broker.create_topic(&topic, 1, &[]);
    let of = |gone, accept_loss| from(Setup::new(broker, &[&topic], &topic), [cut(&topic, 0, 0), gone], accept_loss);
    let text = refusal(&of(cut(&topic, 1, 7), false));
    assert!(
        text.contains(&format!("{topic}[1]: it is not there any more; the checkpoint goes on at offset 7")),
        "{text}"
    );
    assert!(refusal(&of(cut("left-out", 0, 7), false)).contains("left-out[0]: it is not there any more"));
    let setup = of(cut("left-out", 0, 7), true);
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    pump(&mut source, &mut recorder, "the start", |seen| seen.ready);
    assert_eq!((recorder.opened.len(), setup.resume.losses.partitions()), (1, 1));
    source.close().expect("nothing is to be committed");
}

/// Three partitions were idle at the cut: into one something came since then.
#[test]
fn what_was_idle_is_idle_still_where_a_broker_says_that_nothing_has_come() {
    let broker = Broker::shared();
    let topic = fresh("silent");
    broker.create_topic(&topic, 3, &[]);
    for partition in 0..3 {
        broker.produce(&topic, "none", numbered(partition, 0..10));
    }
    broker.produce(&topic, "none", numbered(1, 10..11));
    let cuts = (0..3).map(|partition| PartitionCut { idle: partition < 2, ..cut(&topic, partition, 10) });
    let timeout = Duration::from_secs(3);
    let setup = Setup { idle_timeout: Some(timeout), ..from(Setup::new(broker, &[&topic], &topic), cuts, false) };
    let (mut source, mut recorder) = (setup.source(), Recorder::default());
    let since = Instant::now();
    pump(&mut source, &mut recorder, "the record", |seen| seen.count >= 1);
    let told = |recorder: &Recorder, partition| recorder.idle[&recorder.slot(&topic, partition).0].clone();
    assert_eq!(told(&recorder, 0), [true], "at once, by the broker's word at the start");
    assert_eq!(told(&recorder, 1), [false]);
    assert_eq!(told(&recorder, 2), [false], "it was not silent for long enough before");
    assert!(since.elapsed() < timeout);
    pump(&mut source, &mut recorder, "all to be idle", |seen| {
        (0..3).all(|partition| seen.is_idle(seen.slot(&topic, partition)))
    });
    assert_eq!(told(&recorder, 0), [true], "the fetch that found the same end has changed nothing");
    assert!(since.elapsed() >= timeout);
    source.close().expect("nothing is to be committed");
}
