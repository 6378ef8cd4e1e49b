//! Secrets are in no message and no report.

use crate::loading::{load_with, no_env, yaml_files};
use llm_optimizer_processor::config;

#[test]
fn messages_never_hold_a_secret() {
    for path in yaml_files("tests/corpus/config") {
        let text = std::fs::read_to_string(&path).unwrap();
        let messages = text.lines().filter(|line| line.starts_with("# error: "));
        assert!(messages.into_iter().all(|line| !line.contains("hunter2")), "{}", path.display());
    }
}

#[test]
fn secrets_are_hidden_whatever_their_origin() {
    let file = r#"processor:
  kafka:
    consumer:
      properties:
        sasl.password: hunter2
        sasl.username: me
        ssl.key.pem: "hunter2\nhunter2"
        sasl.oauthbearer.config: principal=hunter2
        client.rack: https://me:hunter2@rack.example.org
    producer:
      bootstrap_servers: "SASL_SSL://me:hunter2@kafka:9092"
"#;
    // Userinfo is no part of a broker's address, and the message does not repeat it.
    let errors = config::load_str("t.yaml", file, no_env()).unwrap_err().to_string();
    assert!(
        errors.contains("t.yaml:11: kafka.producer.bootstrap_servers[0]: \"SASL_SSL://***@kafka:9092\""),
        "{errors}"
    );
    let file = file.replace("me:hunter2@kafka", "kafka");
    let loaded = load_with(&file, &[("PROCESSOR_KAFKA__PRODUCER__PROPERTIES", "{ssl.key.password: hunter2}")]);
    let report = loaded.report();
    assert!(!report.contains("hunter2"), "{report}");
    assert!(report.contains("sasl.username: me"), "{report}");
    assert_eq!(report.matches("\"***\"").count(), 4, "{report}");
    let debug = format!("{:?}", loaded.config);
    assert!(!debug.contains("hunter2"), "{debug}");
    assert_eq!(loaded.config.consumer.unwrap().properties["sasl.password"], "hunter2");
}
