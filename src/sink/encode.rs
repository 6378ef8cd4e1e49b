//! Results as JSON: the record format that users' programs read.
//!
//! The model: one result is one JSON object, its members in a fixed order, appended to a buffer that the caller reuses; nothing
//! is allocated per number. The Kafka record key is the part of it that says which result it is, byte for byte the same for the
//! same window and key, so that a compacted topic keeps the latest revision.

use super::civil::push_time;
use super::{ResultOp, ResultRow, ResultValue, TimeWindow, ViewMark};
use crate::view::ViewOp;
use std::io::Write;

/// Appends `row` as one JSON object, without a line's end.
///
/// Numbers are the shortest decimals that read back as the same number; a number that JSON cannot write is `null`.
pub fn encode_result(row: &ResultRow, out: &mut Vec<u8>) {
    if let Some(view) = &row.view {
        return encode_change(row, view, out);
    }
    out.push(b'{');
    push_window_and_key(out, row);
    out.extend_from_slice(b",\"results\":");
    push_figures(out, row);
    out.extend_from_slice(b",\"revision\":");
    push_integer(out, u64::from(row.revision));
    out.extend_from_slice(b",\"op\":\"");
    out.extend_from_slice(row.op.as_str().as_bytes());
    out.extend_from_slice(b"\",\"firing\":\"");
    out.extend_from_slice(row.firing.as_str().as_bytes());
    out.push(b'"');
    if let Some(complete) = row.complete {
        out.extend_from_slice(b",\"complete\":");
        push_value(out, &ResultValue::Number(complete));
    }
    out.extend_from_slice(b",\"timestamp\":\"");
    push_time(out, row.fired_at);
    out.extend_from_slice(b"\"}");
}

/// Appends a change of a view.
fn encode_change(row: &ResultRow, view: &ViewMark, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"view\":");
    push_string(out, &view.name);
    out.push(b',');
    push_window_and_key(out, row);
    out.extend_from_slice(b",\"row\":");
    push_figures(out, row);
    out.extend_from_slice(b",\"op\":\"");
    let op = match row.op {
        ResultOp::Upsert => ViewOp::Insert,
        ResultOp::Retract => ViewOp::Delete,
    };
    out.extend_from_slice(op.as_str().as_bytes());
    out.extend_from_slice(b"\",\"frontier\":\"");
    push_time(out, view.frontier);
    out.extend_from_slice(b"\"}");
}

/// Appends the members `window` and `key`.
fn push_window_and_key(out: &mut Vec<u8>, row: &ResultRow) {
    out.extend_from_slice(b"\"window\":{");
    push_window(out, row.window, row.window_name.as_deref());
    out.extend_from_slice(b"},\"key\":");
    out.extend_from_slice(row.key.as_json().as_bytes());
}

/// Appends names and values.
fn push_figures(out: &mut Vec<u8>, row: &ResultRow) {
    out.push(b'{');
    for (index, (name, value)) in row.names.iter().zip(&row.values).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_value(out, value);
    }
    out.push(b'}');
}

/// Appends the Kafka record key of `row`: `{"key":{...},"start":"...","end":"..."}`; of a view's change, with the view's name first.
///
/// With several window definitions the window's name follows, because two definitions may have windows with the same bounds.
pub fn encode_record_key(row: &ResultRow, out: &mut Vec<u8>) {
    out.push(b'{');
    if let Some(view) = &row.view {
        out.extend_from_slice(b"\"view\":");
        push_string(out, &view.name);
        out.push(b',');
    }
    out.extend_from_slice(b"\"key\":");
    out.extend_from_slice(row.key.as_json().as_bytes());
    out.push(b',');
    push_window(out, row.window, row.window_name.as_deref());
    out.push(b'}');
}

/// Appends the members `start`, `end` and, where there is one, `name`.
fn push_window(out: &mut Vec<u8>, window: TimeWindow, name: Option<&str>) {
    out.extend_from_slice(b"\"start\":\"");
    push_time(out, window.start);
    out.extend_from_slice(b"\",\"end\":\"");
    push_time(out, window.end);
    out.push(b'"');
    if let Some(name) = name {
        out.extend_from_slice(b",\"name\":");
        push_string(out, name);
    }
}

fn push_value(out: &mut Vec<u8>, value: &ResultValue) {
    match value {
        ResultValue::Count(count) => push_integer(out, *count),
        ResultValue::Number(number) if number.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(*number).as_bytes());
        }
        ResultValue::Number(_) | ResultValue::Null => out.extend_from_slice(b"null"),
        ResultValue::Json(value) => {
            serde_json::to_writer(&mut *out, value).expect("a JSON value is always JSON, and a Vec takes all bytes");
        }
    }
}

fn push_integer(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("writing to a Vec cannot fail");
}

