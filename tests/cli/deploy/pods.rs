//! The pods as processes of this machine: the container's own command, configuration and hostfile, with what is the cluster's replaced
//! (folders, addresses, Kafka).

use super::kubernetes::{FOLDER, container};
use super::{read, texts};
use crate::pages::get;
use crate::program::{Live, Place, eventually};
use std::time::Duration;

/// The processes of a job, and the folders that stand for the volumes.
struct Pods {
    place: Place,
    addresses: Vec<String>,
}

impl Pods {
    fn new() -> Pods {
        let place = Place::new();
        let count = read(&format!("{FOLDER}/hosts.txt")).lines().filter(|line| !line.starts_with('#')).count();
        let addresses = kafka_broker::process::free_addresses(count);
        place.write("hosts.txt", addresses.join("\n"));
        place.write("secret", "what these processes prove to each other\n");
        let pods = Pods { place, addresses };
        pods.place.write("processor.yaml", pods.here(&read(&format!("{FOLDER}/processor.yaml"))));
        pods
    }

    /// A text with the paths of the container become those of this place.
    fn here(&self, text: &str) -> String {
        let folder = self.place.path("").display().to_string();
        let folder = folder.trim_end_matches('/');
        text.replace("/etc/optimizer", folder).replace("/var/lib/optimizer", folder)
    }

    fn start(&self, index: usize) -> Live {
        let container = container();
        let arguments: Vec<String> = texts(&container["args"])
            .into_iter()
            .map(|argument| self.here(&argument.replace("$(POD_NAME)", &format!("processor-{index}"))))
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = self.place.command(&arguments);
        command
            .env("PROCESSOR_CLUSTER__LISTEN", &self.addresses[index])
            .env("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0")
            .env("PROCESSOR_LOGGING__FORMAT", "text")
            .env("PROCESSOR_PARALLELISM", "1")
            .env("PROCESSOR_SOURCE__TYPE", "generator")
            .env("PROCESSOR_SOURCE__RATE", "200")
            .env("PROCESSOR_SINKS", "[{type: file, path: results.jsonl}]");
        Live::start(&mut command)
    }
}

fn code(pod: &Live, page: &str) -> Result<u16, String> {
    get(&format!("{}{page}", pod.pages())).map(|(code, _)| code)
}

#[test]
fn a_pod_that_waits_is_alive_and_not_ready_and_one_that_ends_has_all_start_again() {
    let pods = Pods::new();
    let first = pods.start(0);
    first.wait_for("waiting for the other processes");
    let probe = container()["livenessProbe"]["httpGet"]["path"].as_str().expect("a page").to_owned();
    let ready = container()["readinessProbe"]["httpGet"]["path"].as_str().expect("a page").to_owned();
    assert_eq!((code(&first, &probe), code(&first, &ready)), (Ok(200), Ok(503)));

    let others = (1..pods.addresses.len()).map(|index| pods.start(index));
    let mut all: Vec<Live> = std::iter::once(first).chain(others).collect();
    for pod in &all {
        eventually("readiness", || match code(pod, &ready)? {
            200 => Ok(()),
            other => Err(other.to_string()),
        });
        assert_eq!(code(pod, &probe), Ok(200));
    }

    // A pod that is evicted: its end takes less than it is given, and the others ask to be started again.
    let mut evicted = all.remove(1);
    evicted.signal(libc::SIGTERM);
    let (code, err) = evicted.end_within(Duration::from_secs(10));
    assert_eq!(code, Some(0), "{err}");
    for mut left in all {
        let (code, err) = left.end_within(Duration::from_secs(10));
        assert_eq!(code, Some(75), "{err}");
    }
    let published = std::fs::read_dir(pods.place.path("checkpoints")).expect("checkpoints").count();
    assert!(published > 0, "the end takes a checkpoint");
}
