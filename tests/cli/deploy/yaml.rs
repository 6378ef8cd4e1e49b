//! YAML as JSON values, as far as manifests go: mappings, lists and scalars in one document a file.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// The one document in a text.
pub fn parse(text: &str) -> Value {
    let mut parser = Parser::new_from_str(text);
    let mut document = None;
    while let Some(event) = parser.next_event() {
        match event.expect("valid YAML").0 {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => assert!(document.replace(node(&mut parser, event)).is_none(), "a second document"),
        }
    }
    document.expect("a document")
}

fn next<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Event<'t> {
    parser.next_event().expect("the document goes on").expect("valid YAML").0
}

fn node<'t>(parser: &mut Parser<'t, StrInput<'t>>, event: Event<'t>) -> Value {
    match event {
        Event::Scalar(text, style, ..) => scalar(&text, style),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(parser) {
                    Event::SequenceEnd => return Value::Array(items),
                    event => items.push(node(parser, event)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries = Map::new();
            loop {
                match next(parser) {
                    Event::MappingEnd => return Value::Object(entries),
                    Event::Scalar(key, ..) => {
                        let event = next(parser);
                        let value = node(parser, event);
                        assert!(entries.insert(key.to_string(), value).is_none(), "{key} is there twice");
                    }
                    other => panic!("{other:?} is no key"),
                }
            }
        }
        other => panic!("{other:?}: manifests have no such thing"),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    // What begins with 0 is octal to Kubernetes, and decimal to YAML 1.2: modes.
    if let Some(octal) = text.strip_prefix('0').filter(|digits| !digits.is_empty())
        && let Ok(mode) = u32::from_str_radix(octal, 8)
    {
        return mode.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
    }
}

#[test]
fn yaml_is_read_as_kubernetes_does() {
    let value = parse("# c\na: [1, \"2\", 0440, x y]\nb: {c: true, d: , e: 2101:80}\n");
    let expected = r#"{"a":[1,"2",288,"x y"],"b":{"c":true,"d":null,"e":"2101:80"}}"#;
    assert_eq!(value.to_string(), expected);
}
