//! `processor late-report`: which `max_out_of_orderness` the events so far would have needed.
//!
//! The model: the processes of a job are asked for `/lateness`; what they counted is added up, and the same arithmetic that
//! makes the page makes the report.

pub(super) mod page;
mod table;

use super::arguments::LateReportOptions;
use super::text::print;
use crate::config;
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use crate::event::PartitionName;
use crate::metrics::{LatenessRow, lateness_ladder};
use crate::time::Span;
use crate::time::disorder::Disorder;
use page::Page;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Asks the processor and prints the report.
pub fn late_report(options: &LateReportOptions) -> ProcessorResult<ExitCode> {
    let asked = options.bound.iter().map(|text| bound(text)).collect::<ProcessorResult<Vec<Span>>>()?;
    let mut addresses = options.url.iter().map(|url| page::base_url(url)).collect::<ProcessorResult<Vec<String>>>()?;
    if let Some(path) = &options.config {
        addresses.push(configured(path)?);
    }
    let pages = addresses.iter().map(|address| page::ask(address)).collect::<ProcessorResult<Vec<Page>>>()?;
    let report = Report::new(pages, &asked);
    let text = if options.json { format!("{:#}\n", report.to_json()) } else { table::render(&report, &asked) };
    print(&text)
}

fn bound(text: &str) -> ProcessorResult<Span> {
    let bound = config::parse_duration(text)
        .map_err(|problem| ProcessorError::Config(format!("--bound `{text}`: {problem}")))?;
    Ok(bound.into())
}

/// Where the job of a configuration shows its pages.
pub(super) fn configured(path: &Path) -> ProcessorResult<String> {
    let metrics = config::load(path, config::environment())?.config.metrics;
    let nowhere =
        |why: &str| Err(ProcessorError::Runtime(format!("{}: {why}, so there is no page to ask for", path.display())));
    if !metrics.enabled {
        return nowhere("metrics.enabled is false");
    }
    if metrics.listen.port() == 0 {
        return nowhere("metrics.listen has port 0, which is another port in each run; give --url http://HOST:PORT");
    }
    Ok(format!("http://{}", reachable(metrics.listen)))
}

/// An address that listens on every interface is reached on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What the processes have counted together.
struct Report {
    since: Option<String>,
    /// `None` where it is not known, or not the same in all processes.
    max_out_of_orderness: Option<Span>,
    partitions: Vec<(PartitionName, LatenessRow)>,
    total: LatenessRow,
}

impl Report {
    fn new(pages: Vec<Page>, asked: &[Span]) -> Self {
        let mut rules: Vec<Option<Span>> = pages.iter().map(|page| page.max_out_of_orderness).collect();
        rules.dedup();
        let max_out_of_orderness = if let [one] = rules[..] { one } else { None };
        let ladder = lateness_ladder(&[asked, max_out_of_orderness.as_slice()].concat());
        let since = pages.iter().map(|page| page.since.clone()).min();
        let mut total = Disorder::default();
        let mut partitions = Vec::new();
        for (name, disorder) in pages.into_iter().flat_map(|page| page.partitions) {
            total.merge(&disorder);
            partitions.push((name, LatenessRow::new(&disorder, &ladder)));
        }
        partitions.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self { since, max_out_of_orderness, partitions, total: LatenessRow::new(&total, &ladder) }
    }

    fn to_json(&self) -> Value {
        let partition = |(name, row): &(PartitionName, LatenessRow)| {
            let mut document = row.to_json();
            document["topic"] = (&*name.topic).into();
            document["partition"] = name.partition.into();
            document
        };
        json!({
            "since": self.since,
            "max_out_of_orderness_ms": self.max_out_of_orderness.map(Span::as_millis),
            "relative_error": Disorder::RELATIVE_ERROR,
            "total": self.total.to_json(),
            "partitions": self.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(max_out_of_orderness: i64, number: i32, behind: &[i64]) -> Page {
        let mut disorder = Disorder::default();
        for behind in behind {
            disorder.record(Span::from_millis(*behind), *behind > max_out_of_orderness);
        }
        Page {
            since: format!("2026-09-21T14:0{number}:00.000Z"),
            max_out_of_orderness: Some(Span::from_millis(max_out_of_orderness)),
            partitions: vec![(PartitionName { topic: "t".into(), partition: number }, disorder)],
        }
    }

    #[test]
    fn processes_add_up() {
        let report = Report::new(vec![page(100, 1, &[0, 50, 3_000]), page(100, 0, &[0])], &[Span::from_millis(7)]);
        assert_eq!(report.since.as_deref(), Some("2026-09-21T14:00:00.000Z"));
        assert_eq!(report.max_out_of_orderness, Some(Span::from_millis(100)));
        let numbers: Vec<i32> = report.partitions.iter().map(|(name, _)| name.partition).collect();
        assert_eq!((numbers, report.total.events, report.total.late), (vec![0, 1], 4, 1));
        let document = report.to_json();
        assert_eq!(document["total"]["late_with"][1], json!({"max_out_of_orderness_ms": 7, "late": 2, "share": 0.5}));
        assert_eq!(document["total"]["late_with"][2]["max_out_of_orderness_ms"], 100);
        assert_eq!(document["partitions"][1]["furthest_behind_ms"], 3_000);
    }

    #[test]
    fn processes_that_do_not_agree_have_no_bound_in_force() {
        assert_eq!(Report::new(vec![page(100, 0, &[]), page(200, 1, &[])], &[]).max_out_of_orderness, None);
    }

    #[test]
    fn every_interface_is_reached_on_the_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(
            ["0.0.0.0:8080", "[::]:1", "10.0.0.7:8080"].map(reached),
            ["127.0.0.1:8080", "[::1]:1", "10.0.0.7:8080"]
        );
    }
}
