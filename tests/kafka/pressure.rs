//! A result broker that takes nothing: memory stays bounded, and nothing is lost.

use crate::events::{BASE, closing, event, results_in, results_of_files};
use crate::program::{Program, Setup};
use kafka_broker::{Broker, TestRecord, fresh};
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;
const RECORDS: i64 = 40_000;
/// Bytes of each record, nearly all of them in a member that the job does not read.
const RECORD_BYTES: usize = 3_000;
const BUFFER_SIZE: usize = 500;

/// What may be held at once beside the program itself, by `buffer_size`: with two workers, two queues of librdkafka of at
/// least 4 MiB, each with a response of 2 MiB under way from the broker that is packed and unpacked meanwhile; and rows and
/// results, 1 KiB each, as many as a turn may add to `buffer_size`.
fn bound() -> u64 {
    let queues = 2 * (4 + 3 * 2) * 1024 * 1024;
    let rows = 2 * (BUFFER_SIZE + 4_096) * 1024 * 2;
    queues + rows as u64 + 16 * 1024 * 1024
}

fn heavy(partition: i32, number: i64) -> TestRecord {
    let light = event(BASE + number * 1_000, &format!("model-{}", number % 7), "r", number as f64);
    // Text that packs to about half, as what librdkafka holds while it unpacks a response grows with the ratio.
    let mut state = number as u64 * 2 + partition as u64 + 1;
    let digits = (0..(RECORD_BYTES - light.len()) / 16).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:016x}", state ^ (state >> 29))
    });
    let padding: String = digits.collect();
    TestRecord::to(partition, light.replacen('{', &format!("{{\"padding\":\"{padding}\","), 1))
}

#[test]
fn memory_is_bounded_while_the_results_broker_takes_nothing() {
    let (broker, topic, results) = (Broker::shared(), fresh("heavy"), Broker::start());
    broker.create_topic(&topic, PARTITIONS, &[]);
    results.create_topic("results", 1, &[]);
    let setup = Setup::new(broker.servers(), &topic, "results", &topic);
    let setup = Setup {
        buffer_size: BUFFER_SIZE,
        producer: format!("bootstrap_servers: \"{}\", result_topic: results", results.servers()),
        ..setup
    };
    let mut program = Program::run(&setup);
    program.wait_until("the start", |program| program.page("/ready") == "{\"ready\":true}");
    let at_rest = program.resident_bytes();
    results.pause();
    // In turns, so that neither partition holds the windows of the other open.
    let numbers = 0..RECORDS / i64::from(PARTITIONS);
    let records = numbers.flat_map(|number| (0..PARTITIONS).map(move |partition| heavy(partition, number)));
    broker.produce(&topic, "zstd", records);
    broker.produce(&topic, "none", closing(PARTITIONS));

    // Reading comes to rest, far from the end.
    let (mut processed, mut since, mut peak) = (0.0, Instant::now(), 0);
    program.wait_until("reading has come to rest", |program| {
        peak = peak.max(program.resident_bytes());
        let now = program.metric("events_processed_total", &[]);
        if now != processed {
            (processed, since) = (now, Instant::now());
        }
        processed > 0.0 && since.elapsed() > Duration::from_secs(3)
    });
    assert!(processed < RECORDS as f64 / 4.0, "{processed} events were processed: nothing was held back");
    let (held, bound) = (peak.saturating_sub(at_rest), bound());
    let input = RECORDS as u64 * RECORD_BYTES as u64;
    assert!(bound < input / 2, "the input is too small to show anything");
    println!("{processed} events were processed, {} KiB were held, {} KiB are allowed", held >> 10, bound >> 10);
    assert!(held < bound, "{} MiB are held, {} are allowed", held >> 20, bound >> 20);
    program.wait_until("the trouble shows", |program| {
        let (status, reasons) = program.health();
        status == "degraded" && reasons.contains("the sink kafka cannot write")
    });

    results.resume();
    let expected = results_of_files(&setup, broker, PARTITIONS);
    program.wait_until("all results", |program| {
        peak = peak.max(program.resident_bytes());
        program.metric("results_sent_total", &[("sink", "kafka")]) >= expected.len() as f64
    });
    assert!(peak.saturating_sub(at_rest) < bound, "{} MiB are held", peak.saturating_sub(at_rest) >> 20);
    program.wait_until("all is well again", |program| program.health().0 == "ok");
    assert_eq!(program.stop().code, Some(0));
    assert_eq!(results_in(&results, "results"), expected);
}
