use super::*;
use crate::config::model::{KeyField, TimestampFormat, ValueField};
use crate::event::FieldIndex;
use proptest::prelude::*;
use serde_json::Value;

fn key_field(path: &str, default: Option<&str>) -> KeyField {
    let path = FieldPath::parse(path);
    KeyField { name: path.last().to_owned(), path, default: default.map(str::to_owned) }
}

fn value_field(path: &str) -> ValueField {
    let path = FieldPath::parse(path);
    ValueField { name: path.last().to_owned(), path }
}

fn listed() -> EventConfig {
    EventConfig {
        timestamp_field: FieldPath::parse("timestamp"),
        timestamp_format: TimestampFormat::Rfc3339,
        key: vec![key_field("data.model", None), key_field("data.region", Some("unknown"))],
        values: ValueFields::Listed(vec![value_field("data.latency_ms"), value_field("data.cost_usd")]),
        filter: Vec::new(),
    }
}

fn as_they_come() -> EventConfig {
    EventConfig { values: ValueFields::EveryNumberUnder(FieldPath::parse("data")), key: Vec::new(), ..listed() }
}

type Read = Result<Option<(EventTime, String, Vec<(String, f64)>)>, BadRecord>;

fn read(decoder: &mut JsonDecoder, payload: &[u8]) -> Read {
    let mut row = RowScratch::default();
    match decoder.decode(payload, &mut row)? {
        Decoded::Filtered => Ok(None),
        Decoded::Row => {
            let name = |index: FieldIndex| decoder.fields()[index.0 as usize].to_string();
            let values = row.values.iter().map(|(index, value)| (name(*index), *value)).collect();
            Ok(Some((row.time, decoder.render_key(&row.key).as_json().to_owned(), values)))
        }
    }
}

fn read_once(config: &EventConfig, payload: &str) -> Read {
    read(&mut JsonDecoder::new(config), payload.as_bytes())
}

