//! What the console shows: the latest result of each key, the totals, and what is new. State in, text out.

use super::layout::{Column, lines, printable, shortened};
use super::numbers::NumberStyle;
use super::{Screen, Style};
use crate::event::GroupingKey;
use crate::sink::{Firing, ResultOp, ResultRow, ResultValue, TimeWindow};
use crate::time::{EventTime, Span};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A key without results leaves the live table when this many windows have closed without it.
const KEPT_WINDOWS: i64 = 10;
/// Windows remembered for counting them once.
const COUNTED_WINDOWS: usize = 10_000;
/// Lines of the live table that are no results: heading, titles, footer and the blank lines between, and the cursor's own.
const FRAME_LINES: usize = 6;

type WindowId = (EventTime, EventTime, Option<Arc<str>>);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Board {
    latest: BTreeMap<(GroupingKey, Option<Arc<str>>), ResultRow>,
    news: Vec<ResultRow>,
    has_news: bool,
    windows: BTreeSet<WindowId>,
    totals: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    windows: u64,
    results: u64,
    refinements: u64,
}

impl Board {
    /// Takes results, in the order in which they fired.
    pub fn take(&mut self, rows: &[ResultRow]) {
        for row in rows {
            self.count(row);
            self.keep(row);
            self.news.push(row.clone());
        }
        self.has_news |= !rows.is_empty();
        self.forget_old();
    }

    /// Whether there is anything that was not shown yet.
    pub fn has_news(&self) -> bool {
        self.has_news
    }

    /// What is new has been shown.
    pub fn shown(&mut self) {
        self.has_news = false;
        self.news.clear();
    }

    fn count(&mut self, row: &ResultRow) {
        self.totals.results += 1;
        self.totals.refinements += u64::from(row.revision > 0);
        if self.windows.insert((row.window.start, row.window.end, row.window_name.clone())) && row.revision == 0 {
            self.totals.windows += 1;
        }
        while self.windows.len() > COUNTED_WINDOWS {
            self.windows.pop_first();
        }
    }

    fn keep(&mut self, row: &ResultRow) {
        let place = (row.key.clone(), row.window_name.clone());
        let shown = self.latest.get(&place).map(|shown| shown.window);
        match row.op {
            ResultOp::Retract if shown == Some(row.window) => {
                self.latest.remove(&place);
            }
            ResultOp::Retract => {}
            // A refinement of an older window does not hide the newer one.
            ResultOp::Upsert if shown.is_none_or(|shown| shown <= row.window) => {
                self.latest.insert(place, row.clone());
            }
            ResultOp::Upsert => {}
        }
    }

    fn forget_old(&mut self) {
        let ends = self.latest.values().map(|row| row.window.end);
        let (Some(newest), Some(oldest)) = (ends.clone().max(), ends.min()) else { return };
        let longest = self.latest.values().map(|row| row.window.end.since(row.window.start).as_millis()).max();
        let kept = newest.saturating_sub(Span::from_millis(longest.unwrap_or(0).saturating_mul(KEPT_WINDOWS)));
        if oldest < kept {
            self.latest.retain(|_, row| row.window.end >= kept);
        }
    }

    /// The live table: at most `screen.lines - 1` lines, none wider than the screen.
    pub fn live(&self, screen: Screen, style: Style) -> Vec<String> {
        let rows: Vec<&ResultRow> = self.latest.values().collect();
        let newest = rows.iter().map(|row| row.window).max();
        let table = Table::of(&rows, newest);
        let mut text = lines(&table.columns, screen.columns).into_iter();
        let room = screen.lines.saturating_sub(FRAME_LINES).max(1);
        let hidden = table.owners.len().saturating_sub(room);
        let shown = if hidden > 0 { room - 1 } else { room };

        let heading = newest.map_or("no window has closed yet".to_owned(), |window| format!("window {}", span(window)));
        let mut all = vec![style.bold(&shortened(&heading, screen.columns)), String::new()];
        all.extend(text.next().map(|titles| style.bold(&titles)));
        for (line, owner) in text.take(shown).zip(&table.owners) {
            all.push(if Some(rows[*owner].window) == newest { line } else { style.dim(&line) });
        }
        if hidden > 0 {
            all.push(
                style.dim(&shortened(&format!("… and {} more lines", table.owners.len() - shown), screen.columns)),
            );
        }
        all.push(String::new());
        all.push(style.dim(&shortened(&self.footer(), screen.columns)));
        all.truncate(screen.lines.saturating_sub(1).max(1));
        all
    }

    fn footer(&self) -> String {
        let Totals { windows, results, refinements } = self.totals;
        let keys = self.latest.keys().map(|(key, _)| key).collect::<BTreeSet<_>>().len();
        let many = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let mut parts = vec![many(keys as u64, "key"), many(windows, "window"), many(results, "result")];
        if refinements > 0 {
            parts.push(format!("{refinements} of them refinements"));
        }
        parts.join(" · ")
    }

