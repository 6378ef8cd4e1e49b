//! Processes that find each other, and what calls besides.

use super::*;
use crate::runtime::handshake::tests::{HELLO_BYTES, LISTENERS_BYTES, profile};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::thread;

/// Those of a job whose processes have this many threads.
fn terms(topology: &Topology) -> Terms {
    let process = topology.process();
    let profile = profile(process.index as u32, process.count as u32, topology.threads() as u32);
    Terms {
        profile,
        secret: Secret::new(*b"nobody knows it"),
        listen: None,
        connect_timeout: Duration::from_secs(30),
        failure_timeout: Duration::from_secs(10),
        opening: Arc::new(format!("process {} has this", process.index).into_bytes()),
        news: None,
        control: Control::new(),
    }
}

fn connect_to_all(topology: &Topology, control: &Control) -> ProcessorResult<Option<Vec<Option<Link>>>> {
    let met = connect(topology, &terms(topology), control, &Departures::default())?;
    Ok(met.map(|Met { links, openings }| {
        let told: Vec<String> = (0..links.len()).map(|process| format!("process {process} has this")).collect();
        assert_eq!(openings, told.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        links
    }))
}

fn free_addresses<const N: usize>() -> [String; N] {
    kafka_broker::process::free_addresses(N).try_into().expect("as many as asked for")
}

fn topology(threads: usize, process: usize, addresses: &[String]) -> Topology {
    Topology::of_addresses(NonZeroUsize::new(threads).unwrap(), process, addresses.to_vec())
}

fn link(topology: Topology, control: &Control) -> thread::JoinHandle<ProcessorResult<Option<Vec<Option<Link>>>>> {
    let control = control.clone();
    thread::spawn(move || connect_to_all(&topology, &control))
}

#[test]
fn processes_find_each_other_whatever_calls_besides() {
    let (addresses, control) = (free_addresses::<3>(), Control::new());
    let first = link(topology(2, 0, &addresses), &control);
    thread::sleep(Duration::from_millis(50));
    // A scanner, somebody who says nothing, and another program.
    drop(TcpStream::connect(&addresses[0]).unwrap());
    let silent = TcpStream::connect(&addresses[0]).unwrap();
    TcpStream::connect(&addresses[0]).unwrap().write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let others = [2, 1].map(|process| link(topology(2, process, &addresses), &control));
    let linked = |found: ProcessorResult<Option<Vec<Option<Link>>>>| -> Vec<Option<usize>> {
        found.unwrap().unwrap().iter().map(|link| link.as_ref().map(|link| link.process())).collect()
    };
    assert_eq!(linked(first.join().unwrap()), [None, Some(1), Some(2)]);
    let [third, second] = others.map(|other| linked(other.join().unwrap()));
    assert_eq!((second, third), (vec![Some(0), None, Some(2)], vec![Some(0), Some(1), None]));
    drop(silent);
}

#[test]
fn a_process_of_another_job_is_told_what_differs() {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let first = link(topology(2, 0, &addresses), &control);
    let other = connect_to_all(&topology(3, 1, &addresses), &Control::new()).unwrap_err();
    assert_eq!(
        other.to_string(),
        format!(
            "process 0 ({}) refused: process 1 was started with -n 2 -w 3, process 0 with -n 2 -w 2; all processes of \
             a job need the same",
            addresses[0]
        )
    );
    control.stop();
    assert!(first.join().unwrap().unwrap().is_none(), "the end was asked for");
}

#[test]
fn waiting_ends_when_it_is_asked_to() {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let waiting = link(topology(1, 1, &addresses), &control);
    thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    control.stop();
    assert!(waiting.join().unwrap().unwrap().is_none());
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn an_address_of_another_machine_is_no_place_to_listen() {
    let addresses = ["203.0.113.1:2101".to_owned(), "127.0.0.1:2102".to_owned()];
    let error = connect_to_all(&topology(1, 0, &addresses), &Control::new()).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 203.0.113.1:2101, the address of process 0: "), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("# ours\n\n{}", addresses.join("\n"))).unwrap();
    let read = Topology::new(NonZeroUsize::MIN, 2, 0, Some(file.path())).unwrap();
    let error = connect_to_all(&read, &Control::new()).unwrap_err().to_string();
    let place =
        format!("line 3 of {}: cannot listen on 203.0.113.1:2101, the address of process 0: ", file.path().display());
    assert!(error.starts_with(&place) && error.contains("; that line must name this machine: "), "{error}");
}

#[test]
fn a_process_may_listen_elsewhere_than_at_its_name() {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let port = addresses[0].parse::<SocketAddr>().unwrap().port();
    let (first, second) = (topology(1, 0, &["no-such-name.invalid:1".to_owned(), addresses[1].clone()]), &addresses);
    let listening = Terms { listen: Some(([0, 0, 0, 0], port).into()), ..terms(&first) };
    let waiting = {
        let (first, control) = (first.clone(), control.clone());
        thread::spawn(move || connect(&first, &listening, &control, &Departures::default()))
    };
    let second = connect_to_all(&topology(1, 1, second), &control).unwrap().unwrap();
    assert!(second[0].is_some() && waiting.join().unwrap().unwrap().unwrap().links[1].is_some());

    let elsewhere = Terms { listen: Some(([203, 0, 113, 1], port).into()), ..terms(&first) };
    let error = connect(&first, &elsewhere, &control, &Departures::default()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("cannot listen on 203.0.113.1:{port} (cluster.listen): ")),
        "{error}"
    );
    let open = Terms { listen: Some(([0, 0, 0, 0], port).into()), secret: Secret::default(), ..terms(&first) };
    let error = connect(&topology(1, 0, &addresses), &open, &control, &Departures::default()).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("process 0 (0.0.0.0:{port}) is not on this machine's loopback interface")),
        "{error}"
    );
}

