//! Brokers that are not there, with the real program.

use crate::events::{closing, results_in, results_of_files, stretch};
use crate::program::{Program, Setup};
use kafka_broker::Broker;

/// Waits until `/health` says that the program cannot reach the broker and why, and that nothing else is wrong.
fn wait_for_trouble(program: &mut Program, broker: &Broker) {
    program.wait_until("the trouble shows", |program| {
        let (status, reasons) = program.health();
        status == "degraded"
            && reasons.contains("the source of worker 0 is waiting")
            && reasons.contains(broker.servers())
    });
}

fn wait_for_health(program: &mut Program) {
    program.wait_until("all is well again", |program| program.health() == ("ok".to_owned(), "[]".to_owned()));
}

#[test]
fn a_broker_down_at_the_start_and_killed_during_the_run_costs_nothing_and_repeats_nothing() {
    let broker = Broker::start();
    for topic in ["events", "results"] {
        broker.create_topic(topic, 2, &[]);
    }
    broker.produce("events", "none", stretch(2, 0..3_000));
    broker.stop();

    let setup = Setup::new(broker.servers(), "events", "results", "g");
    let mut program = Program::run(&setup);
    wait_for_trouble(&mut program, &broker);
    assert!(program.page("/ready").contains("\"ready\":false"), "{}", program.page("/ready"));
    broker.restart();
    wait_for_health(&mut program);
    assert_eq!(program.page("/ready"), "{\"ready\":true}");
    program.wait_until("results", |program| program.metric("results_sent_total", &[]) > 400.0);

    for round in 1..3 {
        // What comes next is on its way when the broker dies.
        broker.produce("events", "lz4", stretch(2, round * 3_000..(round + 1) * 3_000));
        broker.kill();
        wait_for_trouble(&mut program, &broker);
        broker.restart();
        wait_for_health(&mut program);
    }
    broker.produce("events", "none", closing(2));
    let expected = results_of_files(&setup, &broker, 2);
    program.wait_until("all results", |program| {
        program.metric("results_sent_total", &[("sink", "kafka")]) >= expected.len() as f64
    });
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    for part in ["cannot be read, trying again", "answers again after"] {
        assert!(ended.log.matches(part).count() >= 3, "{part}:\n{}", ended.log);
    }
    // Nothing lost, and nothing twice.
    assert_eq!(results_in(&broker, "results"), expected);
    for partition in 0..2 {
        let (offset, _) = broker.committed("g", "events", partition).expect("it is committed");
        assert!((8_500..=9_000).contains(&offset), "{offset}");
    }
}

#[test]
fn an_end_is_orderly_where_no_broker_was_ever_reached() {
    // The port is nobody's.
    let servers = format!("127.0.0.1:{}", kafka_broker::process::free_port());
    let mut program = Program::run(&Setup::new(&servers, "events", "results", "g"));
    program.wait_until("the trouble shows", |program| {
        let (status, reasons) = program.health();
        status == "degraded" && reasons.contains(&servers) && reasons.contains("refused")
    });
    program.wait_until("the log says so", |program| {
        let log = program.log();
        log.contains(&format!("{servers} cannot be read, trying again until it can"))
    });
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(ended.log.contains("0 events"), "{}", ended.log);
}
