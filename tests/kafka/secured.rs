//! SASL over TLS, both ways, with the real program.

use crate::events::{closing, results_in, results_of_files, stretch};
use crate::program::{Program, Setup};
use kafka_broker::process::free_port;
use kafka_broker::{Broker, Security};
use std::path::Path;
use std::process::Command;

const PASSWORD: &str = "s3cret-of-the-test";
const STORE_PASSWORD: &str = "changeit";

fn keytool(home: &Path, arguments: &[&str]) {
    let output = Command::new("keytool")
        .args(arguments)
        .args(["-alias", "broker", "-keystore", "broker.p12", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD])
        .current_dir(home)
        .output()
        .expect("keytool can be started; it comes with the JRE");
    assert!(output.status.success(), "keytool: {}", String::from_utf8_lossy(&output.stdout));
}

/// A listener with a certificate of its own, for users of PLAIN and of SCRAM-SHA-512.
fn secured(home: &Path, port: u16) -> Security {
    keytool(
        home,
        &["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "SAN=ip:127.0.0.1", "-validity", "3650"],
    );
    keytool(home, &["-exportcert", "-rfc", "-file", "ca.pem"]);
    let store = home.join("broker.p12");
    let login = "org.apache.kafka.common.security";
    Security {
        listener: Some(format!("SASL_SSL://127.0.0.1:{port}")),
        properties: format!(
            "ssl.keystore.location={}\nssl.keystore.type=PKCS12\nssl.keystore.password={STORE_PASSWORD}\n\
             ssl.key.password={STORE_PASSWORD}\nsasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_plain=\"{PASSWORD}\";\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;\n",
            store.display()
        ),
        format_arguments: vec!["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name=scram,password={PASSWORD}]")],
    }
}

/// `authority` is a file, or `probe` for those that the system trusts.
fn properties(mechanism: &str, user: &str, password: &str, authority: &str) -> String {
    format!(
        "properties: {{security.protocol: SASL_SSL, sasl.mechanism: {mechanism}, sasl.username: {user}, \
         sasl.password: {password}, ssl.ca.location: {authority:?}}}"
    )
}

#[test]
fn sasl_over_tls_is_read_from_and_written_to_and_a_wrong_password_is_told_of() {
    let port = free_port();
    let mut certificate = String::new();
    let broker = Broker::start_with(|home| {
        certificate = home.join("ca.pem").display().to_string();
        secured(home, port)
    });
    broker.create_topic("events", 2, &[]);
    broker.produce("events", "zstd", stretch(2, 0..1_000).into_iter().chain(closing(2)));
    let servers = format!("127.0.0.1:{port}");
    let mut expected = None;
    for (mechanism, user) in [("SCRAM-SHA-512", "scram"), ("PLAIN", "plain")] {
        let results = format!("results-{user}");
        broker.create_topic(&results, 1, &[]);
        let access = properties(mechanism, user, PASSWORD, &certificate);
        let setup = Setup::new(&servers, "events", &results, user);
        let setup = Setup { consumer: access.clone(), producer: format!("result_topic: {results}, {access}"), ..setup };
        let expected = &*expected.get_or_insert_with(|| results_of_files(&setup, &broker, 2));
        let mut program = Program::run(&setup);
        program.wait_until("all results", |program| program.metric("results_sent_total", &[]) >= expected.len() as f64);
        let ended = program.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        assert!(!ended.log.contains(PASSWORD), "{}", ended.log);
        assert_eq!(&results_in(&broker, &results), expected);
        assert!(broker.committed(user, "events", 0).is_some());
    }

    // Refused: the program says why, stays up, and tells nobody the password.
    let wrong = "wr0ng-password";
    let access = properties("SCRAM-SHA-512", "scram", wrong, &certificate);
    let setup = Setup::new(&servers, "events", "results-scram", "refused");
    let setup = Setup { consumer: access.clone(), producer: format!("result_topic: results-scram, {access}"), ..setup };
    let mut program = Program::run(&setup);
    program.wait_until("the refusal", |program| {
        let (status, reasons) = program.health();
        status == "degraded" && reasons.to_lowercase().contains("authentication")
    });
    let ended = program.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains(wrong), "{}", ended.log);

    // A certificate that nobody vouches for.
    let access = properties("PLAIN", "plain", PASSWORD, "probe");
    let setup = Setup::new(&servers, "events", "results-scram", "untrusted");
    let setup = Setup { consumer: access.clone(), producer: format!("result_topic: results-scram, {access}"), ..setup };
    let mut program = Program::run(&setup);
    program.wait_until("the refusal", |program| {
        let (status, reasons) = program.health();
        status == "degraded" && reasons.to_lowercase().contains("certificate")
    });
    assert_eq!(program.stop().code, Some(0));
}