#[test]
fn a_peer_that_leaves_is_noticed() {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let departures = Departures::default();
    let other = link(topology(1, 1, &addresses), &control);
    let topology = topology(1, 0, &addresses);
    let Met { mut links, .. } = connect(&topology, &terms(&topology), &control, &departures).unwrap().unwrap();
    assert_eq!(departures.first(), None);
    drop(other.join().unwrap());
    let read = links[1].as_mut().unwrap().read(&mut [0]);
    assert_eq!(read.unwrap(), 0);
    assert_eq!(departures.first().unwrap().0, 1);
}

/// Keeps process 0 of two waiting, lets `hostile` loose on it, then starts process 1. Both must find each other.
fn forms_in_spite_of(hostile: impl FnOnce(&str)) {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let first = link(topology(1, 0, &addresses), &control);
    thread::sleep(Duration::from_millis(150));
    hostile(&addresses[0]);
    let begun = Instant::now();
    let second = connect_to_all(&topology(1, 1, &addresses), &control).unwrap().unwrap();
    assert_eq!((second[0].as_ref().unwrap().process(), second[1].is_none()), (0, true));
    assert_eq!(first.join().unwrap().unwrap().unwrap()[1].as_ref().unwrap().process(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn a_thousand_silent_connections_keep_nobody_out() {
    let mut silent = Vec::new();
    forms_in_spite_of(|address| silent.extend((0..1_000).map(|_| TcpStream::connect(address).unwrap())));
    drop(silent);
}

#[test]
fn one_byte_a_second_keeps_nobody_out() {
    forms_in_spite_of(|address| {
        let mut socket = TcpStream::connect(address).unwrap();
        thread::spawn(move || {
            for byte in b"llmproc\x04 and so on and so on" {
                if socket.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
    });
}

#[test]
fn garbage_of_every_length_keeps_nobody_out() {
    forms_in_spite_of(|address| {
        for length in [1, 7, 8, 9, HELLO_BYTES - 1, HELLO_BYTES, HELLO_BYTES + 1, 1 << 16] {
            let mut socket = TcpStream::connect(address).unwrap();
            let garbage: Vec<u8> = (0..length).map(|place| (place * 31 + length) as u8).collect();
            // It may be refused while it is being written.
            let _ = socket.write_all(&garbage);
            let mut begun_as_it_should = b"llmproc\x04".to_vec();
            begun_as_it_should.extend(garbage);
            let _ = TcpStream::connect(address).unwrap().write_all(&begun_as_it_should);
        }
    });
}

/// What passes between a caller and a listener that have linked, by side.
fn recorded() -> (Vec<u8>, Vec<u8>) {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = [proxy.local_addr().unwrap().to_string(), addresses[1].clone()];
    let first = link(topology(1, 0, &addresses), &control);
    let second = link(topology(1, 1, &through), &control);
    let (caller, _) = proxy.accept().unwrap();
    let listener = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(20));
        TcpStream::connect(&addresses[0]).ok()
    });
    let listener = listener.expect("it listens");
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let (mut all, mut space) = (Vec::new(), [0; 1024]);
            while let Ok(count @ 1..) = from.read(&mut space) {
                all.extend_from_slice(&space[..count]);
                to.write_all(&space[..count]).unwrap();
            }
            let _ = to.shutdown(Shutdown::Write);
            all
        })
    };
    let there = copy(caller.try_clone().unwrap(), listener.try_clone().unwrap());
    let back = copy(listener, caller);
    let links = (first.join().unwrap().unwrap().unwrap(), second.join().unwrap().unwrap().unwrap());
    drop(links);
    (there.join().unwrap(), back.join().unwrap())
}

