//! Which workers there are, and where.
//!
//! The model: timely's own conventions. `-w` worker threads in each process, `-n` processes, `-p` this process's index, `-h` a
//! hostfile with one `host:port` a line, in the order of the indices; without one, loopback ports from 2101.

use crate::error::{ProcessorError, ProcessorResult};
use crate::sink::ProcessIdentity;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The port of process 0 where no hostfile is given; the others follow.
const FIRST_PORT: usize = 2101;

/// The workers of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    threads: NonZeroUsize,
    process: usize,
    addresses: Vec<String>,
    hostfile: Option<Hostfile>,
}

/// Where the addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hostfile {
    path: PathBuf,
    /// The lines that processes have, from 1.
    lines: Vec<usize>,
    /// The first line with an address that no process has.
    beyond: Option<usize>,
}

impl Topology {
    /// One process with this many workers.
    pub fn single(threads: NonZeroUsize) -> Self {
        Self { threads, process: 0, addresses: vec!["localhost".into()], hostfile: None }
    }

    /// Process number `process` of `processes`; the hostfile's lines must be as many.
    ///
    /// Errors name the option or the line of the hostfile that is wrong, and what would be right.
    pub fn new(
        threads: NonZeroUsize,
        processes: usize,
        process: usize,
        hostfile: Option<&Path>,
    ) -> ProcessorResult<Self> {
        if processes == 0 {
            return Err(ProcessorError::Config("-n 0: a job has at least one process".into()));
        }
        if process >= processes {
            return Err(ProcessorError::Config(format!(
                "-p {process}: with -n {processes} a process's index is between 0 and {}",
                processes - 1
            )));
        }
        let (addresses, hostfile) = match hostfile {
            Some(path) => read_hostfile(path, processes).map(|(addresses, hostfile)| (addresses, Some(hostfile)))?,
            None => ((0..processes).map(|index| format!("localhost:{}", FIRST_PORT + index)).collect(), None),
        };
        Ok(Self { threads, process, addresses, hostfile })
    }

    /// Worker threads of each process.
    pub fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Workers of all processes.
    pub fn peers(&self) -> usize {
        self.threads.get() * self.addresses.len()
    }

    /// Whether there are other processes.
    pub fn is_cluster(&self) -> bool {
        self.addresses.len() > 1
    }

    /// This process.
    pub fn process(&self) -> ProcessIdentity {
        ProcessIdentity { index: self.process, count: self.addresses.len() }
    }

    /// The addresses of all processes, by their indices.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// For people: where the address of a process is written; `None` without a hostfile.
    pub fn place_of(&self, process: usize) -> Option<String> {
        let Hostfile { path, lines, .. } = self.hostfile.as_ref()?;
        Some(format!("line {} of {}", lines.get(process)?, path.display()))
    }

    /// For people: what of the hostfile takes no part in the job, where that may be a mistake.
    pub fn warning(&self) -> Option<String> {
        let Hostfile { path, beyond, .. } = self.hostfile.as_ref()?;
        let (line, processes) = ((*beyond)?, self.addresses.len());
        Some(format!(
            "{}: from line {line} on there are more addresses than -n {processes} has processes; those take no part",
            path.display()
        ))
    }

    #[cfg(test)]
    pub(super) fn of_addresses(threads: NonZeroUsize, process: usize, addresses: Vec<String>) -> Self {
        Self { threads, process, addresses, hostfile: None }
    }
}

fn read_hostfile(path: &Path, processes: usize) -> ProcessorResult<(Vec<String>, Hostfile)> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ProcessorError::Config(format!("cannot read the hostfile {}: {error}", path.display())))?;
    let mut found = parse_hostfile(&text, processes)
        .map_err(|problem| ProcessorError::Config(format!("{}:{problem}", path.display())))?;
    let beyond = found.get(processes).map(|(line, _)| *line);
    found.truncate(processes);
    let (lines, addresses) = found.into_iter().unzip();
    Ok((addresses, Hostfile { path: path.to_owned(), lines, beyond }))
}

/// The addresses of a hostfile with the numbers of their lines: as many as there are processes, or more. Empty lines and those that
/// begin with `#` do not count.
fn parse_hostfile(text: &str, processes: usize) -> Result<Vec<(usize, String)>, String> {
    let mut seen = BTreeMap::new();
    let mut addresses = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let (number, address) = (index + 1, line.trim());
        if address.is_empty() || address.starts_with('#') {
            continue;
        }
        let form = "a line is host:port, with a port between 1 and 65535";
        if is_host(address) && !address.contains(']') {
            return Err(format!("{number}: `{address}` has no port: {form}"));
        }
        let port = address.rsplit_once(':').filter(|(host, _)| is_host(host)).map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(port)) if port > 0 => {}
            _ => return Err(format!("{number}: `{address}`: {form}")),
        }
        if let Some(first) = seen.insert(address.to_ascii_lowercase(), number) {
            return Err(format!(
                "{number}: `{address}` is in line {first} already; each process has an address of its own"
            ));
        }
        addresses.push((number, address.to_owned()));
    }
    if addresses.len() < processes {
        return Err(format!(
            " -n {processes} processes need {processes} addresses, one a line, and there {}",
            match addresses.len() {
                0 => "is none".to_owned(),
                1 => "is 1".to_owned(),
                count => format!("are {count}"),
            }
        ));
    }
    Ok(addresses)
}

/// Whether this can be a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    let of = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| of(address, ":.%")),
        None => of(host, "-._"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostfile_is_read_line_by_line() {
        let text = "# ours\nlocalhost:2101\n\n[::1]:2102\nten.example:9\n";
        let expected = [(2, "localhost:2101"), (4, "[::1]:2102"), (5, "ten.example:9")];
        for processes in [2, 3] {
            let found = parse_hostfile(text, processes).unwrap();
            assert!(found.iter().map(|(line, address)| (*line, address.as_str())).eq(expected), "{found:?}");
        }
    }

    #[test]
    fn what_is_wrong_in_a_hostfile_is_named() {
        let problem = |text| parse_hostfile(text, 2).unwrap_err();
        assert!(problem("a:1\nb\n").starts_with("2: `b` has no port: a line is host:port"));
        assert!(problem("a:1\n[::1]\n").starts_with("2: `[::1]`: a line is host:port"));
        assert!(problem("a:1\nb:x\n").starts_with("2: `b:x`"));
        assert!(problem("a:1\n:7\n").starts_with("2: `:7`"));
        assert!(problem("a:1\na b:7\n").starts_with("2: `a b:7`: a line is host:port"));
        assert!(problem("a:1\n::1:7\n").starts_with("2: `::1:7`: a line is host:port"));
        assert!(problem("a:1\nb:0\n").starts_with("2: `b:0`"));
        let twice = problem("a:1\n\nA:1\n");
        assert_eq!(twice, "3: `A:1` is in line 1 already; each process has an address of its own");
        assert_eq!(problem("a:1\n"), " -n 2 processes need 2 addresses, one a line, and there is 1");
        assert_eq!(problem("# nobody\n"), " -n 2 processes need 2 addresses, one a line, and there is none");
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        let two = NonZeroUsize::new(2).unwrap();
        let problem = |n, p| Topology::new(two, n, p, None).unwrap_err().to_string();
        assert_eq!(problem(0, 0), "-n 0: a job has at least one process");
        assert_eq!(problem(2, 2), "-p 2: with -n 2 a process's index is between 0 and 1");
        let topology = Topology::new(two, 3, 1, None).unwrap();
        assert_eq!((topology.peers(), topology.threads(), topology.process().index), (6, 2, 1));
    }
}
