//! What is told and with which code, when it does not go well.

use super::program::{BINARY, EVENTS, Place, config, finish};
use std::net::TcpListener;

#[test]
fn without_arguments_it_says_what_to_do() {
    let said = Place::new().run(&[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    for hint in ["processor --config config/processor-dev.yaml", "processor validate", "processor generate", "--help"] {
        assert!(said.err.contains(hint), "{hint}: {said:?}");
    }
}

#[test]
fn help_is_enough_to_work_from() {
    let place = Place::new();
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["--help"],
            &["validate", "generate", "--config <FILE>", "EXIT CODES", "75", "78", "PROCESSOR_KAFKA__CONSUMER__"],
        ),
        (
            &["run", "--help"],
            &["--config", "--threads", "--processes", "--process", "--hostfile", "--log-json", "SIGTERM"],
        ),
        (&["validate", "--help"], &["--config", "origin", "***"]),
        (
            &["generate", "--help"],
            &[
                "--count",
                "--rate",
                "--seed",
                "--keys",
                "--disorder",
                "--output",
                "--topic",
                "--bootstrap-servers",
                ".zst",
            ],
        ),
    ];
    for (arguments, words) in cases {
        let said = place.run(arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        for word in words {
            assert!(said.out.contains(word), "{arguments:?} lacks {word}: {}", said.out);
        }
    }
    let said = place.run(&["--version"]);
    assert_eq!((said.code, said.out.trim()), (Some(0), concat!("processor ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn what_is_said_of_checkpoints_must_have_a_meaning_and_beginning_anew_be_meant() {
    let place = Place::new();
    place.write("events.jsonl", EVENTS);
    let source = "{type: file, paths: [events.jsonl]}";
    place.write("memory.yaml", config(source, "stdout"));
    let state = "  state: {backend: rocksdb, path: s, checkpoint_path: c}\n";
    place.write("disk.yaml", config(source, "[{type: file, path: results.jsonl}]") + state);
    let said = |arguments: &str| {
        let words: Vec<&str> = arguments.split(' ').collect();
        place.run(&words)
    };
    for option in ["--from-checkpoint 3", "--ignore-checkpoint", "--accept-loss"] {
        let said = said(&format!("run --config memory.yaml {option}"));
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains("this job takes no checkpoints"), "{said:?}");
    }
    let both = said("run --config disk.yaml --from-checkpoint 3 --ignore-checkpoint");
    assert!(both.code == Some(2) && both.err.contains("cannot be used with"), "{both:?}");
    // Where there is nothing, nobody need be asked.
    let lines = || std::fs::read_to_string(place.path("results.jsonl")).unwrap().lines().count();
    assert_eq!(said("run --config disk.yaml --ignore-checkpoint").code, Some(0));
    let once = lines();
    assert!(once > 0);
    assert_eq!(said("run --config disk.yaml").code, Some(0));
    assert_eq!(lines(), once, "the input is read already");
    let asked = said("run --config disk.yaml --ignore-checkpoint");
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.err.contains("add --yes to begin anew all the same"), "{asked:?}");
    assert_eq!(lines(), once);
    assert_eq!(said("run --config disk.yaml --ignore-checkpoint --yes").code, Some(0));
    assert_eq!(lines(), 2 * once);
    // A file that has become shorter is another file.
    std::fs::write(place.path("events.jsonl"), "").unwrap();
    assert_eq!(said("run --config disk.yaml").code, Some(0), "it had been read to its end");
}

#[test]
fn wrong_usage_is_2_and_names_what_is_right() {
    let place = Place::new();
    place.write("c.yaml", config("stdin", "stdout"));
    let cases: [(&[&str], &str); 15] = [
        (&["frobnicate"], "unrecognized subcommand 'frobnicate'"),
        (&["--confg", "c.yaml"], "'--config'"),
        (&["run"], "no configuration"),
        (&["validate"], "--config <FILE>"),
        (&["--config", "absent.yaml"], "absent.yaml: cannot be read: No such file"),
        (&["--config", "."], "cannot be read: Is a directory"),
        (&["--config", "c.yaml", "-n", "2", "-p", "2"], "between 0 and 1"),
        (&["--config", "c.yaml", "-n", "2", "-p", "processor-2"], "between 0 and 1"),
        (&["--config", "c.yaml", "-n", "2", "-p", "processor"], "a name that ends with one, such as processor-2"),
        (&["--config", "c.yaml", "-n", "2", "-h", "absent"], "cannot read the hostfile absent"),
        (&["--config", "c.yaml", "--log", "inof"], "did you mean `info`?"),
        (&["generate", "--rate", "-1"], "--rate: a number of events a second, greater than 0"),
        (&["generate", "--disorder", "-3"], "--disorder `-3`"),
        (&["generate", "--late", "1.5"], "--late 1.5: a share is between 0 and 1"),
        (&["generate", "--keys", "0"], "--keys"),
    ];
    for (arguments, message) in cases {
        let said = place.run(arguments);
        assert_eq!(said.code, Some(2), "{arguments:?}: {said:?}");
        assert!(said.err.contains(message), "{arguments:?} lacks `{message}`: {}", said.err);
        assert!(said.out.is_empty(), "{arguments:?}: {said:?}");
    }
}

#[test]
fn what_cannot_run_is_refused_before_anything_is_opened() {
    let place = Place::new();
    // Were the socket bound first, the answer would be about the address.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    place.write("events.jsonl", EVENTS);
    place.write(
        "c.yaml",
        config("{type: file, paths: [events.jsonl]}", "[{type: file, path: out/results.jsonl}]")
            .replace("{enabled: false}", &format!("{{listen: \"{listen}\"}}")),
    );
    let cases: [(&str, &str, &[&str]); 6] = [
        ("PROCESSOR_WINDOWS__TUMBLING__SIZE", "0s", &["PROCESSOR_WINDOWS__TUMBLING__SIZE", "a duration above 0"]),
        ("PROCESSOR_PARALELISM", "2", &["PROCESSOR_PARALELISM", "PARALLELISM"]),
        ("PROCESSOR_PARALLELISM", "many", &["PROCESSOR_PARALLELISM", "many"]),
        ("PROCESSOR_DELIVERY", "exactly_once", &["delivery", "at_least_once"]),
        ("PROCESSOR_WINDOWS__DEFAULT_TYPE", "sesion", &["sesion", "session"]),
        ("PROCESSOR_LOGGING__FILTER", "inof", &["inof", "info"]),
    ];
    for (name, value, words) in cases {
        let said = place.run_with(&["--config", "c.yaml"], &[(name, value)]);
        assert_eq!(said.code, Some(2), "{name}={value}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{name}={value} lacks {word}: {}", said.err);
        }
        assert_eq!(place.names(), ["c.yaml", "events.jsonl"], "{name}={value} made something");
        // Who asks beforehand gets the same answer.
        let validated = place.run_with(&["validate", "--config", "c.yaml"], &[(name, value)]);
        assert_eq!((validated.code, validated.err), (said.code, said.err), "{name}={value}");
    }
    // The same configuration without the mistake gets as far as the address.
    let said = place.run(&["--config", "c.yaml"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains(&format!("cannot listen on {listen}")), "{said:?}");
    assert!(said.err.contains("metrics.listen") && said.err.contains("in use"), "{said:?}");
    assert_eq!(place.names(), ["c.yaml", "events.jsonl"]);
}

#[test]
fn input_that_cannot_be_read_is_named() {
    let place = Place::new();
    place.write("c.yaml", config("{type: file, paths: [absent-*.jsonl]}", "stdout"));
    let said = place.run(&["--config", "c.yaml"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("no file matches absent-*.jsonl"), "{said:?}");

    place.write("bad.jsonl.gz", "this was never packed");
    let said = place.run_with(&["--config", "c.yaml"], &[("PROCESSOR_SOURCE__PATHS", "bad.jsonl.gz")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("bad.jsonl.gz: bad or cut off gzip data"), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");

    let packed = zstd::encode_all(EVENTS.as_bytes(), 0).expect("packed");
    place.write("cut.jsonl.zst", &packed[..packed.len() - 20]);
    let said = place.run_with(&["--config", "c.yaml"], &[("PROCESSOR_SOURCE__PATHS", "cut.jsonl.zst")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cut.jsonl.zst"), "{said:?}");
}

#[test]
fn a_bad_record_ends_the_run_only_under_the_policy_fail() {
    let place = Place::new();
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", "stdout"));
    assert_eq!(place.run(&["--config", "c.yaml"]).code, Some(0));
    let said = place.run_with(&["--config", "c.yaml"], &[("PROCESSOR_ERROR_HANDLING__POLICY", "fail")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let offset = EVENTS.find("no JSON").expect("it is there");
    assert!(said.err.contains("events.jsonl") && said.err.contains(&offset.to_string()), "{said:?}");
    assert!(said.err.contains("malformed"), "{said:?}");
}

#[test]
fn results_that_cannot_be_written_end_the_run() {
    let place = Place::new();
    place.write("events.jsonl", EVENTS);
    place.write("c.yaml", config("{type: file, paths: [events.jsonl]}", "stdout"));
    let quick =
        [("PROCESSOR_ERROR_HANDLING__MAX_RETRIES", "2"), ("PROCESSOR_ERROR_HANDLING__INITIAL_RETRY_DELAY_MS", "1")];
    let cases = [
        ("[{type: file, path: /dev/full}]", "writing /dev/full: No space left on device"),
        ("[{type: file, path: events.jsonl/results}]", "events.jsonl"),
        ("[{type: file, path: .}]", "is a directory; a file is needed"),
    ];
    for (sinks, message) in cases {
        let said = place.run_with(&["--config", "c.yaml"], &[quick[0], quick[1], ("PROCESSOR_SINKS", sinks)]);
        assert_eq!(said.code, Some(1), "{sinks}: {said:?}");
        assert!(said.err.contains(message), "{sinks}: {said:?}");
    }
    let mut shell = std::process::Command::new("bash");
    shell.arg("-c").arg(format!("exec '{BINARY}' --config c.yaml >/dev/full"));
    let said = finish(shell.current_dir(place.path("")).envs(quick), "");
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("gave up after 2 retries"), "{said:?}");
    assert!(said.err.contains("standard output: No space left on device"), "{said:?}");
}
