//! What a broker is started from: jars, a configuration, a prepared data folder.

use crate::broker::Security;
use crate::maven::jars;
use crate::process::free_port;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Any 16 bytes in base64 will do.
const CLUSTER_ID: &str = "bGxtLW9wdGltaXplcg0K0A";

/// The lines of `server.properties`.
pub(crate) fn properties(home: &Path, port: u16, controller: u16, security: &Security) -> String {
    let data = home.join("data");
    let further = security.listener.as_ref().map(|listener| format!(",{listener}")).unwrap_or_default();
    let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL";
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{further}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{further}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map={protocols}\ninter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}\nauto.create.topics.enable=false\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\nlog.retention.hours=-1\n{}",
        data.display(),
        security.properties
    )
}

/// Prepares the data folder of the broker whose configuration is in `home`.
pub(crate) fn format_data(home: &Path, arguments: &[String]) {
    let output = java(home)
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"])
        .arg(home.join("server.properties"))
        .args(arguments)
        .output()
        .expect("java can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "Kafka's data folder could not be made: {said}");
}

/// A data folder to copy: preparing one takes seconds, and they are all the same.
pub(crate) fn formatted() -> &'static Path {
    static FORMATTED: OnceLock<PathBuf> = OnceLock::new();
    FORMATTED.get_or_init(|| {
        let home = make_home();
        fs::write(home.join("server.properties"), properties(&home, free_port(), free_port(), &Security::default()))
            .expect("the folder can be written");
        format_data(&home, &[]);
        home.join("data")
    })
}

/// Copies a folder of files.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder can be written");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("the folder has files only");
    }
}

/// `java` with Kafka's jars, and with as little of the machine as will do.
pub(crate) fn java(home: &Path) -> Command {
    static JARS: OnceLock<PathBuf> = OnceLock::new();
    let jars = JARS.get_or_init(|| jars("kafka"));
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{}/*", jars.display())).current_dir(home).stdin(Stdio::null());
    command
}

/// A folder for one broker. Those of test processes that are gone are removed.
pub(crate) fn make_home() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = scratch();
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("kafka-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let home = parent.join(format!("kafka-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&home).expect("the folder for test data can be written");
    home
}

/// Where brokers keep their data: `tmp` in cargo's target folder, which cargo marks with a file and which this program is in.
fn scratch() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.map_or_else(std::env::temp_dir, |target| target.join("tmp"))
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
