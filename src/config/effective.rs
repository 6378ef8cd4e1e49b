//! The configuration in effect: every value with where it comes from, for people to read and for the program to read back.

use super::raw::Origin;
use super::{redact, schema, values};
use std::fmt::Write;

/// The column at which origins begin where values are short.
const ORIGIN_COLUMN: usize = 52;

/// Every value in effect, in the order of the sections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effective {
    file: String,
    settings: Vec<Shown>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a section.
    Key(String),
    /// To an item of a list of sections.
    Item(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    path: Vec<Step>,
    value: String,
    origin: Origin,
}

impl Effective {
    pub(super) fn new(file: &str) -> Self {
        let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
        Effective { file: base.to_owned(), settings: Vec::new() }
    }

    /// Adds a value, already written as YAML. Secrets are hidden here, so that none can be shown by mistake.
    pub(super) fn add(&mut self, path: Vec<Step>, value: String, origin: Origin) {
        let secret = matches!(path.last(), Some(Step::Key(name)) if redact::is_secret(name));
        let value =
            if secret && value != "null" { values::quote(redact::HIDDEN) } else { redact::text(&value).into_owned() };
        self.settings.push(Shown { path, value, origin });
    }

    /// Puts the values into the order of the schema's sections; they are read in the order in which they depend on each other.
    pub(super) fn arrange(&mut self) {
        self.settings.sort_by_key(|shown| match shown.path.first() {
            Some(Step::Key(name)) => schema::KEYS.iter().position(|known| known.spellings().contains(name)),
            _ => None,
        });
    }

    /// The dotted path of each value with its origin, without the values.
    pub fn origins(&self) -> impl Iterator<Item = (String, &Origin)> {
        self.settings.iter().map(|shown| (dotted(&shown.path), &shown.origin))
    }

    /// As YAML, each value followed by its origin: `# default`, `# FILE:LINE` or `# environment NAME`. Secrets are `***`.
    ///
    /// Apart from those, a file with this text is the same configuration.
    pub fn render(&self) -> String {
        let mut out = String::from("processor:\n");
        let mut previous: &[Step] = &[];
        for shown in &self.settings {
            let mut line = String::new();
            let common = previous.iter().zip(&shown.path).take_while(|(a, b)| a == b).count();
            let mut dash = false;
            for (depth, step) in shown.path.iter().enumerate().skip(common) {
                let Step::Key(name) = step else {
                    dash = true;
                    continue;
                };
                let indent = "  ".repeat(depth + 1);
                match dash {
                    true => line.push_str(&format!("{}- ", &indent[2..])),
                    false => line.push_str(&indent),
                }
                dash = false;
                line.push_str(&values::quote(name));
                line.push(':');
                if depth + 1 < shown.path.len() {
                    line.push('\n');
                }
            }
            let last = line.rfind('\n').map_or(0, |at| at + 1);
            line.push(' ');
            line.push_str(&shown.value);
            let width = line[last..].chars().count();
            let padding = ORIGIN_COLUMN.saturating_sub(width).max(2);
            let origin = self.origin(&shown.origin);
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{line}{:padding$}# {origin}", "");
            previous = &shown.path;
        }
        out
    }

    fn origin(&self, origin: &Origin) -> String {
        match origin {
            Origin::Default => "default".to_owned(),
            Origin::Line(line) => format!("{}:{line}", self.file),
            Origin::Environment(name) => format!("environment {name}"),
        }
    }
}

/// `sinks[0].path`.
pub(super) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Item(index) => text.push_str(&format!("[{index}]")),
            Step::Key(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn sections_and_lists_of_sections_are_laid_out_once() {
        let mut effective = Effective::new("dir/p.yaml");
        effective.add(vec![key("job")], "j".into(), Origin::Default);
        effective.add(vec![key("kafka"), key("consumer"), key("group_id")], "g".into(), Origin::Line(3));
        effective.add(vec![key("kafka"), key("consumer"), key("sasl.password")], "pw".into(), Origin::Line(4));
        effective.add(vec![key("sinks"), Step::Item(0), key("type")], "file".into(), Origin::Line(6));
        effective.add(vec![key("sinks"), Step::Item(0), key("path")], "x".into(), Origin::Line(7));
        effective.add(
            vec![key("sinks"), Step::Item(1), key("type")],
            "console".into(),
            Origin::Environment("E".into()),
        );
        let text: String = effective
            .render()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
            .collect();
        assert_eq!(
            text,
            "processor:\njob: j # default\nkafka:\nconsumer:\ngroup_id: g # p.yaml:3\nsasl.password: \"***\" # p.yaml:4\n\
             sinks:\n- type: file # p.yaml:6\npath: x # p.yaml:7\n- type: console # environment E\n"
        );
        assert!(effective.render().contains("    - type: file"));
    }
}
