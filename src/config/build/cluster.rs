//! `cluster`: how several processes of the job find each other.

use super::{millis, service};
use crate::config::model::{ClusterConfig, LEAST_SECRET, SharedSecret};
use crate::config::raw::Node;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use std::net::SocketAddr;
use std::path::PathBuf;

const DEFAULT_CONNECT_MILLIS: i64 = 300_000;
const DEFAULT_FAILURE_MILLIS: i64 = 10_000;
/// A network may take a second to find another way.
const LEAST_FAILURE_MILLIS: i64 = 1_000;

/// Any port but 0, which nobody could call.
fn listen(node: &Node) -> Result<SocketAddr, Problem> {
    let right = "an address and a port that the other processes can call, such as 0.0.0.0:2101";
    service::address(node).ok().filter(|address| address.port() > 0).ok_or_else(|| Problem::expected(node, right))
}

/// Reads `cluster`.
pub(super) fn build(reader: &mut Reader, root: &Section<'_>) -> ClusterConfig {
    let section = reader.section(root, "cluster");
    let secret = reader.optional_text(&section, "secret", None);
    let secret_file = reader.optional_text(&section, "secret_file", None);
    let listen = reader.optional(&section, "listen", None, listen, |address| values::quote(&address.to_string()));
    let connect_timeout = reader.duration(&section, "connect_timeout", Unit::Seconds, DEFAULT_CONNECT_MILLIS, 1);
    let failure_timeout =
        reader.duration(&section, "failure_timeout", Unit::Seconds, DEFAULT_FAILURE_MILLIS, LEAST_FAILURE_MILLIS);
    if let Some(text) = &secret.value
        && text.len() < LEAST_SECRET
    {
        let right = format!("at least {LEAST_SECRET}, such as what `openssl rand -hex 32` prints");
        reader.error(
            &secret.origin,
            &secret.path,
            Problem::expected(format!("a secret of {} bytes", text.len()), right),
        );
    }
    if secret.value.is_some() && secret_file.value.is_some() {
        let problem = Problem::new("written, and cluster.secret too", "leave one of them out");
        reader.error(&secret_file.origin, &secret_file.path, problem);
    }
    ClusterConfig {
        secret: secret.value.map(SharedSecret),
        secret_file: secret_file.value.map(PathBuf::from),
        listen: listen.value,
        connect_timeout: millis(connect_timeout.value),
        failure_timeout: millis(failure_timeout.value),
    }
}
