//! A job and what it reads: as the model wants them, and as files and a configuration.

use super::{Kind, Policy, Record, Rules};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// How far in the future an event is that must be refused: 2200-01-01.
const FUTURE: i64 = 7_258_118_400_000;

/// Keys there are.
pub const KEYS: u8 = 5;

/// A job, and what it reads.
#[derive(Clone, Debug)]
pub struct Case {
    pub time: TimePlan,
    /// Further windows over the same events: with these there are definitions, else one kind.
    pub others: Vec<Rules>,
    /// Early results after so many events of each window and key.
    pub every_events: Option<u64>,
    pub event: EventPlan,
    pub aggregates: AggregatePlan,
    pub partitions: Vec<PartitionPlan>,
    /// The job is run once with each.
    pub runs: [RunPlan; 2],
}

/// When things happen, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct TimePlan {
    pub rules: Rules,
    /// Where the first partition begins.
    pub begin: i64,
    /// How far time goes in a line, about.
    pub pace: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keys {
    Everything,
    Model,
    ModelAndRegion,
    Literal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    One,
    Several,
    /// Whose paths end in the same word.
    SameWord,
    AsTheyCome,
}

/// What events look like.
#[derive(Clone, Copy, Debug)]
pub struct EventPlan {
    pub keys: Keys,
    pub values: Values,
    pub rfc3339: bool,
    pub filter: bool,
}

#[derive(Clone, Debug)]
pub struct AggregatePlan {
    pub enabled: Vec<&'static str>,
    pub percentiles: Vec<f64>,
    pub relative_error: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

#[derive(Clone, Debug)]
pub struct PartitionPlan {
    pub packing: Packing,
    /// How many windows later than the first partition it begins.
    pub ahead: i64,
    pub lines: Vec<Line>,
}

/// How it is run: none of this may show in the results.
#[derive(Clone, Copy, Debug)]
pub struct RunPlan {
    pub workers: usize,
    pub buffer_size: usize,
    pub emit_interval_ms: Option<u32>,
}

/// How far behind the latest event of its partition an event is.
#[derive(Clone, Copy, Debug)]
pub enum Behind {
    /// So many percent of max_out_of_orderness.
    WithinDisorder(i64),
    /// So many percent of all that can make a difference.
    Anywhere(i64),
    /// That far from the least accepted time.
    AroundTheLimit(i64),
    /// That far from the watermark.
    AroundTheWatermark(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    Event,
    Future,
    OtherType,
    NotJson,
    NoTimestamp,
    WrongTimestamp,
    NoKey,
    NotANumber,
}

#[derive(Clone, Copy, Debug)]
pub enum Cell {
    Absent,
    Null,
    Number(f64),
}

/// One line of a partition.
#[derive(Clone, Debug)]
pub struct Line {
    pub what: What,
    /// Percent of the pace since the line before.
    pub step: i64,
    pub behind: Behind,
    pub key: u8,
    pub cells: [Cell; 3],
    /// Which of the cells comes first in the text.
    pub first_cell: usize,
    pub end: &'static str,
}

impl Case {
    /// The records of all partitions, as the oracle wants them, with the texts and the ends of lines.
    pub fn records(&self) -> Vec<Vec<(Record, &'static str)>> {
        self.partitions.iter().map(|partition| self.records_of(partition)).collect()
    }

    fn records_of(&self, partition: &PartitionPlan) -> Vec<(Record, &'static str)> {
        let mut latest = self.time.begin + partition.ahead * self.time.rules.windows.scale();
        let mut offset = 0;
        let mut records = Vec::new();
        for line in &partition.lines {
            latest += line.step * self.time.pace / 100;
            let (text, kind) = self.render(line, latest - self.behind(line.behind));
            let record = Record { offset, text, kind };
            offset += (record.text.len() + line.end.len()) as u64;
            records.push((record, line.end));
        }
        records
    }

