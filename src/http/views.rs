//! `/views` and `/views/NAME`: what views contain, as JSON.

use crate::time::EventTime;
use crate::view::board::{Shown, ViewBoard};
use crate::view::{Figure, ViewRow};
use serde_json::{Map, Value, json};

/// All views, without their content.
pub(super) fn list(board: &ViewBoard) -> Value {
    let views: Vec<Value> = board.list().iter().map(|(shown, rows)| about(shown, *rows)).collect();
    json!({ "views": views })
}

/// One view with its content at its frontier.
pub(super) fn content(shown: &Shown) -> Value {
    let mut document = about(shown, shown.rows.len());
    document["content"] = shown.rows.iter().map(row).collect();
    document
}

fn about(shown: &Shown, rows: usize) -> Value {
    let frontier = Some(shown.frontier).filter(|frontier| *frontier > EventTime::MIN).map(|at| at.to_string());
    json!({
        "name": &*shown.name,
        "type": shown.kind,
        // Another process of the job has it, if this one has not.
        "here": shown.is_here,
        "frontier": frontier,
        "rows": rows,
    })
}

fn row(row: &ViewRow) -> Value {
    let key: Value = serde_json::from_str(row.key.as_json()).unwrap_or(Value::Null);
    let figures: Map<String, Value> =
        row.names.iter().zip(row.figures.iter()).map(|(name, value)| (name.to_string(), figure(value))).collect();
    json!({
        "window": {"start": row.window.start.to_string(), "end": row.window.end.to_string()},
        "key": key,
        "row": figures,
    })
}

fn figure(figure: &Figure) -> Value {
    match figure {
        Figure::Null => Value::Null,
        Figure::Count(count) => (*count).into(),
        Figure::Number(number) => (*number).into(),
        Figure::Truth(truth) => (*truth).into(),
        Figure::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
    }
}
