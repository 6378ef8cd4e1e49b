//! Two processes of one job: finding each other, and ending.

use super::program::{Live, Place, config, eventually};
use kafka_broker::process::free_addresses;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The orderly end takes less than this, and so does the end of those who are left.
pub const ORDERLY: Duration = Duration::from_secs(10);

/// A hostfile with two free addresses of this machine.
pub fn hostfile(place: &Place) {
    place.write("hosts", free_addresses(2).join("\n"));
}

fn start(place: &Place, process: usize, threads: usize) -> Live {
    start_with(place, process, threads, &[])
}

/// The same with further arguments.
pub fn start_with(place: &Place, process: usize, threads: usize, further: &[&str]) -> Live {
    let (process, threads) = (process.to_string(), threads.to_string());
    let arguments = ["--config", "c.yaml", "-w", &threads, "-n", "2", "-p", &process, "-h", "hosts"];
    Live::start(&mut place.command(&[&arguments, further].concat()))
}

/// All that it writes to its standard output, to the end.
fn read_out(process: &mut Live) -> String {
    let mut out = String::new();
    process.child.stdout.take().expect("piped").read_to_string(&mut out).expect("UTF-8");
    out
}

/// Two processes over events that never end; both have written results.
fn running() -> (Place, [Live; 2]) {
    let place = Place::new();
    hostfile(&place);
    let endless = config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]")
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s");
    place.write("c.yaml", endless);
    let processes = [start(&place, 0, 1), start(&place, 1, 1)];
    for name in ["r.jsonl", "r.1.jsonl"] {
        eventually("result", || match std::fs::read_to_string(place.path(name)) {
            Ok(text) if text.lines().count() > 5 => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        });
    }
    (place, processes)
}

#[test]
fn one_that_is_stopped_ends_in_order_and_the_other_asks_to_be_started_again() {
    let (_place, [mut stopped, mut left]) = running();
    stopped.signal(libc::SIGTERM);
    let (code, err) = stopped.end_within(ORDERLY);
    assert_eq!(code, Some(0), "{err}");
    let (code, err) = left.end_within(ORDERLY);
    assert_eq!(code, Some(75), "{err}");
    assert_eq!(err.matches("peer lost: ").count(), 1, "told once: {err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn both_that_are_stopped_end_in_order() {
    let (_place, mut processes) = running();
    processes.iter().for_each(|process| process.signal(libc::SIGTERM));
    for process in &mut processes {
        let (code, err) = process.end_within(ORDERLY);
        assert_eq!(code, Some(0), "{err}");
        assert!(!err.contains("panicked"), "{err}");
    }
}

#[test]
fn one_that_is_killed_takes_the_other_down_whether_that_is_stopping_or_not() {
    for stopping in [false, true] {
        let (_place, [mut left, mut killed]) = running();
        if stopping {
            left.signal(libc::SIGTERM);
        }
        killed.signal(libc::SIGKILL);
        let (code, err) = left.end_within(ORDERLY);
        // One that was stopping may have been through already, or not.
        assert!(code == Some(75) || stopping && code == Some(0), "{stopping} {code:?}: {err}");
        assert!(!err.contains("panicked"), "{err}");
        let _ = killed.end_within(ORDERLY);
    }
}

#[test]
fn one_that_does_not_run_is_noticed_and_one_that_was_away_for_a_moment_is_not() {
    let place = Place::new();
    hostfile(&place);
    let endless = config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]")
        .replace("size: 1m", "size: 100ms")
        .replace("max_out_of_orderness: 10s", "max_out_of_orderness: 0s");
    place.write("c.yaml", endless + "  cluster: {failure_timeout: 4s}\n");
    let [mut left, mut stopped] = [start(&place, 0, 1), start(&place, 1, 1)];
    let written = || std::fs::metadata(place.path("r.jsonl")).map_or(0, |file| file.len());
    let wait_for_more = || {
        let before = written();
        eventually("further result", || if written() > before { Ok(()) } else { Err(left.err()) });
    };
    wait_for_more();
    stopped.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    stopped.signal(libc::SIGCONT);
    std::thread::sleep(Duration::from_secs(3));
    wait_for_more();
    stopped.signal(libc::SIGSTOP);
    let begun = Instant::now();
    let (code, err) = left.end_within(Duration::from_secs(4) + ORDERLY);
    let took = begun.elapsed();
    assert_eq!(code, Some(75), "{err}");
    assert!(err.contains("peer lost: nothing was heard of process 1 (127.0.0.1:"), "{err}");
    assert!(took > Duration::from_secs(3), "{took:?}");
    stopped.signal(libc::SIGCONT);
    let (code, err) = stopped.end_within(ORDERLY);
    assert_eq!(code, Some(75), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn one_that_waits_for_the_other_can_be_stopped() {
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("stdin", "[{type: stdout}]"));
    for process in [0, 1] {
        let mut waiting = start(&place, process, 1);
        waiting.wait_for("waiting for the other processes");
        waiting.signal(libc::SIGTERM);
        let (code, err) = waiting.end_within(Duration::from_secs(3));
        assert_eq!(code, Some(0), "{err}");
    }
}

/// The CPU time of a process so far, in clock ticks, of which a second has a hundred.
fn ticks(process: &Live) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).expect("it is there");
    let (_, figures) = stat.rsplit_once(") ").expect("the name is in brackets");
    figures.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// Between events a process does what it does some times a second: pulses, pages, the log. In a release build that is less than 1 % of
