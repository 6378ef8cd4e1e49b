//! Two hosts of one job, and the cable between them: a network of its own, where this user may make one.

use super::program::{Live, Place, config, eventually};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a lost host takes to be noticed, as the processes are configured.
const FAILURE: Duration = Duration::from_secs(3);
/// The end of those who are left takes less than this beyond it.
const ORDERLY: Duration = Duration::from_secs(10);

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A host beside this one, for as long as the test runs.
struct OtherHost {
    name: String,
    /// This side of the cable.
    cable: String,
    own: String,
    other: String,
}

impl OtherHost {
    /// `None`, with the reason printed, where this user may not make one.
    fn make() -> Option<OtherHost> {
        let id = std::process::id() % 10_000;
        let (third, name, cable) = (id % 250 + 1, format!("llmp{id}"), format!("llmp{id}a"));
        let host = OtherHost { own: format!("10.213.{third}.1"), other: format!("10.213.{third}.2"), name, cable };
        let OtherHost { name, cable, own, other } = &host;
        let steps = [
            format!("netns add {name}"),
            format!("link add {cable} type veth peer name {name}b netns {name}"),
            format!("addr add {own}/30 dev {cable}"),
            format!("link set {cable} up"),
            format!("-n {name} addr add {other}/30 dev {name}b"),
            format!("-n {name} link set {name}b up"),
            format!("-n {name} link set lo up"),
        ];
        match steps.iter().try_for_each(|step| ip(step)) {
            Ok(()) => Some(host),
            Err(reason) => {
                println!("skipped: no network can be made: {reason}");
                None
            }
        }
    }

    fn cut_the_cable(&self) {
        ip(&format!("-n {} link set {}b down", self.name, self.name)).expect("it is ours");
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        // What was not made need not go.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = ip(&format!("link del {}", self.cable));
    }
}

#[test]
fn a_host_that_vanishes_is_noticed_by_both_sides() {
    let Some(host) = OtherHost::make() else { return };
    let place = Place::new();
    place.write("hosts", format!("{}:2101\n{}:2101", host.own, host.other));
    place.write("secret", "the processes of this job know it");
    let endless = config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]")
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s");
    place.write("c.yaml", endless);
    let start = |process: usize| {
        let process = process.to_string();
        let own = place.command(&["--config", "c.yaml", "-w", "1", "-n", "2", "-p", &process, "-h", "hosts"]);
        let mut command = match process.as_str() {
            "0" => own,
            _ => {
                let mut there = Command::new("ip");
                there.args(["netns", "exec", &host.name]).arg(own.get_program()).args(own.get_args());
                there.current_dir(own.get_current_dir().expect("it has one"));
                there
            }
        };
        command.env("PROCESSOR_CLUSTER__SECRET_FILE", "secret");
        command.env("PROCESSOR_CLUSTER__FAILURE_TIMEOUT", format!("{}s", FAILURE.as_secs()));
        Live::start(&mut command)
    };
    let mut processes = [start(0), start(1)];
    for name in ["r.jsonl", "r.1.jsonl"] {
        eventually("result", || match std::fs::read_to_string(place.path(name)) {
            Ok(text) if text.lines().count() > 5 => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        });
    }
    host.cut_the_cable();
    let cut = Instant::now();
    for process in &mut processes {
        let (code, err) = process.end_within(FAILURE + ORDERLY);
        assert_eq!(code, Some(75), "{err}");
        assert!(err.contains("peer lost: "), "{err}");
    }
    assert!(cut.elapsed() < FAILURE + Duration::from_secs(5), "it took {:?}", cut.elapsed());
}
