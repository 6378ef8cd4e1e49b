//! From a URL to a store: which kind, with credentials from the environment.

use super::client::ObjectClient;
use crate::config::ObjectUrl;
use crate::error::{ProcessorError, ProcessorResult};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A request is made again this often before its failure is told: whoever asked tries again too, and says so.
const RETRIES: usize = 3;
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Opens the store of a URL. Nothing is asked of it yet.
pub fn open(url: &ObjectUrl) -> ProcessorResult<ObjectClient> {
    let wrong = |why: String| {
        ProcessorError::Config(format!(
            "state.checkpoint_path: {url} cannot be opened: {why}; credentials are read from the \
             environment, as the store's own tools do"
        ))
    };
    let (store, prefix): (Arc<dyn ObjectStore>, &str) = match url.url().scheme() {
        "file" => (Arc::new(directory(url)?), ""),
        "memory" => (memory(), url.url().path()),
        _ => (cloud(url).map_err(|error| wrong(error.to_string()))?, url.url().path()),
    };
    let prefix = Path::from_url_path(prefix).map_err(|error| wrong(error.to_string()))?;
    ObjectClient::new(url.clone(), store, prefix)
}

fn cloud(url: &ObjectUrl) -> object_store::Result<Arc<dyn ObjectStore>> {
    // Without a provider of cryptography the client panics; another that the program has chosen is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() },
        max_retries: RETRIES,
        retry_timeout: LONGEST_RETRY,
    };
    let text = url.to_string();
    Ok(match url.url().scheme() {
        "s3" | "s3a" => Arc::new(AmazonS3Builder::from_env().with_url(text).with_retry(retry).build()?),
        "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(text).with_retry(retry).build()?),
        _ => Arc::new(MicrosoftAzureBuilder::from_env().with_url(text).with_retry(retry).build()?),
    })
}

/// A directory as a store: what is written survives the machine's crash.
fn directory(url: &ObjectUrl) -> ProcessorResult<LocalFileSystem> {
    let refused = |why: String| ProcessorError::State(format!("{url} (state.checkpoint_path): {why}"));
    let path = url.url().to_file_path().map_err(|()| refused("is no path of this machine".to_owned()))?;
    std::fs::create_dir_all(&path).map_err(|error| refused(format!("cannot make the directory: {error}")))?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|error| refused(error.to_string()))?;
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

/// One for all jobs of this process, which goes with it.
fn memory() -> Arc<InMemory> {
    static MEMORY: OnceLock<Arc<InMemory>> = OnceLock::new();
    Arc::clone(MEMORY.get_or_init(Arc::default))
}
