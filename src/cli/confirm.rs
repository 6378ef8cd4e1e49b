//! A question to a person at a terminal.

use crate::checkpoint::remote::Remote;
use crate::config::StateConfig;
use crate::error::{ProcessorError, ProcessorResult};
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

/// Asks before a job begins anew although there are checkpoints. Without a terminal there is nobody to ask.
pub fn begin_anew(state: &StateConfig, yes: bool) -> ProcessorResult<()> {
    let shown = match (&state.checkpoint_url, &state.checkpoint_path) {
        _ if yes => return Ok(()),
        (Some(url), _) if !Remote::open(url, Arc::new(|| false))?.list()?.is_empty() => url.to_string(),
        (None, Some(directory)) if has_checkpoints(directory) => directory.display().to_string(),
        _ => return Ok(()),
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(ProcessorError::Config(format!(
            "--ignore-checkpoint: there are checkpoints in {shown}, and no terminal to ask at; add --yes to begin anew all the same"
        )));
    }
    let question = format!(
        "There are checkpoints in {shown}. Begin anew without them? What they hold of open windows is lost, and input is \
         read as by a job that has never run. [y/N] "
    );
    match ask(&question, &mut std::io::stderr(), &mut std::io::stdin().lock()) {
        true => Ok(()),
        false => Err(ProcessorError::Config("--ignore-checkpoint: not confirmed; nothing was started".into())),
    }
}

/// Anything in the directory may be one.
fn has_checkpoints(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether the answer is yes. No answer is no.
fn ask(question: &str, output: &mut impl Write, input: &mut impl BufRead) -> bool {
    let mut answer = String::new();
    let asked = write!(output, "{question}").and_then(|()| output.flush()).and_then(|()| input.read_line(&mut answer));
    asked.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn only_yes_is_yes() {
        let answer = |text: &str| ask("Really? ", &mut Vec::new(), &mut text.as_bytes());
        assert!(answer("y\n") && answer(" YES \n") && answer("yes"));
        assert!(!answer("\n") && !answer("") && !answer("n\n") && !answer("yellow\n"));
    }

    #[test]
    fn where_there_is_nothing_nobody_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let state = |place: String| {
            let text = format!("processor: {{state: {{backend: rocksdb, checkpoint_path: {place:?}}}}}");
            config::load_str("t.yaml", &text, std::iter::empty()).unwrap().config.state
        };
        let path = directory.path().display().to_string();
        let (here, none) = (state(path.clone()), state(format!("{path}/none")));
        let url = state(format!("file://{path}/objects"));
        for place in [&here, &none, &url] {
            begin_anew(place, false).unwrap();
        }
        std::fs::create_dir_all(directory.path().join("objects/7")).unwrap();
        std::fs::write(directory.path().join("objects/7/manifest.json"), "").unwrap();
        begin_anew(&here, true).unwrap();
        begin_anew(&url, true).unwrap();
    }
}
