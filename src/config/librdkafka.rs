//! Whether librdkafka takes a property. Asked of the library itself, which opens nothing for it.

use super::redact;
use super::values::Problem;
use rdkafka::config::ClientConfig;

/// Checks a property's name and value.
pub(super) fn check(name: &str, value: &str) -> Result<(), Problem> {
    // Setting this one would load the libraries it names, which is for the run to do.
    if name == "plugin.library.paths" {
        return Ok(());
    }
    let Err(error) = ClientConfig::new().set(name, value).create_native_config() else { return Ok(()) };
    let text = match error {
        rdkafka::error::KafkaError::ClientConfig(_, description, _, _) => description,
        other => other.to_string(),
    };
    // Some of its messages repeat the value.
    let secret = redact::is_secret(name) && !value.is_empty();
    let text = if secret { text.replace(value, redact::HIDDEN) } else { redact::text(&text).into_owned() };
    Err(Problem::expected(text, "a property of librdkafka with a value of its kind"))
}