    /// What is new as blocks of text, one a window, each with an empty line after it.
    pub fn blocks(&mut self) -> String {
        let mut windows: BTreeMap<WindowId, Vec<&ResultRow>> = BTreeMap::new();
        for row in &self.news {
            windows.entry((row.window.end, row.window.start, row.window_name.clone())).or_default().push(row);
        }
        let mut text = String::new();
        for ((end, start, name), mut rows) in windows {
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            let window = TimeWindow { start, end };
            let name = name.map_or(String::new(), |name| format!(" ({})", printable(&name)));
            text.push_str(&format!("window {}{name}\n", span(window)));
            for line in lines(&Table::of(&rows, Some(window)).columns, usize::MAX) {
                text.push_str(&line);
                text.push('\n');
            }
            text.push('\n');
        }
        self.shown();
        text
    }
}

impl Style {
    fn bold(self, text: &str) -> String {
        self.wrapped("\x1b[1m", text)
    }

    fn dim(self, text: &str) -> String {
        self.wrapped("\x1b[2m", text)
    }

    fn wrapped(self, code: &str, text: &str) -> String {
        if self.emphasis && !text.is_empty() { format!("{code}{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Rows by columns. A result of several value fields has one line a field.
struct Table {
    columns: Vec<Column>,
    /// Which of the rows each line belongs to.
    owners: Vec<usize>,
}

impl Table {
    fn of(rows: &[&ResultRow], newest: Option<TimeWindow>) -> Table {
        let mut lines: Vec<(usize, String)> = Vec::new();
        let mut aggregates: Vec<String> = Vec::new();
        let mut values: HashMap<(usize, String), &ResultValue> = HashMap::new();
        for (owner, row) in rows.iter().enumerate() {
            let first = lines.len();
            for (name, value) in row.names.iter().zip(&row.values) {
                let (field, aggregate) = split_name(name);
                let line = match (first..lines.len()).find(|line| lines[*line].1 == field) {
                    Some(line) => line,
                    None => {
                        lines.push((owner, field.to_owned()));
                        lines.len() - 1
                    }
                };
                if !aggregates.iter().any(|known| known == aggregate) {
                    aggregates.push(aggregate.to_owned());
                }
                values.insert((line, aggregate.to_owned()), value);
            }
        }
        let owners: Vec<usize> = lines.iter().map(|(owner, _)| *owner).collect();
        let mut columns = key_columns(rows, &owners);
        if rows.iter().any(|row| Some(row.window) != newest || row.window_name != rows[0].window_name) {
            columns.push(text_column("window", owners.iter().map(|owner| short_window(rows[*owner]))));
        }
        if lines.iter().any(|(_, field)| !field.is_empty()) {
            columns.push(text_column("field", lines.iter().map(|(_, field)| field.clone())));
        }
        columns.extend(aggregates.iter().map(|aggregate| aggregate_column(aggregate, &lines, &values)));
        if rows.iter().any(|row| row.revision > 0 || row.op == ResultOp::Retract) {
            columns.push(text_column("rev", owners.iter().map(|owner| revision(rows[*owner]))));
        }
        Table { columns, owners }
    }
}

/// One column a key field, in the order of the first row that has it.
fn key_columns(rows: &[&ResultRow], owners: &[usize]) -> Vec<Column> {
    let fields: Vec<Vec<(String, String)>> = rows.iter().map(|row| row.key.fields()).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in fields.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let cell = |owner: usize, name: &str| {
        fields[owner].iter().find(|(known, _)| known == name).map_or(String::new(), |(_, value)| value.clone())
    };
    names.iter().map(|name| text_column(name, owners.iter().map(|owner| cell(*owner, name)))).collect()
}

fn text_column(title: &str, cells: impl Iterator<Item = String>) -> Column {
    Column {
        title: printable(title),
        numeric: false,
        dispensable: 0,
        cells: cells.map(|cell| printable(&cell)).collect(),
    }
}

/// The numbers of one aggregate; those of one field are written alike.
fn aggregate_column(
    aggregate: &str,
    lines: &[(usize, String)],
    values: &HashMap<(usize, String), &ResultValue>,
) -> Column {
    let value = |line: usize| values.get(&(line, aggregate.to_owned())).copied();
    let mut styles: HashMap<&str, NumberStyle> = HashMap::new();
    let cells = lines.iter().enumerate().map(|(line, (_, field))| {
        let style = *styles.entry(field).or_insert_with(|| {
            let same_field = (0..lines.len()).filter(|other| lines[*other].1 == *field);
            NumberStyle::of(same_field.filter_map(|other| match value(other) {
                Some(ResultValue::Number(number)) => Some(*number),
                _ => None,
            }))
        });
        value(line).map_or(String::new(), |value| printable(&style.text(value)))
    });
    Column { title: printable(aggregate), numeric: true, dispensable: dispensable(aggregate), cells: cells.collect() }
}

/// How soon an aggregate is left out on a narrow screen: what tells most of a latency or a cost stays longest.
fn dispensable(aggregate: &str) -> u8 {
    match aggregate {
        "sum" => 6,
        "stddev" => 5,
        "min" => 4,
        "max" => 3,
        "average" => 2,
        "count" => 0,
        _ => 1,
    }
}

/// The revision where it is not the first, and whether it was taken back.
fn revision(row: &ResultRow) -> String {
    match (row.op, row.revision) {
        (ResultOp::Retract, _) => "retracted".to_owned(),
        (ResultOp::Upsert, 0) if row.firing == Firing::Early => "early".to_owned(),
        (ResultOp::Upsert, revision) if row.firing == Firing::Early => format!("early +{revision}"),
        (ResultOp::Upsert, 0) => String::new(),
        (ResultOp::Upsert, revision) => format!("+{revision}"),
    }
}

/// `latency_ms.p99.9` is the aggregate `p99.9` of the field `latency_ms`; a bare name has no field.
fn split_name(name: &str) -> (&str, &str) {
    if is_aggregate(name) {
        return ("", name);
    }
    let mut dots = name.match_indices('.').map(|(at, _)| at);
    let known = dots.clone().find(|at| is_aggregate(&name[at + 1..]));
    match known.or(dots.next_back()) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    }
}

fn is_aggregate(name: &str) -> bool {
    let percentile = || name.strip_prefix('p').is_some_and(|rank| rank.parse::<f64>().is_ok());
    crate::config::AggregateKind::ALL.iter().any(|kind| kind.as_str() == name) || percentile()
}

/// `2026-09-21 14:13:00 to 14:14:00 UTC`.
fn span(window: TimeWindow) -> String {
    let start = clock(window.start, true);
    let same_day = start.get(..10) == clock(window.end, true).get(..10);
    format!("{start} to {} UTC", clock(window.end, !same_day))
}

fn short_window(row: &ResultRow) -> String {
    let name = row.window_name.as_ref().map_or(String::new(), |name| format!("{name} "));
    format!("{name}{}", clock(row.window.start, false))
}

/// The time of day, after the date where asked for; milliseconds only where there are any.
fn clock(time: EventTime, with_date: bool) -> String {
    let Some(datetime) = time.to_datetime() else { return time.to_string() };
    let date = if with_date { "%Y-%m-%d " } else { "" };
    let millis = if time.as_millis() % 1000 == 0 { "" } else { "%.3f" };
    datetime.format(&format!("{date}%H:%M:%S{millis}")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::tests::documented_row;
    use unicode_width::UnicodeWidthStr;

    const PLAIN: Style = Style { emphasis: false };
    const MINUTE: i64 = 60_000;

    fn row(model: &str, minute: i64, revision: u32) -> ResultRow {
        let shift = |time: EventTime| EventTime::from_millis(time.as_millis() + minute * MINUTE);
        let row = documented_row();
        ResultRow {
            window: TimeWindow { start: shift(row.window.start), end: shift(row.window.end) },
            key: GroupingKey::from_fields(&[("model", model)]),
            names: ["count", "average", "p99.9"].map(Arc::from).into(),
            values: vec![ResultValue::Count(12), ResultValue::Number(102.25), ResultValue::Null],
            revision,
            ..row
        }
    }

    fn screen(columns: usize, lines: usize) -> Screen {
        Screen { columns, lines }
    }

    #[test]
    fn the_live_table() {
        let mut board = Board::default();
        assert_eq!(board.live(screen(80, 24), PLAIN)[0], "no window has closed yet");
        board.take(&[row("opus", 0, 0), row("haiku", 0, 0)]);
        let expected = [
            "window 2026-09-21 14:13:00 to 14:14:00 UTC",
            "",
            "model  count  average  p99.9",
            "haiku     12   102.25      -",
            "opus      12   102.25      -",
            "",
            "2 keys · 1 window · 2 results",
        ];
        assert_eq!(board.live(screen(80, 24), PLAIN), expected);
    }

    #[test]
    fn older_windows_and_revisions_are_marked() {
        let mut board = Board::default();
        board.take(&[row("opus", 0, 0), row("haiku", 0, 0), row("opus", 1, 0), row("opus", 1, 1), row("opus", 0, 1)]);
        let expected = [
            "window 2026-09-21 14:14:00 to 14:15:00 UTC",
            "",
            "model  window    count  average  p99.9  rev",
            "haiku  14:13:00     12   102.25      -",
            "opus   14:14:00     12   102.25      -  +1",
            "",
            "2 keys · 2 windows · 5 results · 2 of them refinements",
        ];
        assert_eq!(board.live(screen(80, 24), PLAIN), expected);
        let styled = board.live(screen(80, 24), Style { emphasis: true });
        assert!(styled[3].starts_with("\x1b[2m") && !styled[4].starts_with('\x1b'), "{styled:?}");
    }

    #[test]
    fn it_always_fits_the_screen() {
        let mut board = Board::default();
        let keys: Vec<_> = (0..100).map(|key| row(&format!("model {key} with a long name"), 0, key % 3)).collect();
        board.take(&keys);
        for (columns, height) in [(20, 6), (40, 10), (80, 24), (200, 60), (1, 2)] {
            let lines = board.live(screen(columns, height), PLAIN);
            assert!(lines.len() < height, "{columns}x{height}: {lines:#?}");
            assert!(columns < 20 || lines.iter().all(|line| line.width() <= columns), "{columns}x{height}: {lines:#?}");
        }
        let lines = board.live(screen(80, 24), PLAIN);
        assert_eq!(lines.iter().filter(|line| line.starts_with("model ")).count(), 1 + 17);
        assert!(lines.contains(&"… and 83 more lines".to_owned()), "{lines:#?}");
        assert!(lines.last().unwrap().starts_with("100 keys"), "the footer stays");
    }

    #[test]
    fn keys_that_went_quiet_leave() {
        let mut board = Board::default();
        board.take(&[row("gone", 0, 0), row("opus", 0, 0)]);
        board.take(&[row("opus", 10, 0)]);
        assert!(board.live(screen(80, 24), PLAIN).iter().any(|line| line.starts_with("gone")));
        board.take(&[row("opus", 11, 0)]);
        assert!(!board.live(screen(80, 24), PLAIN).iter().any(|line| line.starts_with("gone")));
    }

    #[test]
    fn a_retraction_takes_its_window_away() {
        let mut board = Board::default();
        let mut retracted = row("opus", 0, 1);
        retracted.op = ResultOp::Retract;
        board.take(&[row("opus", 0, 0), retracted.clone()]);
        assert!(!board.live(screen(80, 24), PLAIN).iter().any(|line| line.starts_with("opus")));
        assert!(board.blocks().contains("retracted"));
        board.take(&[row("opus", 1, 0), retracted]);
        assert!(board.live(screen(80, 24), PLAIN).iter().any(|line| line.starts_with("opus")));
    }

    #[test]
    fn several_value_fields_are_lines_of_their_own() {
        let mut several = row("opus", 0, 0);
        several.names =
            ["latency_ms.count", "latency_ms.p99.9", "cost.usd.count", "cost.usd.p99.9"].map(Arc::from).into();
        several.values = vec![
            ResultValue::Count(3),
            ResultValue::Number(140.5),
            ResultValue::Count(2),
            ResultValue::Number(0.010_234),
        ];
        let mut board = Board::default();
        board.take(&[several]);
        let expected = concat!(
            "window 2026-09-21 14:13:00 to 14:14:00 UTC\n",
            "model  field       count    p99.9\n",
            "opus   latency_ms      3    140.5\n",
            "opus   cost.usd        2  0.01023\n\n",
        );
        assert_eq!(board.blocks(), expected);
    }

    #[test]
    fn blocks_are_one_a_window_in_order_and_only_once() {
        let mut board = Board::default();
        board.take(&[row("opus", 1, 0), row("opus", 0, 0), row("haiku", 0, 0)]);
        let expected = concat!(
            "window 2026-09-21 14:13:00 to 14:14:00 UTC\n",
            "model  count  average  p99.9\n",
            "haiku     12   102.25      -\n",
            "opus      12   102.25      -\n",
            "\n",
            "window 2026-09-21 14:14:00 to 14:15:00 UTC\n",
            "model  count  average  p99.9\n",
            "opus      12   102.25      -\n",
            "\n",
        );
        assert_eq!(board.blocks(), expected);
        assert!(!board.has_news());
        assert_eq!(board.blocks(), "");
    }

    #[test]
    fn names_split_into_field_and_aggregate() {
        assert_eq!(split_name("count"), ("", "count"));
        assert_eq!(split_name("p99.9"), ("", "p99.9"));
        assert_eq!(split_name("latency_ms.p99.9"), ("latency_ms", "p99.9"));
        assert_eq!(split_name("data.latency_ms.sum"), ("data.latency_ms", "sum"));
        assert_eq!(split_name("mine"), ("", "mine"));
        assert_eq!(split_name("latency_ms.mine"), ("latency_ms", "mine"));
    }
}
