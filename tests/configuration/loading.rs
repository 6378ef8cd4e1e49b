//! Loads what the tests write, and finds what is shipped.

use crate::checkout::ROOT;
use llm_optimizer_processor::config::{self, *};
use std::path::PathBuf;

pub type Variables = Vec<(String, String)>;

pub fn no_env() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

pub fn variables(pairs: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Variables>().into_iter()
}

pub fn load_with(text: &str, env: &[(&str, &str)]) -> Loaded {
    config::load_str("test.yaml", text, variables(env)).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

pub fn loaded(text: &str) -> ProcessorConfig {
    load_with(text, &[]).config
}

pub fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(ROOT.join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files
}
