//! `processor validate`.

use super::checkout::ROOT;
use super::program::Place;

#[test]
fn each_value_has_its_origin_and_secrets_are_hidden() {
    let place = Place::new();
    place.write(
        "c.yaml",
        "processor:\n  job: feedback\n  parallelism: 3\n  kafka:\n    consumer:\n      bootstrap_servers: broker:9092\n      topics: [events]\n      \
         properties:\n        sasl.mechanism: PLAIN\n        sasl.password: hunter2\n  sinks:\n    - type: console\n",
    );
    let environment = [
        ("PROCESSOR_PARALLELISM", "5"),
        ("PROCESSOR_KAFKA__CONSUMER__BOOTSTRAP_SERVERS", "kafka:9092"),
        ("PROCESSOR_WATERMARK__MAX_OUT_OF_ORDERNESS_SECS", "60"),
    ];
    let said = place.run_with(&["validate", "--config", "c.yaml"], &environment);
    assert_eq!(said.code, Some(0), "{said:?}");
    let line = |key: &str| {
        let found = said.out.lines().find(|line| line.trim_start().starts_with(&format!("{key}:")));
        found.unwrap_or_else(|| panic!("no {key}: {}", said.out)).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("job"), "job: feedback # c.yaml:2");
    assert_eq!(line("parallelism"), "parallelism: 5 # environment PROCESSOR_PARALLELISM");
    assert_eq!(line("buffer_size"), "buffer_size: 10000 # default");
    assert!(line("bootstrap_servers").contains("kafka:9092"), "{}", said.out);
    assert!(
        line("max_out_of_orderness_secs").starts_with("max_out_of_orderness_secs: 60 # environment"),
        "{}",
        said.out
    );
    assert!(line("sasl.password").contains("***"), "{}", said.out);
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
    assert_eq!(place.names(), ["c.yaml"], "nothing was made");

    // What it prints is a configuration with the same meaning.
    place.write("again.yaml", &said.out);
    let again = place.run(&["validate", "--config", "again.yaml"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    let values = |text: &str| {
        text.lines().map(|line| line.split(" # ").next().map(str::trim_end).map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(values(&again.out), values(&said.out));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let place = Place::new();
    place.write(
        "c.yaml",
        "processor:\n  paralelism: 4\n  windows:\n    tumbling:\n      size_secs: 0\n  aggregation:\n    enabled: [count, median]\n",
    );
    let said = place.run(&["validate", "--config", "c.yaml"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    for message in ["c.yaml:2: paralelism: unknown key; did you mean parallelism?", "c.yaml:5: ", "c.yaml:7: "] {
        assert!(said.err.contains(message), "lacks {message}: {}", said.err);
    }
}

#[test]
fn the_shipped_configurations_are_valid() {
    let place = Place::new();
    for folder in ["config", "config/examples"] {
        for entry in std::fs::read_dir(ROOT.join(folder)).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let said = place.run(&["validate", "--config", path.to_str().expect("UTF-8")]);
                assert_eq!(said.code, Some(0), "{}: {said:?}", path.display());
            }
        }
    }
}