    fn behind(&self, behind: Behind) -> i64 {
        let Rules { windows, lateness, out_of_orderness, .. } = self.time.rules;
        match behind {
            Behind::WithinDisorder(percent) => out_of_orderness * percent / 100,
            Behind::Anywhere(percent) => (out_of_orderness + lateness + windows.scale()) * percent / 100,
            Behind::AroundTheLimit(distance) => (out_of_orderness + lateness + distance).max(0),
            Behind::AroundTheWatermark(distance) => (out_of_orderness + distance).max(0),
        }
    }

    /// A line's text, and what it is.
    fn render(&self, line: &Line, time: i64) -> (String, Kind) {
        let what = match line.what {
            // Without a required field of the key, or a filter, there is nothing that could be wrong or left out.
            What::NoKey if self.event.keys == Keys::Everything => What::Event,
            What::OtherType if !self.event.filter => What::Event,
            what => what,
        };
        let time = if what == What::Future { FUTURE + time } else { time };
        let (key_text, key) = self.event.key(line.key, what == What::NoKey);
        let (data, values) = self.event.data(line, what == What::NotANumber);
        let timestamp = match what {
            What::NoTimestamp => "\"no\":0".to_owned(),
            What::WrongTimestamp => "\"timestamp\":\"yesterday\"".to_owned(),
            _ if self.event.rfc3339 => format!("\"timestamp\":\"{}\"", rfc3339(time)),
            _ => format!("\"timestamp\":{time}"),
        };
        let event_type = if what == What::OtherType { "debug" } else { "metric" };
        let mut text =
            format!("{{\"event_type\":\"{event_type}\",{timestamp},\"meta\":{{{key_text}}},\"data\":{{{data}}}}}");
        if what == What::NotJson {
            text.truncate(text.len() - 2);
        }
        let kind = match what {
            What::OtherType => Kind::Filtered,
            What::NotJson => Kind::Bad("malformed"),
            What::NoTimestamp | What::WrongTimestamp => Kind::Bad("missing_timestamp"),
            What::NoKey => Kind::Bad("missing_key"),
            What::NotANumber => Kind::Bad("not_a_number"),
            What::Event | What::Future if values.is_empty() => Kind::Bad("missing_value"),
            What::Future => Kind::Future { time },
            What::Event => Kind::Event { time, key, values },
        };
        (text, kind)
    }

    /// The rules of all window definitions.
    pub fn rules(&self) -> impl Iterator<Item = Rules> {
        std::iter::once(self.time.rules).chain(self.others.iter().copied())
    }

    /// What the window definition at this place is called, where there are several.
    pub fn name_of(&self, place: usize) -> Option<String> {
        (!self.others.is_empty()).then(|| format!("d{place}"))
    }

    /// Where the results of a definition go.
    pub fn result_file(place: usize) -> String {
        if place == 0 { "results.jsonl".to_owned() } else { format!("results-{place}.jsonl") }
    }

    /// What a definition computes: those beside the first one, the last aggregate alone.
    pub fn aggregates_of(&self, place: usize) -> AggregatePlan {
        let enabled = &self.aggregates.enabled;
        let from = if place == 0 { 0 } else { enabled.len() - 1 };
        AggregatePlan { enabled: enabled[from..].to_vec(), ..self.aggregates.clone() }
    }

    /// The section `windows`.
    fn windows(&self, out: &Path) -> String {
        let trigger = self.every_events.map(|n| format!("trigger: {{every_events: {n}}}, ")).unwrap_or_default();
        if self.others.is_empty() {
            let (policy, windows) = section(self.time.rules);
            return format!("late_policy: {policy}, {trigger}{windows}");
        }
        let definition = |(place, rules)| {
            let (policy, windows) = section(rules);
            let (kind, rest) = windows.split_once(": {").expect("a kind and its settings");
            let own = match place {
                0 => String::new(),
                _ => format!(
                    "aggregation: {{enabled: {:?}}}, sinks: [{{type: file, path: {}}}], ",
                    self.aggregates_of(place).enabled,
                    crate::job::quoted(&out.join(Self::result_file(place)))
                ),
            };
            format!("{{name: d{place}, type: {kind}, late_policy: {policy}, {own}{rest}")
        };
        let definitions: Vec<String> = self.rules().enumerate().map(definition).collect();
        format!("{trigger}definitions: [{}]", definitions.join(", "))
    }

