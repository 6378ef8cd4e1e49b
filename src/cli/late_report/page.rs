//! Asking a processor for `/lateness`, and reading what it says.
//!
//! How it fails: with one line that says what was asked, what was wrong and what to do.

use crate::error::{ProcessorError, ProcessorResult};
use crate::event::PartitionName;
use crate::time::Span;
use crate::time::disorder::Disorder;
use serde::Deserialize;
use std::time::Duration;

/// How long a processor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any job's page is.
const LARGEST: u64 = 256 * 1024 * 1024;

/// What one process says.
pub struct Page {
    /// When it started.
    pub since: String,
    /// The bound in force.
    pub max_out_of_orderness: Option<Span>,
    /// What it counted, by partition.
    pub partitions: Vec<(PartitionName, Disorder)>,
}

/// The page as it is written.
#[derive(Deserialize)]
struct Document {
    since: String,
    max_out_of_orderness_ms: Option<i64>,
    partitions: Vec<Partition>,
}

#[derive(Deserialize)]
struct Partition {
    topic: String,
    partition: i32,
    late: u64,
    furthest_behind_ms: i64,
    buckets: Vec<(i64, u64)>,
}

/// `http://host:port` of what a person wrote: with or without the scheme, and with or without a path.
pub fn base_url(text: &str) -> ProcessorResult<String> {
    let wrong =
        || ProcessorError::Config(format!("--url `{text}`: the address of the pages, such as http://localhost:8080"));
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err(wrong()),
        None => text,
    };
    let host = rest.split('/').next().unwrap_or_default();
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, '?' | '#' | '@'));
    if is_host { Ok(format!("http://{host}")) } else { Err(wrong()) }
}

/// Asks the processor at `http://host:port`.
pub fn ask(base: &str) -> ProcessorResult<Page> {
    let body = get(base, "/lateness")?;
    read(&body).map_err(|problem| no_page(base, "/lateness", &problem))
}

/// The body of a page of the processor at `http://host:port`.
pub fn get(base: &str, path: &str) -> ProcessorResult<Vec<u8>> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
    let silent = |error: &dyn std::fmt::Display| {
        ProcessorError::Runtime(format!(
            "no processor answers on {base}: {error}; is one running, and is this its metrics.listen?"
        ))
    };
    let mut response = agent.get(format!("{base}{path}")).call().map_err(|error| silent(&error))?;
    let status = response.status();
    let body = response.body_mut().with_config().limit(LARGEST).read_to_vec().map_err(|error| silent(&error))?;
    if !status.is_success() {
        return Err(no_page(base, path, &format!("it answers with {status}")));
    }
    Ok(body)
}

fn no_page(base: &str, path: &str, problem: &str) -> ProcessorError {
    ProcessorError::Runtime(format!(
        "{base}{path} is not a page of this processor: {problem}; something else may listen there, or another version"
    ))
}

fn read(body: &[u8]) -> Result<Page, String> {
    let document: Document = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let partition = |partition: Partition| {
        let buckets = partition.buckets.into_iter().map(|(up_to, count)| (Span::from_millis(up_to), count));
        let greatest = Span::from_millis(partition.furthest_behind_ms);
        let name = PartitionName { topic: partition.topic.as_str().into(), partition: partition.partition };
        (name, Disorder::from_buckets(buckets, greatest, partition.late))
    };
    Ok(Page {
        since: document.since,
        max_out_of_orderness: document.max_out_of_orderness_ms.map(Span::from_millis),
        partitions: document.partitions.into_iter().map(partition).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for text in ["localhost:8080", "http://localhost:8080", "http://localhost:8080/", "localhost:8080/lateness"] {
            assert_eq!(base_url(text).unwrap(), "http://localhost:8080", "{text}");
        }
        for text in ["", "http://", "https://localhost", "ftp://x", "a b", "user@host"] {
            let error = base_url(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--url `{text}`: ")), "{error}");
        }
    }

    #[test]
    fn a_page_comes_back_as_it_was_counted() {
        let body =
            br#"{"now":"n","since":"s","phase":"running","max_out_of_orderness_ms":30000,"relative_error":0.03125,
            "total":{},"partitions":[{"topic":"t","partition":3,"worker":0,"events":4,"late":1,"late_share":0.25,
            "furthest_behind_ms":1000,"buckets":[[0,3],[1007,1]]}]}"#;
        let page = read(body).unwrap();
        let (name, disorder) = &page.partitions[0];
        assert_eq!((name.to_string().as_str(), disorder.events(), disorder.late()), ("t[3]", 4, 1));
        assert_eq!(disorder.greatest().as_millis(), 1_000);
        assert_eq!(page.max_out_of_orderness, Some(Span::from_secs(30)));
        assert!(read(b"<html>").is_err() && read(b"{}").is_err());
    }
}
