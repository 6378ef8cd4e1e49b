//! Whether librdkafka takes a property. Asked of the library itself, which opens nothing for it.

use super::redact;
use super::values::Problem;
use rdkafka::config::ClientConfig;

/// Checks a property's name and value.
pub(super) fn check(name: &str, value: &str) -> Result<(), Problem> {
    let Err(error) = ClientConfig::new().set(name, value).create_native_config() else { return Ok(()) };
    let text = match error {
        rdkafka::error::KafkaError::ClientConfig(_, description, _, _) => description,
        other => other.to_string(),
    };
    // librdkafka repeats the value in its message.
    let shown = if redact::is_secret(name) { "a value that librdkafka does not take".to_owned() } else { text };
    Err(Problem::new(shown, "expected a property of librdkafka with a value of its kind"))
}
