//! How checkpoints and what is in them are told to people.

use crate::checkpoint::{EntryContent, FigureList, Figures, Manifest};
use crate::error::ProcessorResult;
use crate::event::DefinitionIndex;
use crate::metrics::{describe_span, display_time};
use crate::sink::{ResultValue, TimeWindow};
use crate::time::{EventTime, Span};
use crate::window::EntryOf;
use chrono::Utc;

/// `873 B`, `1.2 KB`, `34.0 MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KB", "MB", "GB", "TB"];
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let (mut number, mut unit) = (bytes as f64 / 1_000.0, 0);
    while number >= 999.95 && unit + 1 < UNITS.len() {
        number /= 1_000.0;
        unit += 1;
    }
    format!("{number:.1} {}", UNITS[unit])
}

/// `1 worker`, `2 workers`.
pub(super) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", crate::metrics::group_digits(number))
}

/// How long ago it was taken.
pub(super) fn age(manifest: &Manifest) -> String {
    describe_span(Span::from_millis((Utc::now() - manifest.created_at).num_milliseconds()))
}

/// A time that may be none.
pub(super) fn time(time: Option<EventTime>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| display_time(time).to_string())
}

/// How far everything due has fired.
pub(super) fn frontier(manifest: &Manifest) -> String {
    match manifest.frontier {
        EventTime::MAX => "everything has fired".to_owned(),
        frontier => format!("fired up to {}", time(Some(frontier))),
    }
}

/// What a partition's watermark is where this is the latest event time seen.
pub(super) fn watermark(manifest: &Manifest, max_seen: EventTime) -> Option<EventTime> {
    (max_seen != EventTime::MIN).then(|| max_seen.saturating_sub(manifest.max_out_of_orderness))
}

/// The name of a window definition, where it has one.
pub(super) fn definition_name(manifest: &Manifest, definition: DefinitionIndex) -> Option<&str> {
    manifest.definitions.get(usize::from(definition.0))?.name.as_deref()
}

/// `[start, end)`.
pub(super) fn bounds(window: TimeWindow) -> String {
    format!("[{}, {})", window.start, window.end)
}

/// One line: definition, bounds, key, figures, revision.
pub(super) fn entry(manifest: &Manifest, figures: &mut Figures, entry: &EntryContent) -> ProcessorResult<String> {
    let mut line = String::new();
    if let Some(name) = definition_name(manifest, entry.definition) {
        line.push_str(name);
        line.push(' ');
    }
    line.push_str(&format!("{} {}", bounds(entry.of.window()), entry.key));
    for (name, encoded) in &entry.fields {
        let told = figure_list(&figures.read(entry.definition, encoded)?)
            .unwrap_or_else(|| format!("{} bytes of the program's own aggregates", encoded.len()));
        line.push_str(&format!("  {name}: {told}"));
    }
    match entry.of {
        EntryOf::Slice { next_revision: 0, .. } | EntryOf::Session { fired: None, .. } => {}
        EntryOf::Slice { next_revision, .. } => line.push_str(&format!("  next revision {next_revision}")),
        EntryOf::Session { fired: Some(revision), .. } => line.push_str(&format!("  fired, revision {revision}")),
    }
    Ok(line)
}

/// `count 3, sum 90, stddev null`.
fn figure_list(figures: &FigureList) -> Option<String> {
    let told = figures.iter().map(|(name, value)| format!("{name} {}", figure(value)));
    (!figures.is_empty()).then(|| told.collect::<Vec<_>>().join(", "))
}

/// As JSON writes it.
pub(super) fn figure(value: &ResultValue) -> String {
    match value {
        ResultValue::Count(count) => count.to_string(),
        ResultValue::Number(number) => number.to_string(),
        ResultValue::Null => "null".to_owned(),
        ResultValue::Json(json) => json.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 999, 1_000, 1_234, 999_949, 999_950, 34_000_000, 5_000_000_000_000_000].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1.0 KB", "1.2 KB", "999.9 KB", "1.0 MB", "34.0 MB", "5000.0 TB"]);
        assert_eq!([0, 1, 2_000].map(|number| count(number, "file")), ["0 files", "1 file", "2,000 files"]);
    }
}
