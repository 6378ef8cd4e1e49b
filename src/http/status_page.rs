//! The page for a person: the diagnosis on top, tables below, nothing fetched from anywhere.
//!
//! It refreshes itself without a script, so that it works in any browser and under any content policy.

use super::pages::PAGES;
use crate::metrics::{
    CheckpointStatus, Diagnosis, Health, HealthLevel, OperatorStatus, OperatorView, PartitionView, Snapshot,
    SourceState, describe_span, diagnose, display_time, group_digits, health,
};
use crate::time::EventTime;
use std::fmt::{self, Write};

/// Seconds between two refreshes.
const REFRESH_SECS: u32 = 2;
/// More partitions than this are counted, not listed: `/frontiers` has them all.
const MAX_ROWS: usize = 200;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#d0d7de;--soft:#57606a;--ok:#1a7f37;--warn:#9a6700;--bad:#cf222e;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--line:#30363d;--soft:#8b949e;--ok:#3fb950;--warn:#d29922;--bad:#f85149;--card:#161b22}}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem}
.card{background:var(--card);border:1px solid var(--line);border-left:.4rem solid var(--ok);border-radius:6px;padding:.8rem 1rem;margin:1rem 0}
.card.degraded{border-left-color:var(--warn)}.card.failed{border-left-color:var(--bad)}
.soft{color:var(--soft)}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}.n{text-align:right;font-variant-numeric:tabular-nums}
.held td{color:var(--warn);font-weight:600}a{color:inherit}";

/// Text with what HTML would read as markup made harmless: topics and broker messages come from outside.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The page of links.
pub(super) fn index() -> String {
    let mut list = String::from("<ul>");
    for (path, about) in PAGES {
        let _ = write!(list, "<li><a href=\"{path}\">{path}</a> <span class=soft>{about}</span></li>");
    }
    page("LLM optimizer: stream processor", None, &format!("<h1>Stream processor</h1>{list}</ul>"))
}

/// The run at `now`.
pub(super) fn render(snapshot: &Snapshot, now: EventTime) -> String {
    let (diagnosis, health) = (diagnose(snapshot, now), health(snapshot, now));
    let mut body = String::with_capacity(8 * 1024);
    head(&mut body, snapshot, &diagnosis, &health, now);
    operators(&mut body, snapshot, now);
    partitions(&mut body, snapshot, &diagnosis, now);
    workers(&mut body, snapshot, now);
    sinks(&mut body, snapshot);
    if let Some(status) = &snapshot.checkpoints {
        checkpoints(&mut body, status, now);
    }
    links(&mut body);
    let title = format!("{} \u{b7} stream processor", snapshot.phase.as_str());
    page(&title, Some(REFRESH_SECS), &body)
}

/// The other pages.
fn links(body: &mut String) {
    body.push_str("<p class=soft>");
    for (path, about) in PAGES.iter().filter(|(path, _)| *path != "/status") {
        let _ = write!(body, "<a href=\"{path}\" title=\"{about}\">{path}</a> ");
    }
    body.push_str("</p>");
}

fn page(title: &str, refresh: Option<u32>, body: &str) -> String {
    let refresh = refresh.map_or_else(String::new, |secs| format!("<meta http-equiv=refresh content={secs}>"));
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">{refresh}\
         <link rel=icon href=\"data:,\"><title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>",
        Escaped(title)
    )
}

fn head(body: &mut String, snapshot: &Snapshot, diagnosis: &Diagnosis, health: &Health, now: EventTime) {
    let class = match health.level {
        HealthLevel::Ok => "ok",
        HealthLevel::Degraded => "degraded",
        HealthLevel::Failed => "failed",
    };
    let uptime = now.since(snapshot.started_at);
    let rate = snapshot.events as f64 / (uptime.as_millis().max(1) as f64 / 1000.0);
    let frontier = diagnosis.frontier.map_or_else(|| "none".to_owned(), |at| display_time(at).to_string());
    let _ = write!(
        body,
        "<h1>Stream processor: {}</h1><p class=soft>{} \u{b7} up {} \u{b7} {} events, {} a second on average</p>\
         <div class=\"card {class}\"><div>Frontier <b>{frontier}</b>, unmoved for {}</div><div>{}</div>",
        snapshot.phase.as_str(),
        now,
        describe_span(uptime),
        group_digits(snapshot.events),
        group_digits(rate as u64),
        describe_span(diagnosis.held_for),
        Escaped(&diagnosis.reason),
    );
    for reason in health.reasons.iter().filter(|reason| **reason != diagnosis.reason) {
        let _ = write!(body, "<div>{}</div>", Escaped(reason));
    }
    body.push_str("</div>");
}

