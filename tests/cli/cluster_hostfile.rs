//! Hostfiles that cannot be right: each is refused before anything else happens, with the file, the line and what would be right.

use super::cluster::ORDERLY;
use super::program::{Live, Place, Said, config};

/// Runs process `process` of `processes` with this hostfile, and a secret that all of them would have.
fn run(place: &Place, hosts: &str, processes: &str, process: &str) -> Said {
    place.write("hosts", hosts);
    let arguments = ["run", "--config", "c.yaml", "-w", "1", "-n", processes, "-p", process, "-h", "hosts"];
    place.run_with(&arguments, &[("PROCESSOR_CLUSTER__SECRET", "all processes know it")])
}

fn place() -> Place {
    let place = Place::new();
    place.write("c.yaml", config("stdin", "[{type: file, path: r.jsonl}]"));
    place
}

#[test]
fn what_is_wrong_with_a_hostfile_is_said_with_its_line() {
    let place = place();
    let cases = [
        ("localhost:2101\n# the other\nlocalhost\n", "hosts:3: `localhost` has no port: a line is host:port"),
        ("localhost:2101\n10.0.0.7\n", "hosts:2: `10.0.0.7` has no port: a line is host:port"),
        ("localhost:2101\nlocalhost:\n", "hosts:2: `localhost:`: a line is host:port, with a port between 1 and 65535"),
        ("localhost:2101\nlocalhost:65536\n", "hosts:2: `localhost:65536`: a line is host:port"),
        ("localhost:2101\nlocalhost 2102\n", "hosts:2: `localhost 2102`: a line is host:port"),
        ("localhost:2101\n::1:2102\n", "hosts:2: `::1:2102`: a line is host:port"),
        ("localhost:2101\n\nlocalhost:2101\n", "hosts:3: `localhost:2101` is in line 1 already; each process has an"),
        ("localhost:2101\nLocalHost:2101\n", "hosts:2: `LocalHost:2101` is in line 1 already"),
        ("localhost:2101\n", "hosts: -n 2 processes need 2 addresses, one a line, and there is 1"),
        ("# nobody yet\n\n", "hosts: -n 2 processes need 2 addresses, one a line, and there is none"),
    ];
    for (hosts, problem) in cases {
        for process in ["0", "1"] {
            let said = run(&place, hosts, "2", process);
            assert_eq!(said.code, Some(2), "{hosts:?}: {said:?}");
            assert!(said.err.contains(problem), "{hosts:?}: {}", said.err);
        }
        let launched = place.run(&["launch", "-n", "2", "-w", "1", "--hostfile", "hosts", "--config", "c.yaml"]);
        assert!(launched.code == Some(2) && launched.err.contains(problem), "{hosts:?}: {launched:?}");
    }
    let said = place.run(&["run", "--config", "c.yaml", "-n", "2", "-p", "0", "-h", "absent"]);
    assert!(said.code == Some(2) && said.err.contains("cannot read the hostfile absent: "), "{said:?}");
    assert_eq!(place.names(), ["c.yaml", "hosts"], "nothing was begun");
}

#[test]
fn a_line_of_another_machine_is_not_this_process() {
    let place = place();
    let hosts = "127.0.0.1:2101\n# the next machine\n203.0.113.9:2101\nno-such-host.invalid:2101\n";
    for (process, line, address) in [("1", 3, "203.0.113.9:2101"), ("2", 4, "no-such-host.invalid:2101")] {
        let said = run(&place, hosts, "3", process);
        assert_eq!(said.code, Some(2), "{said:?}");
        let problem = format!("line {line} of hosts: cannot listen on {address}, the address of process {process}: ");
        assert!(said.err.contains(&problem), "{}", said.err);
        assert!(said.err.contains("; that line must name this machine"), "{}", said.err);
    }
}

#[test]
fn addresses_that_no_process_has_are_told() {
    let place = place();
    let hosts = "127.0.0.1:2101\n127.0.0.1:2102\n# later\n127.0.0.1:2103\n127.0.0.1:2104\n";
    let warning = "hosts: from line 4 on there are more addresses than -n 1 has processes; those take no part";
    let said = run(&place, hosts.split_once('\n').expect("lines").1, "1", "0");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains(&warning.replace("line 4", "line 3")), "{}", said.err);
    place.write("hosts", hosts);
    let arguments = ["--config", "c.yaml", "-w", "1", "-n", "2", "-p", "0", "-h", "hosts"];
    let mut waiting = Live::start(&mut place.command(&arguments));
    waiting.wait_for(&warning.replace("-n 1", "-n 2"));
    waiting.signal(libc::SIGTERM);
    let (code, err) = waiting.end_within(ORDERLY);
    assert!(code == Some(0) || code == Some(75), "{code:?}: {err}");
}
