//! Conversations between a caller and a listener, over sockets of this machine.

use super::*;
use std::net::TcpListener;
use std::thread;

pub(in crate::runtime) const HELLO_BYTES: usize = super::HELLO_BYTES;
/// What a listener says before it is convinced.
pub(in crate::runtime) const LISTENERS_BYTES: usize = 2 * BYTES;

/// Of a process of the tests' job.
pub(in crate::runtime) fn profile(process: u32, processes: u32, threads: u32) -> Profile {
    Profile { process, processes, threads, build: [7; BYTES], job: [9; BYTES] }
}

/// What both come to: the listener, and the caller that means to call `called`.
fn converse(
    listener: (Profile, &Secret),
    caller: (Profile, u32, &Secret),
) -> (Result<usize, String>, Result<(), Unlinked>) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    let (own, secret) = (listener.0, listener.1.clone());
    let hearing = thread::spawn(move || hear(&mut door.accept().unwrap().0, &own, &secret));
    let mut socket = TcpStream::connect(address).unwrap();
    let greeted = greet(&mut socket, &caller.0, caller.1 as usize, caller.2);
    drop(socket);
    (hearing.join().unwrap(), greeted)
}

#[test]
fn two_that_know_the_secret_are_linked() {
    for secret in [Secret::new(*b"ours"), Secret::default()] {
        let (heard, greeted) = converse((profile(0, 3, 2), &secret), (profile(2, 3, 2), 0, &secret));
        assert_eq!((heard, greeted), (Ok(2), Ok(())));
    }
}

#[test]
fn who_does_not_know_the_secret_is_told_nothing() {
    let (ours, other) = (Secret::new(*b"ours"), Secret::new(*b"theirs"));
    let (heard, greeted) = converse((profile(0, 2, 1), &ours), (profile(1, 2, 1), 0, &other));
    let Err(Unlinked::NotYet(reason)) = greeted else { panic!("{greeted:?}") };
    assert_eq!(reason, "whoever answers there does not know the job's secret");
    assert!(heard.unwrap_err().starts_with("no greeting: "));
}

#[test]
fn what_differs_is_told_to_both() {
    let secret = Secret::new(*b"ours");
    let own = profile(1, 4, 2);
    let told = |caller: Profile, called| {
        let (heard, greeted) = converse((own, &secret), (caller, called, &secret));
        let reason = heard.unwrap_err();
        assert_eq!(greeted, Err(Unlinked::Refused(reason.clone())));
        reason
    };
    assert!(told(profile(2, 4, 3), 1).contains("process 2 was started with -n 4 -w 3, process 1 with -n 4 -w 2"));
    assert!(told(profile(2, 5, 2), 1).contains("with -n 5 -w 2, process 1 with -n 4 -w 2"));
    assert!(told(profile(2, 4, 2), 0).contains("process 2 has called process 0, and this is process 1"));
    for unexpected in [0, 1, 4, u32::MAX] {
        let reason = told(profile(unexpected, 4, 2), 1);
        assert_eq!(reason, format!("process {unexpected} is not expected to call process 1"));
    }
    let other_job = Profile { job: [8; BYTES], ..profile(2, 4, 2) };
    assert!(told(other_job, 1).starts_with("process 2 runs another job than process 1"));
    let other_build = Profile { build: [8; BYTES], ..profile(2, 4, 2) };
    assert!(told(other_build, 1).starts_with("process 2 is another build of the program than process 1"));
}

#[test]
fn every_bit_of_a_proof_counts() {
    let (own, secret) = (profile(0, 2, 1), Secret::new(*b"ours"));
    for bit in [0, 100, 8 * BYTES - 1] {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = door.local_addr().unwrap();
        let knows = secret.clone();
        let hearing = thread::spawn(move || hear(&mut door.accept().unwrap().0, &own, &knows));
        let mut socket = TcpStream::connect(address).unwrap();
        let hello = Hello { caller: profile(1, 2, 1), called: 0, random: [3; BYTES] }.encode();
        socket.write_all(&hello).unwrap();
        let mut said = [[0; BYTES]; 2];
        said.iter_mut().for_each(|bits| socket.read_exact(bits).unwrap());
        // What the listener has said of itself is no proof of the caller's.
        let mut proof: Bits = secret.proof(CALLER, &hello, &said[0]).finalize().into_bytes().into();
        assert_ne!(proof, said[1]);
        proof[bit / 8] ^= 1 << (bit % 8);
        socket.write_all(&proof).unwrap();
        assert_eq!(hearing.join().unwrap(), Err("the caller does not know the job's secret".into()));
    }
}

#[test]
fn a_hello_comes_back_as_it_was() {
    let hello = Hello { caller: profile(1, 2, 3), called: 4, random: [5; BYTES] };
    assert_eq!(Hello::decode(&hello.encode()), hello);
    let mut old = hello.encode();
    old[7] = 1;
    let error = check_magic(old[..8].try_into().unwrap()).unwrap_err();
    assert_eq!(error, "the caller speaks version 1 of the greeting, this process 4");
}

#[test]
fn jobs_and_builds_are_told_apart() {
    assert_ne!(job(["ab", "c"]), job(["a", "bc"]));
    assert_eq!(build().unwrap(), build().unwrap());
    assert_eq!(format!("{:?}", Secret::new(*b"ours")), "Secret(***)");
}
