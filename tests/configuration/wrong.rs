//! Wrong configurations: what is said of them.

use crate::checkout::ROOT;
use crate::loading::{Variables, no_env, yaml_files};
use llm_optimizer_processor::config;

/// Each file of the corpus ends with the variables it is read with (`# env: NAME=VALUE`) and every line that must be printed
/// (`# error: LINE`).
#[test]
fn every_wrong_configuration_gets_exactly_its_messages() {
    let files = yaml_files("tests/corpus/config");
    assert!(files.len() >= 100, "only {} files", files.len());
    let mut wrong = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = |prefix: &'static str| text.lines().filter_map(move |line| line.strip_prefix(prefix));
        let env: Variables =
            lines("# env: ").map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect();
        let expected = lines("# error: ").collect::<Vec<_>>().join("\n");
        assert!(!expected.is_empty(), "{name} says no message");
        // The document ends where the notes begin.
        let document: String = text
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("# env: ") && !line.starts_with("# error: "))
            .collect();
        let actual = match config::load_str(name, &document, env.into_iter()) {
            Ok(_) => "(accepted)".to_owned(),
            Err(errors) => errors.to_string(),
        };
        if actual != expected {
            wrong.push_str(&format!("--- {name}\nexpected:\n{expected}\nactual:\n{actual}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn librdkafka_is_asked_about_properties() {
    let file = "processor:
  kafka:
    consumer:
      properties:
        sasl.mechanizm: PLAIN
        fetch.min.bytes: many
        security.protocol: sasl_ssl
";
    let errors = config::load_str("t.yaml", file, no_env()).unwrap_err();
    let lines: Vec<_> = errors.iter().map(|error| (error.line().unwrap(), error.path())).collect();
    assert_eq!(
        lines,
        [(5, "kafka.consumer.properties.sasl.mechanizm"), (6, "kafka.consumer.properties.fetch.min.bytes")]
    );
    let secret = "processor: {kafka: {consumer: {properties: {enable.ssl.certificate.verification.token: hunter2}}}}";
    let message = config::load_str("t.yaml", secret, no_env()).unwrap_err().to_string();
    assert!(message.contains("No such configuration property") && !message.contains("hunter2"), "{message}");
    assert!(errors.to_string().contains("No such configuration property: \"sasl.mechanizm\""), "{errors}");
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.yaml");
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}: cannot be read: No such file", path.display())), "{errors}");
    std::fs::write(&path, b"processor:\n  job: \xff\n").unwrap();
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert_eq!(errors, format!("{}: no UTF-8 in line 2; expected text in UTF-8", path.display()));
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let errors = config::load(&path, no_env()).unwrap_err().to_string();
    assert!(errors.contains("longer than 1 MiB"), "{errors}");
    let errors = config::load(folder.path(), no_env()).unwrap_err().to_string();
    assert!(errors.contains("cannot be read"), "{errors}");
}

#[test]
fn no_damage_to_a_file_makes_a_panic() {
    let text = std::fs::read_to_string(ROOT.join("config/processor.yaml")).unwrap();
    // Comment signs off, so that every key takes part.
    let text: String = text.lines().map(|line| line.replacen("# ", "", 1) + "\n").collect();
    let lines: Vec<&str> = text.lines().collect();
    let mut refused = 0;
    let mut try_one = |text: &str| {
        if let Err(errors) = config::load_str("damaged.yaml", text, no_env()) {
            assert!(errors.iter().next().is_some() && !errors.to_string().is_empty());
            refused += 1;
        }
    };
    for cut in 0..lines.len() {
        try_one(&lines[..cut].join("\n"));
        let without: Vec<&str> = [&lines[..cut], &lines[cut + 1..]].concat();
        try_one(&without.join("\n"));
    }
    for value in
        ["-1", "[]", "{}", "[[x]]", "{a: {b: c}}", "\"\"", "1e999", "\u{1F600}", "99999999999999999999", ".nan", "!x y"]
    {
        let shipped = std::fs::read_to_string(ROOT.join("config/processor.yaml")).unwrap();
        let kept: Vec<&str> = shipped.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        for (index, line) in kept.iter().enumerate() {
            let Some((key, rest)) = line.split_once(':') else { continue };
            let mut changed = kept.clone();
            let line = format!("{key}: {value}");
            changed[index] = &line;
            if !rest.trim().is_empty() {
                try_one(&changed.join("\n"));
            }
        }
    }
    assert!(refused > 300, "{refused}");
}