/// a core (the benches have the figure); this one is slower, and other tests take its caches: 4 %. One that spins takes 100.
#[test]
fn processes_without_events_take_next_to_no_cpu() {
    const SECONDS: u64 = 10;
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("stdin", "[{type: stdout}]").replace("{enabled: false}", "{listen: \"127.0.0.1:0\"}"));
    let processes = [start(&place, 0, 2), start(&place, 1, 2)];
    processes.iter().for_each(|process| drop(process.wait_for("pages on http://")));
    std::thread::sleep(Duration::from_secs(3));
    let before = processes.each_ref().map(ticks);
    std::thread::sleep(Duration::from_secs(SECONDS));
    for (process, before) in processes.iter().zip(before) {
        let taken = ticks(process) - before;
        assert!(taken <= 4 * SECONDS, "{taken} hundredths of a second in {SECONDS} s: {}", process.err());
    }
}

#[test]
fn one_that_was_started_differently_is_told_so() {
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("stdin", "[{type: stdout}]"));
    let mut first = start(&place, 0, 1);
    let (code, err) = start(&place, 1, 2).end_within(ORDERLY);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("refused: process 1 was started with -n 2 -w 2, process 0 with -n 2 -w 1"), "{err}");
    first.wait_for("refused a call from");
    first.signal(libc::SIGTERM);
    assert_eq!(first.end_within(ORDERLY).0, Some(0));
}

#[test]
fn who_does_not_know_the_secret_stays_out_and_the_others_find_each_other() {
    let place = Place::new();
    hostfile(&place);
    place.write("c.yaml", config("{type: generator, count: 2000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]"));
    place.write("secret", "the processes of this job know it\n");
    place.write("other", "and nobody else knows this");
    place.write("short", "too short");
    let start_knowing = |process: &str, file: &str, patience: &str| {
        let arguments = ["--config", "c.yaml", "-w", "1", "-n", "2", "-p", process, "-h", "hosts"];
        let mut command = place.command(&arguments);
        command.env("PROCESSOR_CLUSTER__SECRET_FILE", file).env("PROCESSOR_CLUSTER__CONNECT_TIMEOUT", patience);
        Live::start(&mut command)
    };
    let (code, err) = start_knowing("0", "short", "1s").end_within(ORDERLY);
    assert!(code == Some(2) && err.contains("cluster.secret_file short holds 9 bytes"), "{code:?} {err}");
    let (code, err) = start_knowing("0", "absent", "1s").end_within(ORDERLY);
    assert!(code == Some(2) && err.contains("cannot read cluster.secret_file absent"), "{code:?} {err}");
    let mut first = start_knowing("0", "secret", "6s");
    first.wait_for("waiting for the other processes");
    let (code, err) = start_knowing("1", "other", "2s").end_within(ORDERLY);
    assert_eq!(code, Some(75), "{err}");
    assert!(err.contains("whoever answers there does not know the job's secret"), "{err}");
    let (code, err) = first.end_within(ORDERLY);
    assert_eq!(code, Some(75), "{err}");
    assert!(err.contains("after 6 s (cluster.connect_timeout) there is still no link to process 1"), "{err}");
    assert!(err.contains("refused a call from 127.0.0.1:"), "{err}");
    for process in &mut [start_knowing("0", "secret", "30s"), start_knowing("1", "secret", "30s")] {
        let (code, err) = process.end_within(Duration::from_secs(30));
        assert_eq!(code, Some(0), "{err}");
    }
}