/// A table, or a word where it would be empty. The class `n` marks columns of numbers.
fn table<T>(
    body: &mut String,
    title: &str,
    columns: &[(&str, bool)],
    rows: &[T],
    mut row: impl FnMut(&mut String, &T),
) {
    let _ = write!(body, "<h2>{title}</h2>");
    if rows.is_empty() {
        body.push_str("<p class=soft>none yet</p>");
        return;
    }
    body.push_str("<div class=scroll><table><tr>");
    for (name, number) in columns {
        let _ = write!(body, "<th{}>{name}", if *number { " class=n" } else { "" });
    }
    for item in rows.iter().take(MAX_ROWS) {
        row(body, item);
    }
    body.push_str("</table></div>");
    if rows.len() > MAX_ROWS {
        let more = group_digits((rows.len() - MAX_ROWS) as u64);
        let _ = write!(body, "<p class=soft>and {more} more, see <a href=\"/frontiers\">/frontiers</a></p>");
    }
}

fn behind(at: EventTime, now: EventTime) -> String {
    if at == EventTime::MIN {
        "".into()
    } else if at <= now {
        describe_span(now.since(at))
    } else {
        format!("{} ahead", describe_span(at.since(now)))
    }
}

fn operators(body: &mut String, snapshot: &Snapshot, now: EventTime) {
    let columns = [
        ("operator", false),
        ("frontier", false),
        ("behind the clock", true),
        ("unmoved for", true),
        ("least on worker", true),
    ];
    table(body, "Operators", &columns, &snapshot.operators, |body, view: &OperatorView| {
        let (at, lag, worker) = match view.least() {
            Some((worker, OperatorStatus::At(time))) => {
                (display_time(time.event_time()).to_string(), behind(time.event_time(), now), worker.to_string())
            }
            Some((_, OperatorStatus::Done)) => ("done".into(), String::new(), String::new()),
            None => (String::new(), String::new(), String::new()),
        };
        let unmoved = describe_span(now.since(view.changed_at));
        let name = Escaped(view.name);
        let _ = write!(body, "<tr><td>{name}<td>{at}<td class=n>{lag}<td class=n>{unmoved}<td class=n>{worker}");
    });
}

fn partitions(body: &mut String, snapshot: &Snapshot, diagnosis: &Diagnosis, now: EventTime) {
    let columns = [
        ("partition", false),
        ("worker", true),
        ("watermark", false),
        ("behind the clock", true),
        ("last record", true),
        ("position", true),
        ("lag", true),
        ("records", true),
        ("state", false),
    ];
    table(body, "Partitions", &columns, &snapshot.partitions, |body, view: &PartitionView| {
        let status = &view.status;
        let held = diagnosis.held_back_by.partition.as_ref() == Some(&status.name);
        let last = status.last_event_at.map_or_else(String::new, |at| format!("{} ago", describe_span(now.since(at))));
        let lag = view.lag.map_or_else(String::new, group_digits);
        let state = match (status.closed, status.idle, held) {
            (true, _, _) => "ended",
            (_, true, _) => "idle",
            (_, _, true) => "holds the frontier",
            _ => "",
        };
        let _ = write!(
            body,
            "<tr{}><td>{}<td class=n>{}<td>{}<td class=n>{}<td class=n>{last}<td class=n>{}<td class=n>{lag}<td class=n>{}<td>{state}",
            if held { " class=held" } else { "" },
            Escaped(&status.name.to_string()),
            view.worker,
            display_time(status.watermark),
            behind(status.watermark, now),
            status.position,
            group_digits(status.records),
        );
    });
}

fn workers(body: &mut String, snapshot: &Snapshot, now: EventTime) {
    let columns = [("worker", true), ("source", false), ("for", true), ("events", true), ("", false)];
    let rows: Vec<_> = snapshot.workers.iter().collect();
    table(body, "Workers", &columns, &rows, |body, (worker, view)| {
        let detail = match &view.source {
            SourceState::Waiting { detail } => detail.as_str(),
            _ => "",
        };
        let (source, lasting) = (view.source.as_str(), describe_span(now.since(view.source_since)));
        let events = group_digits(view.events);
        let _ = write!(
            body,
            "<tr><td class=n>{worker}<td>{source}<td class=n>{lasting}<td class=n>{events}<td>{}",
            Escaped(detail)
        );
    });
}