fn event(data: &str) -> String {
    format!(r#"{{"timestamp":"2026-09-21T14:13:20Z","event_type":"metric","data":{data}}}"#)
}

fn values_of(config: &EventConfig, data: &str) -> Vec<(String, f64)> {
    read_once(config, &event(data)).unwrap().unwrap().2
}

fn key_of(config: &EventConfig, data: &str) -> String {
    read_once(config, &event(data)).unwrap().unwrap().1
}

fn named(values: &[(&str, f64)]) -> Vec<(String, f64)> {
    values.iter().map(|(name, value)| (name.to_string(), *value)).collect()
}

#[test]
fn the_documented_event() {
    let payload = r#"{"id":"1818e811892f902b","timestamp":"2026-09-21T14:13:19.831Z","source":"observatory","event_type":"metric",
 "data":{"model":"claude-3-opus","region":"us-west-2","latency_ms":102.232,"cost_usd":0.010223,"input_tokens":2078,"output_tokens":76,"rating":3},
 "metadata":{"user":"u6985"}}"#;
    let (time, key, values) = read_once(&listed(), payload).unwrap().unwrap();
    assert_eq!(time, EventTime::from_millis(1_789_999_999_831));
    assert_eq!(key, r#"{"model":"claude-3-opus","region":"us-west-2"}"#);
    assert_eq!(values, named(&[("latency_ms", 102.232), ("cost_usd", 0.010223)]));
    let (_, key, values) = read_once(&as_they_come(), payload).unwrap().unwrap();
    assert_eq!(key, "{}");
    let expected = [
        ("latency_ms", 102.232),
        ("cost_usd", 0.010223),
        ("input_tokens", 2078.0),
        ("output_tokens", 76.0),
        ("rating", 3.0),
    ];
    assert_eq!(values, named(&expected));
}

#[test]
fn equal_keys_have_equal_bytes_and_others_do_not() {
    let encoded = |data: &str| {
        let mut row = RowScratch::default();
        JsonDecoder::new(&listed()).decode(event(data).as_bytes(), &mut row).unwrap();
        row.key
    };
    let plain = encoded(r#"{"model":"é1","region":"x","latency_ms":1}"#);
    assert_eq!(plain, encoded(r#"{"latency_ms":1,"region":"\u0078","mod\u0065l":"\u00e91"}"#));
    let mut seen = std::collections::BTreeSet::new();
    for (model, region) in [
        ("\"1\"", "\"\""),
        ("1", "\"\""),
        ("1.0", "\"\""),
        ("true", "\"\""),
        ("\"true\"", "\"\""),
        ("\"\"", "\"1\""),
        ("\"a\"", "\"b\""),
    ] {
        let data = format!(r#"{{"model":{model},"region":{region},"latency_ms":1}}"#);
        assert!(seen.insert(encoded(&data)), "{data}");
        assert_eq!(key_of(&listed(), &data), format!(r#"{{"model":{model},"region":{region}}}"#));
    }
}

#[test]
fn keys_are_rendered_as_canonical_json() {
    assert_eq!(
        key_of(&listed(), r#"{"model":"a\"b\u000a\u007f\ud83d\ude00\/","latency_ms":1}"#),
        "{\"model\":\"a\\\"b\\n\u{7f}😀/\",\"region\":\"unknown\"}"
    );
    assert_eq!(
        key_of(&listed(), r#"{"model":null,"model":"m","region":null,"latency_ms":1}"#),
        r#"{"model":"m","region":"unknown"}"#
    );
}

#[test]
fn the_last_of_two_members_counts() {
    assert_eq!(values_of(&listed(), r#"{"model":"m","latency_ms":1,"latency_ms":2}"#), named(&[("latency_ms", 2.0)]));
    assert_eq!(values_of(&as_they_come(), r#"{"a":1,"b":5,"a":2,"b":"x","\u0061":3}"#), named(&[("a", 3.0)]));
    let twice =
        r#"{"timestamp":"2026-09-21T14:13:20Z","data":{"model":"a","latency_ms":1},"data":{"model":"b","cost_usd":2}}"#;
    let (_, key, values) = read_once(&listed(), twice).unwrap().unwrap();
    assert_eq!((key.as_str(), values), (r#"{"model":"b","region":"unknown"}"#, named(&[("cost_usd", 2.0)])));
    let gone = r#"{"timestamp":"2026-09-21T14:13:20Z","data":{"model":"a","latency_ms":1},"data":7}"#;
    assert_eq!(read_once(&listed(), gone).unwrap_err().reason, Reason::MissingKey);
    assert_eq!(read_once(&as_they_come(), gone).unwrap_err().reason, Reason::MissingValue);
}

#[test]
fn fields_as_they_come_keep_their_index() {
    let mut decoder = JsonDecoder::new(&as_they_come());
    let mut values = |data: &str| read(&mut decoder, event(data).as_bytes()).unwrap().unwrap().2;
    assert_eq!(values(r#"{"a":1,"b":2}"#), named(&[("a", 1.0), ("b", 2.0)]));
    assert_eq!(values(r#"{"b":3,"c":4,"a":5}"#), named(&[("b", 3.0), ("c", 4.0), ("a", 5.0)]));
    assert_eq!(values(r#"{"c":6,"deep":{"a":1},"list":[1],"b":7}"#), named(&[("c", 6.0), ("b", 7.0)]));
    assert_eq!(decoder.fields().iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn fields_as_they_come_are_limited() {
    let mut decoder = JsonDecoder::new(&as_they_come());
    for field in 0..crate::event::field_names::MAX_FIELDS {
        read(&mut decoder, event(&format!("{{\"f{field}\":1}}")).as_bytes()).unwrap();
    }
    let error = read(&mut decoder, event(r#"{"f1":1,"one_more":2}"#).as_bytes()).unwrap_err();
    assert_eq!(error.reason, Reason::TooLarge);
    assert!(error.detail.starts_with("data.one_more would be value field number 257"), "{}", error.detail);
    assert!(read(&mut decoder, event(r#"{"f255":1}"#).as_bytes()).is_ok());
}

#[test]
fn the_filter_comes_before_all_but_the_grammar() {
    let condition = |path: &str, any_of: &[&str]| FilterCondition {
        path: FieldPath::parse(path),
        any_of: any_of.iter().map(|text| text.to_string()).collect(),
    };
    let config = EventConfig {
        filter: vec![condition("event_type", &["metric", "1", "true"]), condition("data.env", &["prod"])],
        ..listed()
    };
    let passes = |payload: &str| read_once(&config, payload).map(|read| read.is_some());
    let good = |kind: &str, env: &str| {
        format!(
            r#"{{"event_type":{kind},"timestamp":"2026-09-21T14:13:20Z","data":{{"env":{env},"model":"m","latency_ms":1}}}}"#
        )
    };
    for kind in ["\"metric\"", "\"m\\u0065tric\"", "1", "true", "\"1\""] {
        assert_eq!(passes(&good(kind, "\"prod\"")), Ok(true), "{kind}");
    }
    for kind in ["\"other\"", "null", "2", "[\"metric\"]", "{}"] {
        assert_eq!(passes(&good(kind, "\"prod\"")), Ok(false), "{kind}");
    }
    assert_eq!(passes(&good("\"metric\"", "\"test\"")), Ok(false));
    assert_eq!(passes("{}"), Ok(false));
    assert_eq!(passes("{").unwrap_err().reason, Reason::Malformed);
    assert_eq!(
        passes(r#"{"event_type":"metric","data":{"env":"prod"}}"#).unwrap_err().reason,
        Reason::MissingTimestamp
    );
}

#[test]
fn one_path_may_serve_several_purposes() {
    let config = EventConfig { key: vec![key_field("data.latency_ms", None)], ..listed() };
    let (_, key, values) = read_once(&config, &event(r#"{"latency_ms":5}"#)).unwrap().unwrap();
    assert_eq!((key.as_str(), values), (r#"{"latency_ms":5}"#, named(&[("latency_ms", 5.0)])));
    let config = EventConfig { key: vec![key_field("data", None)], ..listed() };
    let error = read_once(&config, &event(r#"{"latency_ms":5}"#)).unwrap_err();
    assert_eq!(error.detail, "the key field data: an object; a string, a number or a boolean is needed");
    let (_, key, values) = read_once(&config, r#"{"timestamp":"2026-09-21T14:13:20Z","data":"x"}"#)
        .map_or_else(|error| (EventTime::MIN, error.detail, Vec::new()), |read| read.unwrap());
    assert_eq!(
        (key.as_str(), values.len()),
        ("all value fields are absent or null: data.latency_ms, data.cost_usd", 0)
    );
}

/// Milliseconds, the key's text, and the values by name.
type Expected = (i64, String, Vec<(String, f64)>);

/// The oracle: what a reader over serde_json's values makes of a record.
fn oracle(payload: &[u8]) -> Result<Expected, Reason> {
    let value: Value = serde_json::from_slice(payload).map_err(|_| Reason::Malformed)?;
    let object = value.as_object().ok_or(Reason::Malformed)?;
    let time = object
        .get("timestamp")
        .and_then(Value::as_str)
        .and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    let time = time.ok_or(Reason::MissingTimestamp)?.timestamp_millis();
    let data = |name: &str| object.get("data").and_then(|data| data.get(name));
    let model = data("model").filter(|model| !model.is_null() && !model.is_array() && !model.is_object());
    let model = model.ok_or(Reason::MissingKey)?;
    let region = match data("region") {
        None | Some(Value::Null) => Value::from("unknown"),
        Some(Value::Array(_) | Value::Object(_)) => return Err(Reason::MissingKey),
        Some(scalar) => scalar.clone(),
    };
    let mut values = Vec::new();
    for name in ["latency_ms", "cost_usd"] {
        match data(name) {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) => values.push((name.to_owned(), number.as_f64().unwrap())),
            Some(_) => return Err(Reason::NotANumber),
        }
    }
    if values.is_empty() {
        return Err(Reason::MissingValue);
    }
    Ok((time, format!(r#"{{"model":{model},"region":{region}}}"#), values))
}

/// Values of every kind; the numbers among them print the same everywhere.
fn json_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-1_000_000i32..1_000_000).prop_map(|number| Value::from(f64::from(number) / 64.0)),
        "\\PC{0,20}|[\"\\\\\u{0}-\u{1f}é😀]{0,6}".prop_map(Value::from),
        Just(Value::from("2026-09-21T14:13:20.5+02:00")),
    ];
    scalar.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((member_name(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn member_name() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec!["timestamp", "data", "model", "region", "latency_ms", "cost_usd", "x"])
            .prop_map(str::to_owned),
        "\\PC{0,8}",
    ]
}

/// Records that are often complete.
fn record() -> impl Strategy<Value = String> {
    let number = prop_oneof![4 => (0..100_000i32).prop_map(|n| Value::from(f64::from(n) / 16.0)), 1 => json_value()];
    let text = prop_oneof![4 => "[a-z\"é-]{0,20}".prop_map(Value::from), 1 => json_value()];
    let time = prop_oneof![6 => Just(Value::from("2026-09-21T14:13:20.123Z")), 1 => json_value()];
    let data = proptest::collection::vec(
        prop_oneof![
            3 => (Just("model".to_owned()), text.clone()),
            2 => (Just("region".to_owned()), text),
            3 => (Just("latency_ms".to_owned()), number.clone()),
            1 => (Just("cost_usd".to_owned()), number),
            2 => (member_name(), json_value()),
        ],
        0..8,
    );
    (time, data, proptest::collection::vec((member_name(), json_value()), 0..4), any::<bool>(), any::<bool>()).prop_map(
        |(time, data, more, pretty, escaped)| {
            let mut object: serde_json::Map<String, Value> = more.into_iter().collect();
            object.insert("timestamp".into(), time);
            object.insert("data".into(), Value::Object(data.into_iter().collect()));
            let text = match pretty {
                true => serde_json::to_string_pretty(&object).unwrap(),
                false => serde_json::to_string(&object).unwrap(),
            };
            if escaped { escape_all(&text) } else { text }
        },
    )
}

/// The same JSON with the letter `e` and everything beyond ASCII inside strings as `\u` escapes.
fn escape_all(json: &str) -> String {
    let (mut out, mut inside, mut after_backslash) = (String::new(), false, false);
    for character in json.chars() {
        match character {
            '"' if !after_backslash => inside = !inside,
            _ => {}
        }
        if inside && !after_backslash && (character == 'e' || !character.is_ascii()) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
        after_backslash = inside && character == '\\' && !after_backslash;
    }
    out
}

/// A record with some bytes changed, doubled, cut out or cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = (any::<prop::sample::Index>(), any::<u8>(), 0..5u8);
    (record(), proptest::collection::vec(damage, 1..3)).prop_map(|(record, damages)| {
        let mut bytes = record.into_bytes();
        for (place, byte, kind) in damages {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match kind {
                0 => bytes.truncate(place),
                1 => bytes[place] = byte,
                2 => bytes[place] = b"{}[],:\"\\ue0-.\n\0"[byte as usize % 15],
                3 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}

fn compare(payload: &[u8]) -> Result<(), TestCaseError> {
    let shown = String::from_utf8_lossy(payload);
    let ours = read(&mut JsonDecoder::new(&listed()), payload);
    match (ours, oracle(payload)) {
        (Ok(Some((time, key, values))), Ok(expected)) => {
            // The oracle prints numbers anew; so must the key for a comparison of types and values.
            let key: Value = serde_json::from_str(&key).unwrap();
            let expected_key: Value = serde_json::from_str(&expected.1).unwrap();
            prop_assert_eq!((time.as_millis(), key, values), (expected.0, expected_key, expected.2), "{}", shown);
        }
        // The oracle refuses a number beyond the largest double where it stands, whatever follows; a reader that drops values
        // says whether all of the record is JSON. It looks neither at surrogates nor at the bytes of what it drops.
        (ours, Err(Reason::Malformed)) if serde_says_out_of_range(payload) && !shown.contains("\\u") => {
            let is_json = std::str::from_utf8(payload)
                .is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
            prop_assert_eq!(ours.map_or_else(|bad| bad.reason != Reason::Malformed, |_| true), is_json, "{}", shown);
        }
        (_, Err(Reason::Malformed)) if serde_says_out_of_range(payload) => {}
        (Err(bad), Err(expected)) => prop_assert_eq!(bad.reason, expected, "{}: {}", shown, bad.detail),
        (ours, expected) => prop_assert!(false, "{}: {:?} but {:?}", shown, ours, expected),
    }
    Ok(())
}

fn serde_says_out_of_range(payload: &[u8]) -> bool {
    serde_json::from_slice::<Value>(payload).is_err_and(|error| error.to_string().starts_with("number out of range"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whole_records_read_as_with_serde_json(record in record()) {
        compare(record.as_bytes())?;
    }

    #[test]
    fn damaged_records_are_refused_as_with_serde_json(payload in damaged()) {
        compare(&payload)?;
    }

    #[test]
    fn any_bytes_are_survived(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        compare(&payload)?;
    }
}

#[test]
fn a_byte_that_is_no_text_is_malformed_beside_a_number_beyond_the_largest_double() {
    let payload = b"{\"cost_usd\":[null],\"data\":{\"cost_usd\":200.5,\"latency_ms\":6242e625,\"model\":\"a\"},\"timestamp\":\"\xff026-09-21T14:13:20.123Z\"}";
    assert_eq!(read(&mut JsonDecoder::new(&listed()), payload).unwrap_err().reason, Reason::Malformed);
    compare(payload).unwrap();
}

#[test]
fn numbers_are_the_nearest_double() {
    let payload = event(r#"{"cost_usd":2731e125,"latency_ms":588.0625,"model":"a"}"#);
    compare(payload.as_bytes()).unwrap();
}

#[test]
fn every_truncation_is_malformed() {
    let whole = event(r#"{"model":"a\u00e9b","region":[true,null,-1.5e3],"latency_ms":1}"#);
    for end in 0..whole.len() {
        if whole.is_char_boundary(end) {
            assert_eq!(read_once(&listed(), &whole[..end]).unwrap_err().reason, Reason::Malformed, "{}", &whole[..end]);
        }
    }
}

#[test]
fn deep_nesting_is_malformed_and_no_stack_is_used_up() {
    for open in ["[", "{\"data\":", "{\"x\":"] {
        let text = format!("{{\"data\":{}", open.repeat(200_000));
        let error = read_once(&listed(), &text).unwrap_err();
        assert_eq!(error.reason, Reason::Malformed);
        assert!(error.detail.contains("at most 127 levels"), "{}", error.detail);
    }
}
