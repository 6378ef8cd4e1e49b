//! The configuration.
//!
//! The model: a YAML text becomes a tree of nodes that know their lines (`raw`); environment variables are put over it
//! (`env`); the sections are read into the validated [`ProcessorConfig`] (`build`), while each value and its origin is noted for
//! people ([`Effective`]). After that nothing in the program asks what was written: what is in [`model`] can run.
//!
//! How it fails: reading goes on after an error with the default in its place, and [`ConfigErrors`] holds everything that is
//! wrong, one line each with the file's line or the variable, what was found and what would be right. Nothing is opened but the
//! file itself.
//!
//! ```
//! use llm_optimizer_processor::config;
//!
//! let text = "processor: {windows: {tumbling: {size: 5m}}, source: stdin}";
//! let loaded = config::load_str("inline.yaml", text, std::iter::empty())?;
//! assert_eq!(loaded.config.job, "processor");
//!
//! let errors = config::load_str("inline.yaml", "processor: {paralelism: 4}", std::iter::empty()).unwrap_err();
//! assert_eq!(errors.to_string(), "inline.yaml:1: paralelism: unknown key; did you mean parallelism?");
//! # Ok::<(), config::ConfigErrors>(())
//! ```

mod build;
mod byte_size;
mod debug;
mod defaults;
mod effective;
mod env;
mod errors;
mod librdkafka;
pub mod model;
mod object_url;
mod raw;
mod reader;
mod redact;
mod schema;
mod section;
mod values;
mod windows;

pub use byte_size::ByteSize;
pub use effective::Effective;
pub use env::environment;
pub use errors::{ConfigError, ConfigErrors};
pub use model::*;
pub use object_url::ObjectUrl;
pub use raw::Origin;
pub use values::parse_duration;
pub use windows::*;

use raw::{Node, Value};
use reader::Reader;
use std::path::Path;
use values::Problem;

/// No configuration is this long: a larger file is some other file.
const LONGEST_FILE: u64 = 1 << 20;

/// A configuration that can run, and what people want to know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: ProcessorConfig,
    /// Every value with its origin.
    pub effective: Effective,
    /// What is allowed and most likely not meant, a line each.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// What `processor validate` prints: the warnings as comments, then [`Effective::render`].
    pub fn report(&self) -> String {
        let warnings: String = self.warnings.iter().map(|warning| format!("# warning: {warning}\n")).collect();
        warnings + &self.effective.render()
    }
}

/// Reads the configuration of a file, with the variables of `env` ([`environment`] for the process's own) over it.
///
/// # Errors
/// Everything that is wrong, including a file that cannot be read or is no YAML.
pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => load_str(&name, &text, env),
        Err(Problem { found, right }) => Err(ConfigErrors::new(vec![ConfigError::whole_file(&name, found, right)])),
    }
}

fn read(path: &Path) -> Result<String, Problem> {
    use std::io::Read;
    const RIGHT: &str = "expected a file of YAML that this user may read";
    let cannot = |error: std::io::Error| Problem::new(format_args!("cannot be read: {error}"), RIGHT);
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Problem::new("longer than 1 MiB", "expected a configuration of the processor"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::new(format_args!("no UTF-8 in line {line}"), "expected text in UTF-8")
    })
}

/// Reads a configuration from text; `name` stands for the file in messages.
///
/// # Errors
/// Everything that is wrong.
pub fn load_str(name: &str, text: &str, env: impl Iterator<Item = (String, String)>) -> Result<Loaded, ConfigErrors> {
    let document = raw::parse(text).map_err(|error| ConfigErrors::new(vec![ConfigError::syntax(name, error)]))?;
    let mut errors = Vec::new();
    let Some(mut root) = document.and_then(|document| processor_section(document, name, &mut errors)) else {
        if errors.is_empty() {
            errors.push(ConfigError::whole_file(
                name,
                "nothing in it",
                "expected a section processor: with the settings",
            ));
        }
        return Err(ConfigErrors::new(errors));
    };
    errors.extend(env::overlay(&mut root, env, name));
    let mut reader = Reader::new(name, errors);
    let config = build::build(&mut reader, &root);
    let Reader { errors, warnings, mut effective, .. } = reader;
    if !errors.is_empty() {
        return Err(ConfigErrors::new(errors));
    }
    effective.arrange();
    Ok(Loaded { config, effective, warnings })
}

/// What `processor validate` does with a text: the report, or everything that is wrong.
///
/// # Errors
/// As [`load_str`].
pub fn validate_text(
    name: &str,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<String, ConfigErrors> {
    load_str(name, text, env).map(|loaded| loaded.report())
}

/// The settings of a document: what is below `processor`, or the whole where the settings stand at the top.
fn processor_section(document: Node, name: &str, errors: &mut Vec<ConfigError>) -> Option<Node> {
    let mut error = |origin: &Origin, path: &str, found: String, right: String| {
        let (file, origin, path) = (name.to_owned(), origin.clone(), path.to_owned());
        errors.push(ConfigError { file, origin, column: None, path, found, right });
    };
    let Value::Map(entries) = document.value else {
        error(&document.origin, "", document.to_string(), "expected a section processor: with the settings".to_owned());
        return None;
    };
    if !entries.iter().any(|(key, _)| key.name == "processor") {
        let near = |name: &str| values::nearest(name, std::iter::once("processor")).is_some();
        if let [(key, Node { value: Value::Map(_), .. })] = entries.as_slice()
            && near(&key.name)
        {
            error(&key.origin, &key.name, "unknown key".to_owned(), "did you mean processor?".to_owned());
            return None;
        }
        return Some(Node { origin: document.origin, value: Value::Map(entries) });
    }
    let mut section = None;
    for (key, node) in entries {
        if key.name != "processor" {
            let right = match schema::child("", &key.name) {
                Some(_) => format!("move {} below processor", key.name),
                None => "expected processor alone at the top".to_owned(),
            };
            error(&key.origin, &key.name, "a key beside processor".to_owned(), right);
        } else if section.is_some() {
            error(&key.origin, "processor", "written twice".to_owned(), "write each key once".to_owned());
        } else {
            section = Some(node);
        }
    }
    let mut section = section?;
    if section.is_null() {
        section.value = Value::Map(Vec::new());
    }
    if !matches!(section.value, Value::Map(_)) {
        error(&section.origin, "processor", section.to_string(), "expected a section with the settings".to_owned());
        return None;
    }
    Some(section)
}