#[test]
fn processes_of_several_machines_need_a_secret() {
    let place = Place::new();
    place.write("hosts", "127.0.0.1:2101\n192.0.2.1:2101");
    place.write("c.yaml", config("stdin", "[{type: stdout}]"));
    let (code, err) = start(&place, 0, 1).end_within(ORDERLY);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("process 1 (192.0.2.1:2101) is not on this machine's loopback interface"), "{err}");
    assert!(err.contains("PROCESSOR_CLUSTER__SECRET"), "{err}");
}

#[test]
fn standard_output_has_results_and_nothing_else() {
    let place = Place::new();
    hostfile(&place);
    let counted = config("{type: generator, count: 20000, disorder_secs: 0}", "[{type: stdout}]");
    place.write("c.yaml", counted);
    // The second waits for the first.
    let second = start(&place, 1, 1);
    std::thread::sleep(Duration::from_millis(700));
    let mut processes = [start(&place, 0, 1), second];
    let mut lines = 0;
    for process in &mut processes {
        let out = read_out(process);
        let (code, err) = process.end_within(Duration::from_secs(30));
        assert_eq!(code, Some(0), "{err}");
        for line in out.lines() {
            let result: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(result["op"], "upsert", "{line}");
            lines += 1;
        }
    }
    assert!(lines > 5, "{lines} results");
}

/// What rows between processes begin with.
const ROWS: &[u8] = b"rows/v1\n";

/// Passes on what is said to it to this address, and the answers, but for one bit of the first rows that it sees.
fn listen_and_garble(address: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let own = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            // Who is not there yet is called again by the caller.
            let Ok(callee) = TcpStream::connect(&address) else { continue };
            let back = (callee.try_clone().expect("a socket"), caller.try_clone().expect("a socket"));
            std::thread::spawn(move || pass_on(caller, callee, true));
            std::thread::spawn(move || pass_on(back.0, back.1, false));
        }
    });
    own
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, mut garbles: bool) {
    let mut space = vec![0; 1 << 16];
    while let Ok(count) = from.read(&mut space)
        && count > 0
    {
        let bytes = &mut space[..count];
        let rows = bytes.windows(ROWS.len()).position(|window| window == ROWS).filter(|_| garbles);
        if let Some(byte) = rows.and_then(|rows| bytes.get_mut(rows + ROWS.len())) {
            *byte ^= 1;
            garbles = false;
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    // Whoever still waits for more learns that there is none.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn rows_that_were_garbled_on_their_way_end_the_job_with_the_reason() {
    let place = Place::new();
    hostfile(&place);
    let hosts = place.read("hosts");
    let (first, second) = hosts.split_once('\n').expect("two lines");
    place.write("hosts-1", format!("{}\n{second}", listen_and_garble(first.to_owned())));
    place.write("c.yaml", config("{type: generator, rate: 3000, disorder_secs: 0}", "[{type: file, path: r.jsonl}]"));
    let mut receiver = start(&place, 0, 1);
    receiver.wait_for("waiting for the other processes");
    let arguments = ["--config", "c.yaml", "-w", "1", "-n", "2", "-p", "1", "-h", "hosts-1"];
    let mut sender = Live::start(&mut place.command(&arguments));
    let (code, err) = receiver.end_within(Duration::from_secs(30));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("rows that another process has sent cannot be read: "), "{err}");
    assert!(err.contains(" bytes where "), "{err}");
    assert!(!err.contains("panicked"), "{err}");
    let (code, err) = sender.end_within(ORDERLY);
    assert_eq!(code, Some(75), "{err}");
}