#[test]
fn what_was_recorded_convinces_nobody() {
    let (callers, listeners) = recorded();
    let opening = 4 + "process 0 has this".len();
    assert_eq!((callers.len(), listeners.len()), (HELLO_BYTES + 32 + 1 + opening, LISTENERS_BYTES + 2 + opening));
    forms_in_spite_of(|address| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(&callers).unwrap();
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
        assert_eq!(said.len(), LISTENERS_BYTES, "it is not welcome");
    });
    // The other way round: somebody is at the address of process 0.
    let fake = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [fake.local_addr().unwrap().to_string(), free_addresses::<1>()[0].clone()];
    let control = Control::new();
    let caller = link(topology(1, 1, &addresses), &control);
    let (mut socket, _) = fake.accept().unwrap();
    socket.write_all(&listeners).unwrap();
    let mut said = Vec::new();
    let _ = socket.read_to_end(&mut said);
    assert_eq!(said.len(), HELLO_BYTES, "it proves nothing to who has proved nothing");
    control.stop();
    assert!(caller.join().unwrap().unwrap().is_none());
}

#[test]
fn another_secret_is_waited_for_and_named() {
    let (addresses, control) = (free_addresses::<2>(), Control::new());
    let first = link(topology(1, 0, &addresses), &control);
    let topology = topology(1, 1, &addresses);
    let other = Terms {
        secret: Secret::new(*b"something else"),
        connect_timeout: Duration::from_millis(1_200),
        ..terms(&topology)
    };
    let error = connect(&topology, &other, &Control::new(), &Departures::default()).unwrap_err();
    assert!(matches!(error, ProcessorError::PeerLost(_)), "{error}");
    assert!(error.to_string().contains("whoever answers there does not know the job's secret"), "{error}");
    // The right one still comes in.
    let second = connect_to_all(&topology, &control).unwrap().unwrap();
    assert!(second[0].is_some() && first.join().unwrap().unwrap().unwrap()[1].is_some());
}

#[test]
fn without_a_secret_processes_are_on_this_machine() {
    let with = |addresses: [&str; 2]| {
        let topology = topology(1, 0, &addresses.map(str::to_owned));
        let terms = Terms { secret: Secret::default(), ..terms(&topology) };
        connect(&topology, &terms, &Control::new(), &Departures::default()).unwrap_err().to_string()
    };
    for other in ["192.0.2.1:2101", "no-such-name.invalid:2101", "0.0.0.0:2101"] {
        let error = with(["127.0.0.1:2101", other]);
        assert!(error.contains(&format!("process 1 ({other}) is not on this machine's loopback interface")), "{error}");
        assert!(error.contains("cluster.secret_file"), "{error}");
    }
}
