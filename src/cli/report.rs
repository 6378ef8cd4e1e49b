//! What a run tells people at its start and its end: plain lines, or log records where the log is JSON.

use super::say;
use crate::config::{Loaded, Origin, ProcessorConfig, SinkConfig, SourceConfig, WindowKind};
use crate::error::{ProcessorError, ProcessorResult};
use crate::runtime::{Summary, Topology};
use crate::time::Span;
use std::io::IsTerminal;
use std::path::Path;

/// Whether results are drawn on the terminal that the log goes to as well.
fn draws_over_the_log(config: &ProcessorConfig) -> bool {
    config.sinks.contains(&SinkConfig::Console) && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Unless someone asked for more, only warnings interrupt a table that is drawn over itself.
pub fn quieten_under_a_table(loaded: &mut Loaded) {
    let asked = loaded.effective.origins().any(|(path, origin)| path == "logging.filter" && *origin != Origin::Default);
    if !asked && draws_over_the_log(&loaded.config) {
        loaded.config.logging.filter = "warn".into();
    }
}

/// Says to a person at a terminal what has begun, because the first results may take a while.
pub fn begin(config: &ProcessorConfig, topology: &Topology) {
    if config.logging.json || !std::io::stderr().is_terminal() {
        return;
    }
    say(beginning(config, topology));
}

fn beginning(config: &ProcessorConfig, topology: &Topology) -> String {
    let source = match &config.source {
        SourceConfig::Kafka => match &config.consumer {
            Some(consumer) => format!("kafka ({})", consumer.topics.join(", ")),
            None => "kafka".to_owned(),
        },
        SourceConfig::File { .. } => "files".to_owned(),
        SourceConfig::Stdin => "standard input".to_owned(),
        SourceConfig::Generator(_) => "the built-in generator".to_owned(),
    };
    let definitions = config.window_definitions();
    let windows: Vec<String> = definitions.iter().map(|definition| windows_of(definition.windows.kind)).collect();
    let workers = match topology.peers() {
        1 => "1 worker".to_owned(),
        many => format!("{many} workers"),
    };
    let mut text = format!("job {}: events from {source}, {}, {workers}", config.job, windows.join(" and "));
    if !matches!(config.source, SourceConfig::File { .. }) {
        text.push_str(&format!(
            "\na window closes when events {} later than its end have come",
            seconds(config.watermark.max_out_of_orderness)
        ));
    }
    if config.metrics.enabled && config.metrics.listen.port() != 0 {
        text.push_str(&format!("\npages on http://{}/", config.metrics.listen));
    }
    text.push_str("\nCtrl-C ends the run\n");
    text
}

fn windows_of(kind: WindowKind) -> String {
    match kind {
        WindowKind::Tumbling { size, .. } => format!("windows of {}", seconds(size)),
        WindowKind::Sliding { size, slide, .. } => format!("windows of {} every {}", seconds(size), seconds(slide)),
        WindowKind::Session { gap, .. } => format!("sessions with gaps of {}", seconds(gap)),
    }
}

fn seconds(span: Span) -> String {
    format!("{} s", span.as_millis() as f64 / 1e3)
}

/// What the run came to.
pub fn end(config: &ProcessorConfig, summary: &Summary) {
    if config.logging.json {
        say(record(summary));
        return;
    }
    if std::io::stderr().is_terminal() {
        // Below what the terminal has echoed of Ctrl-C, and below the table.
        say("");
    }
    say(summary);
}

/// Leaves what the run came to for whoever started it.
pub fn write_summary(path: &Path, summary: &Summary) -> ProcessorResult<()> {
    let text = serde_json::to_vec(summary).expect("counts are JSON, and a Vec takes all bytes");
    std::fs::write(path, text).map_err(|error| ProcessorError::io(format!("writing {}", path.display()), error))
}

/// Where the log is JSON, why a run failed is a record as well. Returns the error where it has not been told yet: what ends a
/// run that had begun is in the log, `told`, unless its filter leaves it out.
pub fn failed(config: &ProcessorConfig, error: ProcessorError, told: bool) -> Result<crate::ExitCode, ProcessorError> {
    if told && tracing::enabled!(target: "processor", tracing::Level::ERROR) {
        return Ok(error.exit_code());
    }
    if !config.logging.json {
        return Err(error);
    }
    say(envelope("ERROR", &format!("the run failed: {error}")));
    Ok(error.exit_code())
}

fn envelope(level: &str, message: &str) -> serde_json::Value {
    let timestamp = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    serde_json::json!({"timestamp": timestamp, "level": level, "target": "processor", "message": message})
}

/// The summary as one record of the log, whatever the filter.
fn record(summary: &Summary) -> serde_json::Value {
    let mut record = envelope("INFO", "the run is over");
    let counts = [
        ("events", summary.events),
        ("windows", summary.windows),
        ("early", summary.early),
        ("refined", summary.refined),
        ("refused", summary.refused),
        ("retracted", summary.retracted),
        ("lost_partitions", summary.lost_partitions),
        ("lost_records", summary.lost_records),
        ("results", summary.results),
        ("late_accepted", summary.late),
        ("late_dropped", summary.dropped_late()),
        ("bad", summary.bad()),
        ("filtered", summary.filtered),
        ("tombstones", summary.tombstones),
        ("read_again", summary.replayed),
        ("between_windows", summary.in_no_window),
        ("open", summary.open),
    ];
    for (name, count) in counts {
        record[name] = count.into();
    }
    record["dropped"] =
        summary.dropped.iter().map(|(reason, count)| (reason.to_string(), serde_json::Value::from(*count))).collect();
    record["seconds"] = summary.elapsed.as_secs_f64().into();
    record["records_per_second"] = summary.rate().round().into();
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;
    use std::num::NonZeroUsize;

    fn loaded(text: &str) -> Loaded {
        crate::config::load_str("t.yaml", text, std::iter::empty()).unwrap()
    }

    #[test]
    fn the_beginning_names_source_windows_and_pages() {
        let loaded = loaded(
            "processor: {job: j, source: stdin, sinks: [{type: stdout}], windows: {tumbling: {size: 10s}}, \
             watermark: {max_out_of_orderness: 3s}, metrics: {listen: \"127.0.0.1:8099\"}}",
        );
        let text = beginning(&loaded.config, &Topology::single(NonZeroUsize::MIN));
        assert!(text.starts_with("job j: events from standard input, windows of 10 s, 1 worker\n"), "{text}");
        assert!(text.contains("when events 3 s later than its end have come"), "{text}");
        assert!(text.contains("\npages on http://127.0.0.1:8099/\n"), "{text}");
    }

    #[test]
    fn the_summary_is_a_record() {
        let summary =
            Summary { events: 3, dropped: [(Reason::Late, 2), (Reason::Malformed, 1)].into(), ..Summary::default() };
        let record = record(&summary);
        assert_eq!(record["events"], 3);
        assert_eq!(record["late_dropped"], 2);
        assert_eq!(record["bad"], 1);
        assert_eq!(record["dropped"]["malformed"], 1);
        assert_eq!(record["level"], "INFO");
    }
}