fn sinks(body: &mut String, snapshot: &Snapshot) {
    let columns = [("sink", false), ("acknowledged", true), ("waiting", true), ("", false)];
    table(body, "Sinks", &columns, &snapshot.sinks, |body, sink| {
        let _ = write!(
            body,
            "<tr><td>{}<td class=n>{}<td class=n>{}<td>{}",
            Escaped(&sink.name),
            group_digits(sink.acknowledged),
            group_digits(sink.unacknowledged),
            Escaped(sink.trouble.as_deref().unwrap_or("")),
        );
    });
}

fn checkpoints(body: &mut String, status: &CheckpointStatus, now: EventTime) {
    let ago = |at| format!("{} ago", describe_span(now.since(at)));
    let number = |bytes: Option<u64>| bytes.map_or_else(String::new, group_digits);
    let columns = [
        ("checkpoint", true),
        ("state", false),
        ("when", true),
        ("took", true),
        ("bytes", true),
        ("bytes of records written for it", true),
    ];
    let mut rows = Vec::new();
    if let Some(pending) = status.pending {
        let lasting = describe_span(now.since(pending.since));
        rows.push([
            pending.epoch.to_string(),
            format!("on its way for {lasting}"),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    if let Some(last) = &status.last {
        let what = if last.restored { "this run began with it" } else { "published" };
        let took = last.took.map_or_else(String::new, |took| describe_span(took.into()));
        rows.push([
            last.epoch.to_string(),
            what.to_owned(),
            ago(last.at),
            took,
            number(last.size),
            number(last.written),
        ]);
    }
    table(body, "Checkpoints", &columns, &rows, |body, cells| {
        body.push_str("<tr>");
        for (cell, (_, number)) in cells.iter().zip(&columns) {
            let _ = write!(body, "<td{}>{}", if *number { " class=n" } else { "" }, Escaped(cell));
        }
    });
    if let Some(failure) = &status.last_failure {
        let _ = write!(
            body,
            "<p class=soft>failures since the last one: {}; the latest {}: {}</p>",
            status.failures_in_a_row,
            ago(failure.at),
            Escaped(&failure.reason)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Offset, PartitionName, WorkerIndex};
    use crate::metrics::{CheckpointMetrics, PartitionStatus, ProcessorMetrics, StatusBoard};
    use crate::time::Epoch;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn partition(topic: &str, number: i32) -> PartitionStatus {
        PartitionStatus {
            name: PartitionName { topic: topic.into(), partition: number },
            watermark: EventTime::from_millis(1_000),
            max_seen: EventTime::from_millis(1_000),
            position: Offset(1),
            idle: false,
            closed: false,
            last_event_at: Some(EventTime::from_millis(1_000)),
            records: 1,
        }
    }

    #[test]
    fn text_from_outside_is_text() {
        let board = StatusBoard::new();
        board.set_partition(WorkerIndex(0), partition("<script>alert('x')</script>&\"", 0));
        board.set_source_state(WorkerIndex(0), SourceState::Waiting { detail: "<img src=x>".into() });
        let page = render(&board.snapshot(), EventTime::now());
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;[0]"), "{page}");
    }

    #[test]
    fn many_partitions_are_counted() {
        let board = StatusBoard::new();
        for number in 0..1_500 {
            board.set_partition(WorkerIndex(0), partition("t", number));
        }
        let page = render(&board.snapshot(), EventTime::now());
        assert_eq!(page.matches("<td>t[").count(), MAX_ROWS);
        assert!(page.contains("and 1,300 more"), "{page}");
    }

    #[test]
    fn checkpoints_are_shown_with_what_went_wrong() {
        let board = StatusBoard::new();
        let checkpoints = CheckpointMetrics::new(&ProcessorMetrics::new(), &board, NonZeroU32::MIN);
        checkpoints.published(Epoch::new(17), Duration::from_millis(1_250), 12_345, 678);
        checkpoints.begun(Epoch::new(18));
        checkpoints.failed("writing a snapshot", "<no space>");
        let page = render(&board.snapshot(), EventTime::now());
        let row = "<td class=n>17<td>published<td class=n>";
        assert!(page.contains(row) && page.contains("12,345<td class=n>678"), "{page}");
        assert!(page.contains("<td class=n>18<td>on its way for"), "{page}");
        assert!(
            page.contains("failures since the last one: 1;") && page.contains("failed: &lt;no space&gt;"),
            "{page}"
        );
    }

    #[test]
    fn an_empty_board_has_a_page() {
        let page = render(&StatusBoard::new().snapshot(), EventTime::now());
        assert!(page.contains("no worker has started reading yet") && page.matches("none yet").count() == 4, "{page}");
    }
}