    /// The configuration of a run that reads these files and writes into this directory.
    pub fn yaml(&self, run: RunPlan, files: &[PathBuf], out: &Path) -> String {
        let out_of_orderness = self.time.rules.out_of_orderness;
        let windows = self.windows(out);
        let path = |name: &str| crate::job::quoted(&out.join(name));
        let files: Vec<String> = files.iter().map(|file| crate::job::quoted(file)).collect();
        let mut yaml = format!(
            "processor:\n  job: oracle\n  buffer_size: {}\n  source: {{type: file, paths: [{}]}}\n",
            run.buffer_size,
            files.join(", ")
        );
        yaml += &self.event.yaml();
        let emit_interval = run.emit_interval_ms.map(|ms| format!(", emit_interval: {ms}ms")).unwrap_or_default();
        write!(
            yaml,
            "  windows: {{{windows}}}\n  \
             watermark: {{max_out_of_orderness: {out_of_orderness}ms{emit_interval}}}\n  \
             aggregation:\n    enabled: [{}]\n    relative_error: {}\n",
            self.aggregates.enabled.join(", "),
            self.aggregates.relative_error
        )
        .expect("text takes text");
        if self.aggregates.enabled.contains(&"percentile") {
            writeln!(yaml, "    percentiles: {:?}", self.aggregates.percentiles).expect("text takes text");
        }
        write!(
            yaml,
            "  error_handling: {{policy: dead_letter, dead_letter_file: {}}}\n  sinks: [{{type: file, path: {}}}]\n  \
             late: {{sink: {{type: file, path: {}}}}}\n  metrics: {{enabled: false}}\n",
            path("dead.jsonl"),
            path("results.jsonl"),
            path("late.jsonl")
        )
        .expect("text takes text");
        yaml
    }
}

/// The policy, and the section of the kind of windows.
fn section(rules: Rules) -> (&'static str, String) {
    let (policy, lateness) = match rules.policy {
        Policy::Refine => ("refine", rules.lateness),
        Policy::FinalOnly => ("final_only", rules.lateness),
        Policy::Drop => ("drop", 0),
    };
    (policy, rules.windows.yaml(lateness))
}

impl EventPlan {
    /// The text inside `meta`, and the key that results have.
    fn key(&self, number: u8, missing: bool) -> (String, Value) {
        let (name, region) = (json!(format!("m{number} \"é\"\n")), json!(format!("r{}", number % 2)));
        // What is equal as a number need not be as a key.
        let literal = ["1", "1.0", "\"1\"", "true", "-7e2"][usize::from(number % KEYS)];
        let unless_missing = |text: String| if missing { "\"other\":1".to_owned() } else { text };
        match self.keys {
            Keys::Everything => (String::new(), json!({})),
            Keys::Model => (unless_missing(format!("\"model\":{name}")), json!({"model": name})),
            Keys::ModelAndRegion if number == 0 => {
                (unless_missing(format!("\"model\":{name}")), json!({"model": name, "region": "unknown"}))
            }
            Keys::ModelAndRegion => (
                unless_missing(format!("\"region\":{region},\"model\":{name}")),
                json!({"model": name, "region": region}),
            ),
            Keys::Literal => {
                let value: Value = serde_json::from_str(literal).expect("a literal is JSON");
                (unless_missing(format!("\"n\":{literal}")), json!({"n": value}))
            }
        }
    }

