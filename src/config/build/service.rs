//! `metrics` and `logging`: what people and Prometheus see.

use super::millis;
use crate::config::model::{LoggingConfig, MetricsConfig};
use crate::config::raw::Node;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tracing_subscriber::EnvFilter;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Reads `metrics`.
pub(super) fn metrics(reader: &mut Reader, root: &Section<'_>) -> MetricsConfig {
    let section = reader.section(root, "metrics");
    let enabled = reader.flag(&section, "enabled", true);
    let listen =
        reader.setting(&section, "listen", DEFAULT_LISTEN, address, |address| values::quote(&address.to_string()));
    let export_interval = reader.duration(&section, "export_interval", Unit::Seconds, 10_000, 1);
    MetricsConfig { enabled: enabled.value, listen: listen.value, export_interval: millis(export_interval.value) }
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080` and `8080` are loopback too: a page is shown to the network only
/// where an address says so.
pub(super) fn address(node: &Node) -> Result<SocketAddr, Problem> {
    let wrong = || {
        Problem::expected(node, "an address and a port, such as 127.0.0.1:8080, or 0.0.0.0:8080 for every interface")
    };
    let text = node.scalar().filter(|_| !node.is_null()).ok_or_else(wrong)?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        _ => Err(wrong()),
    }
}

/// Reads `logging`.
pub(super) fn logging(reader: &mut Reader, root: &Section<'_>) -> LoggingConfig {
    let section = reader.section(root, "logging");
    let filter = reader.setting(&section, "filter", "info".to_owned(), filter, |filter| values::quote(filter));
    let json = reader.word(&section, "format", "log format", false, &[("text", false), ("json", true)]);
    LoggingConfig { filter: filter.value, json: json.value }
}

fn filter(node: &Node) -> Result<String, Problem> {
    const RIGHT: &str = "levels by target, such as info or info,frontier=debug";
    let text = values::text(node).map_err(|problem| Problem::expected(problem.found, RIGHT))?;
    match EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(Problem::expected(node, RIGHT)),
    }
}
