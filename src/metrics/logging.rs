//! The log: text or JSON lines on standard error.
//!
//! Standard output belongs to results. Colours appear on a terminal only, and not where `NO_COLOR` is set. Targets of this
//! program: `processor` (what happens to the run), `frontier` (how time advances), `kafka`, `llm_optimizer_processor::...`.

use crate::config::LoggingConfig;
use crate::error::{ProcessorError, ProcessorResult};
use std::io::{IsTerminal, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const EXAMPLES: &str = "right would be a level (off, error, warn, info, debug, trace), or `info,frontier=debug`";

/// Sends the log of this process to standard error, as configured. Where a log is set up already, that one stays: a library
/// does not take it over.
pub fn init_logging(config: &LoggingConfig) -> ProcessorResult<()> {
    let filter = parse_filter(&config.filter)?;
    let on_terminal =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer());
    // The error means that someone else has set up a log: theirs stays.
    let _ = if config.json {
        builder.json().flatten_event(true).with_ansi(false).finish().try_init()
    } else {
        builder.with_ansi(on_terminal).finish().try_init()
    };
    Ok(())
}

/// Takes the line of a terminal that the cursor is on from whoever draws there, such as a progress bar: that is drawn again
/// below.
const OWN_LINE: &[u8] = b"\r\x1b[K";

fn writer() -> BoxMakeWriter {
    match std::io::stderr().is_terminal() {
        true => BoxMakeWriter::new(|| Lossy(OwnLine(std::io::stderr()))),
        false => BoxMakeWriter::new(|| Lossy(std::io::stderr())),
    }
}

/// Passes over what cannot be written. Who read the log may be gone; that must not end the thread that had something to say,
/// which is what the subscriber's own complaint about it would do.
struct Lossy<W>(W);

impl<W: Write> Write for Lossy<W> {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        self.write_all(record).map(|()| record.len())
    }

    fn write_all(&mut self, record: &[u8]) -> std::io::Result<()> {
        let _ = self.0.write_all(record);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Writes records that are given whole, each on a line of its own.
struct OwnLine<W>(W);

impl<W: Write> Write for OwnLine<W> {
    fn write(&mut self, record: &[u8]) -> std::io::Result<usize> {
        self.write_all(record).map(|()| record.len())
    }

    fn write_all(&mut self, record: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&[OWN_LINE, record].concat())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Reads filter directives. The error names the directive that is wrong.
pub fn parse_filter(text: &str) -> ProcessorResult<EnvFilter> {
    let directives: Vec<&str> = text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    for directive in &directives {
        if let Some(level) = misspelt_level(directive) {
            return Err(ProcessorError::Config(format!(
                "logging.filter: `{directive}` in `{text}` is no level; did you mean `{level}`? {EXAMPLES}"
            )));
        }
    }
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| {
        ProcessorError::Config(format!("logging.filter: `{text}` cannot be read: {error}; {EXAMPLES}"))
    })
}

/// A bare word is a target to `tracing`, with everything logged: `inof` would silence the program and nobody would know why.
fn misspelt_level(directive: &str) -> Option<&'static str> {
    let word = directive.to_ascii_lowercase();
    let bare = word.chars().all(|letter| letter.is_ascii_alphanumeric());
    if !bare || LEVELS.contains(&word.as_str()) || word.parse::<u8>().is_ok_and(|number| number <= 5) {
        return None;
    }
    let spelt_out = [("warning", "warn"), ("none", "off"), ("verbose", "debug"), ("information", "info")];
    if let Some((_, level)) = spelt_out.into_iter().find(|(other, _)| *other == word) {
        return Some(level);
    }
    let near = |level: &&&str| strsim::damerau_levenshtein(level, &word) <= usize::from(level.len() > 3) + 1;
    LEVELS.iter().filter(near).min_by_key(|level| strsim::damerau_levenshtein(level, &word)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse_filter(text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn good_filters() {
        for text in
            ["info", "INFO", "", "off", "info,frontier=debug", "warn, processor=trace", "frontier", "rdkafka=off", "3"]
        {
            assert!(parse_filter(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn bad_filters_are_named_with_what_is_right() {
        assert_eq!(
            message("inof"),
            "logging.filter: `inof` in `inof` is no level; did you mean `info`? right would be a level (off, error, warn, info, \
             debug, trace), or `info,frontier=debug`"
        );
        assert!(
            message("frontier=debug,warning")
                .contains("`warning` in `frontier=debug,warning` is no level; did you mean `warn`?")
        );
        assert!(message("frontier=loud").starts_with("logging.filter: `frontier=loud` cannot be read: "));
        let error = parse_filter("debg").expect_err("it is wrong");
        assert_eq!(error.exit_code(), crate::ExitCode::Usage);
    }

    #[test]
    fn a_second_set_up_changes_nothing_and_is_no_error() {
        let config = LoggingConfig { filter: "off".into(), json: true };
        assert!(init_logging(&config).is_ok());
        assert!(init_logging(&config).is_ok());
        assert!(init_logging(&LoggingConfig { filter: "a=b=c".into(), json: false }).is_err());
    }
}
