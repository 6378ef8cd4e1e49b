//! What a configuration says of Kafka, and what becomes of it: topics that are missing, properties that are passed on.

use crate::events::{closing, results_in, results_of_files, stretch};
use crate::program::{Program, Setup};
use kafka_broker::{Broker, fresh};

#[test]
fn a_missing_topic_ends_the_run_with_what_to_do() {
    let broker = Broker::shared();
    let present = fresh("present");
    broker.create_topic(&present, 1, &[]);
    let mut no_events = Program::run(&Setup::new(broker.servers(), "no-events", &present, "g"));
    let mut no_results = Program::run(&Setup::new(broker.servers(), &present, "no-results", "g"));
    let ended = no_events.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    for part in ["kafka: topic \"no-events\" does not exist", broker.servers(), "kafka-topics.sh", "wait_for_topics"] {
        assert!(ended.log.contains(part), "{part}:\n{}", ended.log);
    }
    let ended = no_results.wait();
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    let expected = format!("topic `no-results` does not exist on {}; create it", broker.servers());
    assert!(ended.log.contains(&expected), "{}", ended.log);
}

#[test]
fn a_missing_topic_is_waited_for_where_the_configuration_says_so() {
    let (broker, topic) = (Broker::shared(), fresh("awaited"));
    let results = format!("{topic}-results");
    broker.create_topic(&results, 1, &[]);
    let setup = Setup::new(broker.servers(), &topic, &results, &topic);
    let setup = Setup { consumer: "wait_for_topics: true".to_owned(), ..setup };
    let mut program = Program::run(&setup);
    program.wait_until("the log says so", |program| {
        program.log().contains(&format!("waiting for topic \"{topic}\", which {} does not have", broker.servers()))
    });
    broker.create_topic(&topic, 2, &[]);
    broker.produce(&topic, "none", stretch(2, 0..500).into_iter().chain(closing(2)));
    let expected = results_of_files(&setup, broker, 2);
    program.wait_until("all results", |program| program.metric("results_sent_total", &[]) >= expected.len() as f64);
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(results_in(broker, &results), expected);
}

#[test]
fn properties_are_passed_on_and_wrong_ones_are_refused_with_their_line() {
    let (broker, topic) = (Broker::shared(), fresh("properties"));
    broker.create_topic(&topic, 1, &[]);
    let results = format!("{topic}-results");
    broker.create_topic(&results, 1, &[]);
    // What librdkafka says of its requests shows that it has both: the wait is in the request for records.
    let setup = Setup::new(broker.servers(), &topic, &results, &topic);
    let passed = Setup { consumer: "properties: {fetch.wait.max.ms: 77, debug: fetch}".to_owned(), ..setup.clone() };
    let mut program = Program::start(&passed.yaml(), &["--log".to_owned(), "info,librdkafka=debug".to_owned()]);
    program.wait_until("librdkafka's log", |program| program.log().contains("Fetch topic"));
    assert_eq!(program.stop().code, Some(0));

    for (properties, reason) in [
        ("fetch.wait.max.ms: soon", "fetch.wait.max.ms"),
        ("fetch.wait.maximum: 5", "No such configuration property"),
        ("group.protocol: consumer", "a property that the program itself sets; leave it out here"),
    ] {
        let wrong = Setup { consumer: format!("properties: {{{properties}}}"), ..setup.clone() };
        let ended = Program::run(&wrong).wait();
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        let line = wrong.yaml().lines().position(|line| line.contains("consumer:")).expect("it is there") + 1;
        let place = format!("processor.yaml:{line}: kafka.consumer.properties.");
        assert!(ended.log.contains(&place) && ended.log.contains(reason), "{reason}:\n{}", ended.log);
    }
}
