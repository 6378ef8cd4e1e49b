//! Secrets stay out of everything that is printed: the effective configuration and error messages.

use std::borrow::Cow;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "***";

/// Parts of names whose values are secrets. A name is taken for a secret's rather once too often.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private",
    "key.pem",
    "key_pem",
    "apikey",
    "api.key",
    "api_key",
    "sasl.jaas",
];

/// Whether a key or property of this name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // Where a secret is, people may know.
    if name.ends_with("_file") {
        return false;
    }
    SECRET_NAMES.iter().any(|part| name.contains(part)) || name == "sasl.oauthbearer.config"
}

/// The text with what comes before the `@` of every URL in it hidden.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find("://") {
        let (before, after) = rest.split_at(position + 3);
        out.push_str(before);
        let end = after.find(['/', '?', '#', ',', ' ', '"', '\'']).unwrap_or(after.len());
        match after[..end].rfind('@') {
            Some(at) => {
                out.push_str(HIDDEN);
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in
            ["sasl.password", "ssl.key.pem", "sasl.jaas.config", "SSL.Key.Password", "sasl.oauthbearer.client.secret"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["sasl.username", "ssl.ca.location", "ssl.key.location", "group_id", "topics"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn userinfo_is_hidden_and_the_rest_kept() {
        assert_eq!(text("https://me:pw@host:1/x, http://a/b@c"), "https://***@host:1/x, http://a/b@c");
        assert_eq!(text("SASL_SSL://u:p@ss@k:9092,SSL://k2:9092"), "SASL_SSL://***@k:9092,SSL://k2:9092");
        assert_eq!(text("me@host"), "me@host");
    }
}
