//! The URL of an object store that holds checkpoints, and what is wrong with one.

use super::values::Problem;
use std::fmt;
use url::Url;

/// What would be right, in every message about such a URL.
const RIGHT: &str =
    "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///directory, or a directory without `://`";

/// Schemes whose authority is a bucket or a container.
const BUCKETS: [&str; 6] = ["s3", "s3a", "gs", "az", "abfs", "abfss"];

/// A place in an object store: a store, a bucket there, and what the names of all objects begin with. It holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUrl(Url);

impl ObjectUrl {
    /// What somebody has written for a place of checkpoints; `None` where it names a directory.
    ///
    /// # Errors
    /// What is wrong with the URL, and what would be right, each without the name of a key.
    pub fn parse(text: &str) -> Result<Option<Self>, (String, String)> {
        Self::read(text).map_err(|problem| (problem.found, problem.right))
    }

    pub(super) fn read(text: &str) -> Result<Option<Self>, Problem> {
        let Some((scheme, _)) = text.split_once("://") else { return Ok(None) };
        let wrong = |found: String| Err(Problem::expected(found, RIGHT));
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return wrong(format!("no URL: {error}")),
        };
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        if BUCKETS.contains(&url.scheme()) {
            if !has_host {
                return wrong("a URL without a bucket".to_owned());
            }
        } else if matches!(url.scheme(), "file" | "memory") {
            if has_host {
                return wrong(format!("a URL of `{scheme}` with a host; a third `/` is missing"));
            }
            if url.scheme() == "file" && url.path() == "/" {
                return wrong("the root of the file system".to_owned());
            }
        } else {
            return wrong(format!("a URL of `{scheme}`, which is no store that checkpoints can be in"));
        }
        // `abfss://container@account.host` has a name there, and that is no secret.
        let is_azure = url.scheme().starts_with("abfs");
        if url.password().is_some() || (!url.username().is_empty() && !is_azure) {
            let found = "a URL with credentials in it";
            return Err(Problem::new(found, "take them out: they are read from the environment"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("a URL with `?` or `#` in it".to_owned());
        }
        if url.path().ends_with('/') {
            // Without a host the first `/` of the path stays: `memory:` would be no URL of a store.
            let path = format!("/{}", url.path().trim_matches('/'));
            url.set_path(&path);
        }
        Ok(Some(Self(url)))
    }

    /// The URL, for whoever opens the store.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Of an object under it.
    pub fn of(&self, key: &str) -> String {
        let under = self.to_string();
        format!("{}/{key}", under.strip_suffix('/').unwrap_or(&under))
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_store_is_taken_and_what_names_a_directory_is_none() {
        for text in ["checkpoints/feedback", "/var/lib/optimizer/checkpoints", "a:b", "./s3:/x"] {
            assert_eq!(ObjectUrl::parse(text), Ok(None), "{text}");
        }
        let taken = [
            ("s3://bucket/jobs/feedback", "s3://bucket/jobs/feedback/7/manifest.json"),
            ("s3://bucket/jobs/feedback//", "s3://bucket/jobs/feedback/7/manifest.json"),
            ("gs://bucket", "gs://bucket/7/manifest.json"),
            ("az://container/p", "az://container/p/7/manifest.json"),
            ("abfss://c@account.dfs.core.windows.net/p", "abfss://c@account.dfs.core.windows.net/p/7/manifest.json"),
            ("file:///srv/checkpoints", "file:///srv/checkpoints/7/manifest.json"),
            ("memory:///", "memory:///7/manifest.json"),
        ];
        for (text, object) in taken {
            let url = ObjectUrl::parse(text).unwrap().expect("a store");
            assert_eq!(url.of("7/manifest.json"), object);
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let refused = [
            ("http://host/bucket", "`http`, which is no store"),
            ("S4://bucket/x", "no store"),
            ("s3:///prefix", "without a bucket"),
            ("file://srv/checkpoints", "a third `/` is missing"),
            ("file:///", "the root of the file system"),
            ("s3://key:secret@bucket/x", "credentials"),
            ("s3://key@bucket/x", "credentials"),
            ("s3://bucket/x?region=eu", "`?`"),
            ("gs://bucket/x#y", "`#`"),
        ];
        for (text, found) in refused {
            let (said, right) = ObjectUrl::parse(text).unwrap_err();
            assert!(said.contains(found), "{text}: {said}");
            assert!(right.contains("s3://bucket/prefix") || right.contains("environment"), "{right}");
            assert!(!said.contains("secret") && !right.contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_configuration_has_a_url_and_a_directory_for_copies() {
        let state = |place: &str| {
            let text =
                format!("processor: {{job: j, state: {{backend: rocksdb, path: s, checkpoint_path: {place:?}}}}}");
            crate::config::load_str("t.yaml", &text, std::iter::empty()).map(|loaded| loaded.config.state)
        };
        let state_of = |place| state(place).unwrap();
        let remote = state_of("s3://bucket/x");
        assert_eq!(remote.checkpoint_path, Some("s/checkpoints".into()));
        assert_eq!(remote.checkpoint_url.map(|url| url.to_string()).as_deref(), Some("s3://bucket/x"));
        let local = state_of("/var/c");
        assert_eq!((local.checkpoint_path, local.checkpoint_url), (Some("/var/c".into()), None));
        let error = state("ftp://host/x").unwrap_err().to_string();
        assert!(error.starts_with("t.yaml:1: state.checkpoint_path: a URL of `ftp`"), "{error}");
        assert!(error.contains("s3://bucket/prefix"), "{error}");
    }
}
