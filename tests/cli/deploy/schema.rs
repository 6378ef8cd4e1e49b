//! Manifests against the schema of Kubernetes, of which `kubernetes-1.32.json` has the part that is needed.

use super::super::checkout::ROOT;
use serde_json::Value;

pub struct Schema(Value);

impl Schema {
    pub fn load() -> Schema {
        let text = std::fs::read_to_string(ROOT.join("tests/cli/deploy/kubernetes-1.32.json")).expect("the schema");
        Schema(serde_json::from_str(&text).expect("JSON"))
    }

    /// What is wrong with an object, a line each; `None` where the schema has no such kind.
    pub fn check(&self, object: &Value) -> Option<Vec<String>> {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let kind = format!("{}/{}", text("apiVersion"), text("kind"));
        let name = self.0["kinds"][&kind].as_str()?;
        let mut wrong = Vec::new();
        self.look(self.definition(name), object, &kind, &mut wrong);
        Some(wrong)
    }

    fn definition(&self, name: &str) -> &Value {
        self.0["definitions"].get(name).unwrap_or_else(|| panic!("the schema lacks {name}"))
    }

    fn look(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            return self.look(self.definition(name), value, at, wrong);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = |choice: &Value| {
                let mut wrong = Vec::new();
                self.look(choice, value, at, &mut wrong);
                wrong.is_empty()
            };
            if choices.iter().filter(|choice| fits(choice)).count() != 1 {
                wrong.push(format!("{at}: {value} is none of {choices:?}"));
            }
        }
        if let Some(kind) = schema["type"].as_str()
            && !is_of(kind, value)
        {
            return wrong.push(format!("{at}: {value} is no {kind}"));
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            wrong.push(format!("{at}: {value} is none of {words:?}"));
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.look(&schema["items"], item, &format!("{at}[{index}]"), wrong);
        }
        let Some(entries) = value.as_object() else { return };
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !entries.contains_key(key) {
                wrong.push(format!("{at}: lacks {key}"));
            }
        }
        for (key, value) in entries {
            let at = format!("{at}.{key}");
            match (schema["properties"].get(key), &schema["additionalProperties"]) {
                (Some(schema), _) | (None, schema @ Value::Object(_)) => self.look(schema, value, &at, wrong),
                (None, Value::Bool(false)) => wrong.push(format!("{at}: unknown key")),
                (None, _) => {}
            }
        }
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("the schema has the type {other}"),
    }
}

#[test]
fn what_the_schema_forbids_is_found() {
    let service = |spec: &str| {
        let object = super::yaml::parse(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s, labels: {{a: b}}}}\nspec: {spec}\n"
        ));
        Schema::load().check(&object).expect("a kind that it has").join("\n")
    };
    assert_eq!(service("{ports: [{port: 80, targetPort: http}, {port: 81, targetPort: 81}]}"), "");
    assert_eq!(service("{port: 80}"), "v1/Service.spec.port: unknown key");
    assert_eq!(service("{ports: [{port: http}]}"), "v1/Service.spec.ports[0].port: \"http\" is no integer");
    assert_eq!(service("{ports: [{name: a}]}"), "v1/Service.spec.ports[0]: lacks port");
    assert!(service("{ports: [{port: 80, targetPort: true}]}").contains("targetPort: true is none of"));
    assert!(Schema::load().check(&super::yaml::parse("kind: Pod")).is_none());
}
