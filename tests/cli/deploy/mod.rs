//! What the program is shipped and run with, against the program itself: the image, the manifests for Kubernetes, the units for systemd.
//!
//! None of the three can be run here. So their facts are compared with the program's (ports, pages, paths, options, exit codes), the
//! manifests with the schema of Kubernetes, and the commands in them are run.

mod image;
mod kubernetes;
mod pods;
mod schema;
mod units;
mod yaml;

use super::checkout::ROOT;
use super::program::Place;
use serde_json::Value;

/// A file of the checkout.
fn read(name: &str) -> String {
    std::fs::read_to_string(ROOT.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What a shipped configuration comes to, by the program's own word.
fn in_effect(name: &str) -> Value {
    let said = Place::new().run(&["validate", "--config", ROOT.join(name).to_str().expect("UTF-8")]);
    assert_eq!(said.code, Some(0), "{name}: {said:?}");
    yaml::parse(&said.out)["processor"].clone()
}

/// The port of `address`.
fn port(address: &Value) -> i64 {
    let text = address.as_str().unwrap_or_default();
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("{address} has no port"))
}

/// The values of a list of texts.
fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap_or_else(|| panic!("{list} is no list"));
    list.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("{item} is no text"))).collect()
}