/// Appends `text` as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        serde_json::to_writer(&mut *out, text).expect("a str is always a JSON string, and a Vec takes all bytes");
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event::GroupingKey;
    use crate::sink::Firing;
    use crate::time::EventTime;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn time(text: &str) -> EventTime {
        chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc().into()
    }

    /// The row of the format's documentation.
    pub(crate) fn documented_row() -> ResultRow {
        let names = ["count", "sum", "average", "min", "max", "stddev", "p50", "p95", "p99"];
        let numbers = [1226.4, 102.2, 88.0, 140.5, 9.7, 101.0, 139.0, 140.2];
        let mut values = vec![ResultValue::Count(12)];
        values.extend(numbers.map(ResultValue::Number));
        ResultRow {
            window: TimeWindow { start: time("2026-09-21T14:13:00Z"), end: time("2026-09-21T14:14:00Z") },
            window_name: None,
            key: GroupingKey::from_fields(&[("model", "claude-3-opus"), ("region", "us-west-2")]),
            names: names.map(Arc::from).into(),
            values,
            revision: 0,
            op: ResultOp::Upsert,
            firing: Firing::OnTime,
            fired_at: time("2026-09-21T14:14:05.120Z"),
            complete: None,
            accumulators: None,
            view: None,
        }
    }

    fn encoded(row: &ResultRow) -> String {
        let mut out = Vec::new();
        encode_result(row, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn record_key(row: &ResultRow) -> String {
        let mut out = Vec::new();
        encode_record_key(row, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_result_is_written_as_documented() {
        let expected = concat!(
            r#"{"window":{"start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"},"#,
            r#""key":{"model":"claude-3-opus","region":"us-west-2"},"#,
            r#""results":{"count":12,"sum":1226.4,"average":102.2,"min":88.0,"max":140.5,"stddev":9.7,"p50":101.0,"p95":139.0,"p99":140.2},"#,
            r#""revision":0,"op":"upsert","firing":"on_time","timestamp":"2026-09-21T14:14:05.120Z"}"#
        );
        assert_eq!(encoded(&documented_row()), expected);
    }

    #[test]
    fn what_is_no_number_is_null_and_names_are_escaped() {
        let mut row = documented_row();
        row.names = ["stddev", "a\"b\\c\n"].map(Arc::from).into();
        row.values = vec![ResultValue::Null, ResultValue::Json(serde_json::json!({"top": ["x", 1]}))];
        row.revision = 3;
        row.op = ResultOp::Retract;
        row.firing = Firing::Late;
        row.window_name = Some("five \"minutes\"".into());
        let value: serde_json::Value = serde_json::from_str(&encoded(&row)).unwrap();
        assert_eq!(value["results"]["stddev"], serde_json::Value::Null);
        assert_eq!(value["results"]["a\"b\\c\n"], serde_json::json!({"top": ["x", 1]}));
        assert_eq!(value["revision"], 3);
        assert_eq!(value["op"], "retract");
        assert_eq!(value["firing"], "late");
        assert_eq!(value["window"]["name"], "five \"minutes\"");
        row.values = vec![ResultValue::Number(f64::NAN), ResultValue::Number(f64::INFINITY)];
        assert!(encoded(&row).contains(r#""stddev":null,"a\"b\\c\n":null"#), "{}", encoded(&row));
    }

    #[test]
    fn the_record_key_names_window_and_key() {
        let mut row = documented_row();
        let expected = concat!(
            r#"{"key":{"model":"claude-3-opus","region":"us-west-2"},"#,
            r#""start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"}"#
        );
        assert_eq!(record_key(&row), expected);
        row.revision = 7;
        row.op = ResultOp::Retract;
        assert_eq!(record_key(&row), expected, "the same identity whatever happened to it");
        row.window_name = Some("minute".into());
        assert_eq!(record_key(&row), format!(r#"{},"name":"minute"}}"#, expected.trim_end_matches('}')));
    }

    #[test]
    fn a_change_of_a_view_is_written_as_documented() {
        let mut row = documented_row();
        row.names = ["rank", "p95"].map(Arc::from).into();
        row.values = vec![ResultValue::Count(1), ResultValue::Number(139.0)];
        row.view =
            Some(ViewMark { name: "slowest".into(), frontier: time("2026-09-21T14:14:30Z"), is_replaced: false });
        let expected = concat!(
            r#"{"view":"slowest","window":{"start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"},"#,
            r#""key":{"model":"claude-3-opus","region":"us-west-2"},"row":{"rank":1,"p95":139.0},"#,
            r#""op":"insert","frontier":"2026-09-21T14:14:30.000Z"}"#
        );
        assert_eq!(encoded(&row), expected);
        row.op = ResultOp::Retract;
        assert_eq!(encoded(&row), expected.replace("insert", "delete"));
        let expected = concat!(
            r#"{"view":"slowest","key":{"model":"claude-3-opus","region":"us-west-2"},"#,
            r#""start":"2026-09-21T14:13:00.000Z","end":"2026-09-21T14:14:00.000Z"}"#
        );
        assert_eq!(record_key(&row), expected);
    }

    #[test]
    fn appending_leaves_what_is_there() {
        let mut out = b"before ".to_vec();
        encode_record_key(&documented_row(), &mut out);
        assert!(out.starts_with(b"before {\"key\":"));
    }

    proptest! {
        #[test]
        fn numbers_read_back_as_they_were(number in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO, count: u64) {
            let mut row = documented_row();
            row.names = ["count", "n"].map(Arc::from).into();
            row.values = vec![ResultValue::Count(count), ResultValue::Number(number)];
            let text = encoded(&row);
            let digits = text.split(r#""n":"#).nth(1).unwrap().split('}').next().unwrap();
            prop_assert_eq!(digits.parse::<f64>().unwrap().to_bits(), number.to_bits());
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert!(value["results"]["n"].is_f64(), "{}", digits);
            prop_assert_eq!(value["results"]["count"].as_u64(), Some(count));
        }

        #[test]
        fn any_key_and_name_stays_json(name in ".*", field in ".*", value in ".*") {
            let mut row = documented_row();
            row.names = [Arc::from(name.as_str())].into();
            row.values = vec![ResultValue::Number(1.5)];
            row.key = GroupingKey::from_fields(&[(&field, &value)]);
            let read: serde_json::Value = serde_json::from_str(&encoded(&row)).unwrap();
            prop_assert_eq!(&read["results"][&name], &serde_json::json!(1.5));
            prop_assert_eq!(&read["key"][&field], &serde_json::json!(value));
            let read: serde_json::Value = serde_json::from_str(&record_key(&row)).unwrap();
            prop_assert_eq!(&read["key"][&field], &serde_json::json!(value));
        }
    }
}
