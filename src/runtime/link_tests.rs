use super::*;
use crate::runtime::handshake::{Profile, Secret};
use std::net::TcpListener;

const FAILURE: Duration = Duration::from_millis(1_000);

fn terms() -> Terms {
    let profile = Profile { process: 0, processes: 2, threads: 1, build: [0; 32], job: [0; 32] };
    Terms {
        profile,
        secret: Secret::default(),
        listen: None,
        connect_timeout: FAILURE,
        failure_timeout: FAILURE,
        opening: Arc::default(),
        news: None,
        control: Control::new(),
    }
}

fn sockets() -> [TcpStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    [one, listener.accept().unwrap().0]
}

/// A link, and the socket of the other side.
fn link() -> (Link, TcpStream) {
    let [own, other] = sockets();
    (Link::over(own, 1, &terms(), Departures::default()).unwrap(), other)
}

#[test]
fn what_is_written_is_read_whatever_the_pieces_and_between_pulses() {
    let [one, two] = sockets();
    let mut write = Link::over(one, 1, &terms(), Departures::default()).unwrap();
    let departures = Departures::default();
    let mut read = Link::over(two, 0, &terms(), departures.clone()).unwrap().try_clone().unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let expected = sent.clone();
    let writing = std::thread::spawn(move || {
        let (mut rest, mut size) = (&sent[..], 1);
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(size.min(rest.len()));
            write.write_all(piece).unwrap();
            (rest, size) = (left, size * 3 % 200_003);
        }
        std::thread::sleep(FAILURE / 2);
        write.write_all(b"end").unwrap();
        write.shutdown(Shutdown::Write).unwrap();
    });
    let (mut found, mut space, mut size) = (Vec::new(), vec![0; 100_000], 1);
    loop {
        let most = space.len().min(size);
        match read.read(&mut space[..most]).unwrap() {
            0 => break,
            count => found.extend_from_slice(&space[..count]),
        }
        size = size * 5 % 99_991;
    }
    writing.join().unwrap();
    assert!(found == [&expected[..], b"end"].concat());
    assert_eq!(departures.first().unwrap().0, 0, "the end is noticed");
}

#[test]
fn a_peer_that_is_idle_is_heard_and_one_that_is_gone_is_not() {
    let [one, two] = sockets();
    let idle = Link::over(one, 1, &terms(), Departures::default()).unwrap();
    let mut listening = Link::over(two, 0, &terms(), Departures::default()).unwrap();
    let mut silence = Silence::of(listening.pulses());
    std::thread::spawn(move || listening.read(&mut [0]));
    let look_for = |silence: &mut Silence, time: Duration| {
        let begun = Instant::now();
        let mut longest = Duration::ZERO;
        while begun.elapsed() < time {
            std::thread::sleep(Duration::from_millis(20));
            longest = longest.max(silence.look());
        }
        longest
    };
    let longest = look_for(&mut silence, FAILURE * 2);
    assert!(longest < FAILURE, "{longest:?}");
    idle.shutdown(Shutdown::Write).unwrap();
    let longest = look_for(&mut silence, FAILURE * 2);
    assert!(longest >= FAILURE, "{longest:?}");
}

#[test]
fn what_a_process_tells_is_heard_beside_what_is_sent() {
    let (hearing, heard) = std::sync::mpsc::channel();
    let tells = |text: &'static [u8], hear: Arc<Hear>| Terms {
        news: Some(News { tell: Arc::new(|| text.to_vec()), hear }),
        ..terms()
    };
    let [one, two] = sockets();
    let mut write = Link::over(one, 1, &tells(b"well", Arc::new(|_, _| {})), Departures::default()).unwrap();
    let hear = Arc::new(move |process, text: &[u8]| hearing.send((process, text.to_vec())).unwrap());
    let mut read = Link::over(two, 7, &tells(b"", hear), Departures::default()).unwrap();
    let reading = std::thread::spawn(move || {
        let mut found = Vec::new();
        read.read_to_end(&mut found).map(|_| found)
    });
    write.write_all(b"before").unwrap();
    std::thread::sleep(FAILURE);
    write.write_all(b" and after").unwrap();
    write.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), b"before and after");
    let heard: Vec<(usize, Vec<u8>)> = heard.try_iter().collect();
    assert!(heard.len() > 1 && heard.iter().all(|news| *news == (7, b"well".to_vec())), "{heard:?}");
}

#[test]
fn time_in_which_this_process_did_not_look_is_nobodys_silence() {
    let mut silence = Silence::of(Pulses(Arc::default()));
    std::thread::sleep(LONGEST_LOOK * 3);
    assert!(silence.look() <= LONGEST_LOOK);
    std::thread::sleep(LONGEST_LOOK / 5);
    assert!(silence.look() <= LONGEST_LOOK * 2);
}

#[test]
fn what_is_no_frame_is_an_error_and_never_too_much_memory() {
    let (mut read, mut other) = link();
    other.write_all(&u32::MAX.to_le_bytes()).unwrap();
    let error = read.read(&mut [0; 8]).unwrap_err();
    assert!(error.to_string().contains("process 1 says that 2147483647 bytes follow"), "{error}");
    for cut in [&[9][..], &[9, 0, 0, 0], &[9, 0, 0, 0, 1, 2]] {
        let (mut read, mut other) = link();
        other.write_all(cut).unwrap();
        drop(other);
        let mut found = Vec::new();
        assert!(read.read_to_end(&mut found).is_err(), "{cut:?}");
        assert_eq!(found, cut.get(4..).unwrap_or_default());
    }
}
