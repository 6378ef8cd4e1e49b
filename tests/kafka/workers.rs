//! The same topic at several numbers of workers and processes.

use crate::events::{Results, closing, results_in, results_of_files, stretch};
use crate::program::{Program, Setup};
use kafka_broker::process::free_port;
use kafka_broker::{Broker, fresh};
use std::fs;

/// Waits until the processes of a job have written this many results together, and ends them.
fn finish(programs: &mut [Program], count: usize) {
    let sent = |program: &Program| program.metric("results_sent_total", &[("sink", "kafka")]);
    let (first, others) = programs.split_first_mut().expect("a process");
    first.wait_until("all results", |first| sent(first) + others.iter().map(&sent).sum::<f64>() >= count as f64);
}

#[test]
fn the_same_input_gives_the_same_results_at_every_number_of_workers_and_processes() {
    let (broker, topic) = (Broker::shared(), fresh("workers"));
    broker.create_topic(&topic, 4, &[]);
    broker.produce(&topic, "lz4", stretch(4, 0..5_000).into_iter().chain(closing(4)));
    let setup = |name: &str| {
        let results = format!("{topic}-{name}");
        broker.create_topic(&results, 2, &[]);
        (Setup::new(broker.servers(), &topic, &results, &results), results)
    };
    let expected = results_of_files(&setup("files").0, broker, 4);
    assert!(expected.len() > 500, "only {} results", expected.len());

    let mut found: Vec<(String, Results)> = Vec::new();
    // Eight workers are more than there are partitions.
    for parallelism in [1, 2, 3, 8] {
        let (setup, results) = setup(&format!("w{parallelism}"));
        let mut programs = [Program::run(&Setup { parallelism, ..setup })];
        finish(&mut programs, expected.len());
        let ended = programs[0].stop();
        assert_eq!(ended.code, Some(0), "{parallelism} workers:\n{}", ended.log);
        found.push((format!("{parallelism} workers"), results_in(broker, &results)));
    }

    let (setup, results) = setup("n2");
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1:{}\n127.0.0.1:{}\n", free_port(), free_port())).expect("a file");
    let arguments =
        |index: &str| ["-n", "2", "-p", index, "-w", "2", "-h", hosts.to_str().expect("text")].map(str::to_owned);
    let mut programs = ["0", "1"].map(|index| Program::start(&setup.yaml(), &arguments(index)));
    finish(&mut programs, expected.len());
    // Each reads its own partitions and writes the results of its own keys.
    for program in &programs {
        assert!(program.metric("events_processed_total", &[]) > 1_000.0);
        assert!(program.metric("results_sent_total", &[]) > 10.0);
    }
    programs.iter().for_each(Program::ask_to_end);
    for program in &mut programs {
        let ended = program.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(ended.took.as_secs() < 10);
    }
    found.push(("2 processes".to_owned(), results_in(broker, &results)));

    for (name, results) in found {
        assert_eq!(results.len(), expected.len(), "{name}");
        let other = results.iter().find(|(key, text)| expected.get(*key) != Some(text));
        assert_eq!(other, None, "{name}");
    }
}
