//! `processor views`: what the views of a running job contain.
//!
//! The model: the processes of a job are asked for `/views` and `/views/NAME`; each view is shown by the one that keeps it. With
//! `--watch` the table is drawn anew every second, from the content at a closed frontier: a row that is there has never been part of
//! a step only.

use super::arguments::ViewsOptions;
use super::late_report::configured;
use super::late_report::page::{self, get};
use super::text::{print, push_columns};
use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// How often a table is drawn anew.
const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its beginning.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Asks the processor and prints what it says, once or until it does not answer any more.
pub fn views(options: &ViewsOptions) -> ProcessorResult<ExitCode> {
    let mut addresses = options.url.iter().map(|url| page::base_url(url)).collect::<ProcessorResult<Vec<String>>>()?;
    if let Some(path) = &options.config {
        addresses.push(configured(path)?);
    }
    loop {
        let text = text(options, &look(options, &addresses)?);
        if !options.watch {
            return print(&text);
        }
        let mut out = std::io::stdout().lock();
        match out.write_all(format!("{CLEAR}{text}").as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => std::thread::sleep(EVERY),
            // A reader that has seen enough is no failure.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::Done),
            Err(error) => return Err(ProcessorError::io("cannot write to standard output", error)),
        }
    }
}

fn text(options: &ViewsOptions, views: &[Value]) -> String {
    match (options.json, &options.name) {
        (true, _) => format!("{:#}\n", json!({ "views": views })),
        (false, None) if !options.watch => list(views),
        (false, _) => views.iter().map(|view| table(view, options.limit)).collect::<Vec<_>>().join("\n"),
    }
}

/// The views asked for, each from the process that keeps it.
fn look(options: &ViewsOptions, addresses: &[String]) -> ProcessorResult<Vec<Value>> {
    let mut found: BTreeMap<String, (String, Value)> = BTreeMap::new();
    for address in addresses {
        let list = read(address, "/views")?;
        for view in list["views"].as_array().into_iter().flatten() {
            let name = view["name"].as_str().unwrap_or_default().to_owned();
            if view["here"] == json!(true) || !found.contains_key(&name) {
                found.insert(name, (address.clone(), view.clone()));
            }
        }
    }
    if let Some(name) = &options.name
        && !found.contains_key(name)
    {
        let names: Vec<String> = found.into_keys().collect();
        let known = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        return Err(ProcessorError::Runtime(format!("the job has no view {name}: {known}")));
    }
    let wants_content = options.watch || options.name.is_some() || options.json;
    let wanted = found.into_iter().filter(|(name, _)| options.name.as_ref().is_none_or(|wanted| wanted == name));
    let content = |(name, (address, view)): (String, (String, Value))| match wants_content {
        true => read(&address, &format!("/views/{name}")),
        false => Ok(view),
    };
    wanted.map(content).collect()
}

fn read(address: &str, path: &str) -> ProcessorResult<Value> {
    let body = get(address, path)?;
    serde_json::from_slice(&body)
        .map_err(|error| ProcessorError::Runtime(format!("{address}{path} is not a page of this processor: {error}")))
}

fn list(views: &[Value]) -> String {
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = vec![["VIEW", "TYPE", "ROWS", "FRONTIER"].map(str::to_owned).to_vec()];
    lines.extend(views.iter().map(|view| ["name", "type", "rows", "frontier"].map(|key| cell(&view[key])).to_vec()));
    let mut text = String::new();
    push_columns(&mut text, &lines, |column| column < 2);
    text
}

/// The rows of the newest windows, as many as asked for.
fn table(view: &Value, limit: usize) -> String {
    let word = |key: &str| view[key].as_str().unwrap_or("-").to_owned();
    let mut text = format!("{} ({}), {} rows, at {}\n", word("name"), word("type"), view["rows"], word("frontier"));
    if view["here"] == json!(false) {
        text.push_str("  another process of the job keeps it: give its --url too\n");
        return text;
    }
    let rows = view["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows: Vec<&Value> = rows.iter().collect();
    // Windows from the newest on; within one as they rank.
    rows.sort_by(|one, other| {
        let end = |row: &Value| row["window"]["end"].as_str().unwrap_or_default().to_owned();
        let rank = |row: &Value| row["row"]["rank"].as_u64();
        end(other).cmp(&end(one)).then_with(|| rank(one).cmp(&rank(other)))
    });
    rows.truncate(limit);
    let names = |member: &str| {
        let mut names: Vec<String> = Vec::new();
        for name in rows.iter().filter_map(|row| row[member].as_object()).flat_map(Map::keys) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    };
    let (keys, figures) = (names("key"), names("row"));
    let left = 1 + keys.len();
    let mut lines = vec![
        std::iter::once("WINDOW END".to_owned())
            .chain(keys.iter().chain(&figures).map(|name| name.to_uppercase()))
            .collect::<Vec<_>>(),
    ];
    lines.extend(rows.iter().map(|row| {
        let key = keys.iter().map(|name| cell(&row["key"][name]));
        let figures = figures.iter().map(|name| cell(&row["row"][name]));
        std::iter::once(cell(&row["window"]["end"])).chain(key).chain(figures).collect()
    }));
    push_columns(&mut text, &lines, |column| column < left);
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(0.0);
            if number.abs() >= 0.01 || number == 0.0 { format!("{number:.3}") } else { format!("{number:.2e}") }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_window_is_first_and_ranks_are_in_order() {
        let row = |end: &str, model: &str, rank: u64, p95: f64| json!({"window": {"start": "s", "end": end}, "key": {"model": model}, "row": {"rank": rank, "p95": p95}});
        let view = json!({"name": "slowest", "type": "leaderboard", "here": true, "frontier": "f", "rows": 3,
            "content": [row("t1", "a", 1, 9.0), row("t2", "a", 2, 0.001), row("t2", "b", 1, 8.25)]});
        let expected = "slowest (leaderboard), 3 rows, at f\n  WINDOW END  MODEL  P95      RANK\n  t2          b        8.250     1\n";
        let found = table(&view, 1);
        assert_eq!(found.lines().count(), expected.lines().count(), "{found}");
        let all = table(&view, 10);
        let order: Vec<&str> = all.lines().skip(2).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(order, ["b", "a", "a"], "{all}");
        assert!(all.contains("1.00e-3") && all.contains("8.250"), "{all}");
    }
}
