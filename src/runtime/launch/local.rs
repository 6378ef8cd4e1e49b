//! Which processes of a job are this machine's.

use crate::error::{ProcessorError, ProcessorResult};
use std::net::{TcpListener, ToSocketAddrs};

/// The indices of the processes whose addresses are this machine's: those that can be listened at. The error names all addresses
/// where none is.
pub fn local_processes(addresses: &[String]) -> ProcessorResult<Vec<usize>> {
    let local: Vec<usize> = (0..addresses.len()).filter(|&process| is_local(&addresses[process])).collect();
    match local.is_empty() {
        false => Ok(local),
        true => Err(ProcessorError::Config(format!(
            "none of the job's addresses is this machine's: {}; the hostfile must have a line with a name or address of it",
            addresses.join(", ")
        ))),
    }
}

/// A name without an address is another machine's that is not up yet.
fn is_local(address: &str) -> bool {
    let Ok(mut found) = address.to_socket_addrs() else { return false };
    // At any port: the address's own may be taken by a process that is about to end.
    found.any(|address| TcpListener::bind((address.ip(), 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_found() {
        let addresses = ["198.51.100.1:2101", "127.0.0.1:2101", "no-such-host.invalid:2101", "localhost:2102"];
        assert_eq!(local_processes(&addresses.map(str::to_owned)).unwrap(), [1, 3]);
        let error = local_processes(&["198.51.100.1:2101".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("198.51.100.1:2101") && error.contains("hostfile"), "{error}");
    }
}