    /// Where the cells stand, and what their fields are called in results; `None` is not looked at.
    fn fields(&self) -> [(&'static str, Option<&'static str>); 3] {
        match self.values {
            Values::One => [("a", Some("a")), ("b", None), ("c", None)],
            Values::Several | Values::AsTheyCome => [("a", Some("a")), ("b", Some("b")), ("c", Some("c"))],
            Values::SameWord => [("a", Some("data.a")), ("deep", Some("data.deep.a")), ("c", Some("c"))],
        }
    }

    /// The text inside `data`, and the values by field.
    fn data(&self, line: &Line, not_a_number: bool) -> (String, Vec<(String, f64)>) {
        let (mut members, mut values) = (Vec::new(), Vec::new());
        let fields = self.fields();
        for index in (0..3).map(|index| (index + line.first_cell) % 3) {
            let (member, field) = fields[index];
            let text = match line.cells[index] {
                // The first field is looked at in every plan; as they come, what is no number is no value.
                _ if not_a_number && index == 0 => {
                    if self.values == Values::AsTheyCome { "1e999" } else { "\"1\"" }.to_owned()
                }
                Cell::Absent => continue,
                Cell::Null => "null".to_owned(),
                Cell::Number(number) => {
                    values.extend(field.map(|field| (field.to_owned(), number)));
                    format!("{number:?}")
                }
            };
            members.push(if member == "deep" {
                format!("\"deep\":{{\"a\":{text}}}")
            } else {
                format!("\"{member}\":{text}")
            });
        }
        members.push("\"text\":\"x\"".to_owned());
        (members.join(","), values)
    }

    /// The fields that every result shows; `None`: those that have values in it.
    pub fn listed_fields(&self) -> Option<Vec<&'static str>> {
        (self.values != Values::AsTheyCome).then(|| self.fields().iter().filter_map(|(_, field)| *field).collect())
    }

    fn yaml(&self) -> String {
        let format = if self.rfc3339 { "rfc3339" } else { "epoch_ms" };
        let key = match self.keys {
            Keys::Everything => "[]",
            Keys::Model => "[meta.model]",
            Keys::ModelAndRegion => "[meta.model, {field: meta.region, default: unknown}]",
            Keys::Literal => "[meta.n]",
        };
        let values = match self.values {
            Values::One => "    values: [data.a]\n",
            Values::Several => "    values: [data.a, data.b, data.c]\n",
            Values::SameWord => "    values: [data.a, data.deep.a, data.c]\n",
            Values::AsTheyCome => "",
        };
        let filter = if self.filter { "    filter: {event_type: [metric]}\n" } else { "" };
        format!("  event:\n    timestamp: {{field: timestamp, format: {format}}}\n    key: {key}\n{values}{filter}")
    }
}

impl AggregatePlan {
    /// The names that a field's results have.
    pub fn names(&self) -> Vec<String> {
        let names = |aggregate: &&str| match *aggregate {
            "percentile" => self.percentiles.iter().map(|percent| format!("p{percent}")).collect(),
            name => vec![name.to_owned()],
        };
        self.enabled.iter().flat_map(names).collect()
    }
}

/// Milliseconds since 1970 as results print them.
pub fn rfc3339(millis: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(millis).expect("a year with four digits");
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl PartitionPlan {
    /// Writes these records as a file. Returns its path.
    pub fn write(&self, directory: &Path, number: usize, records: &[(Record, &'static str)]) -> PathBuf {
        let text: String = records.iter().flat_map(|(record, end)| [record.text.as_str(), end]).collect();
        let (extension, bytes) = match self.packing {
            Packing::Plain => ("jsonl", text.into_bytes()),
            Packing::Zstd => ("zst", zstd::encode_all(text.as_bytes(), 1).expect("memory takes bytes")),
            Packing::Gzip => {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(text.as_bytes()).expect("memory takes bytes");
                ("gz", packer.finish().expect("memory takes bytes"))
            }
        };
        let path = directory.join(format!("part-{number}.{extension}"));
        std::fs::write(&path, bytes).expect("a temporary directory takes files");
        path
    }
}
