//! An object store for threads that wait.
//!
//! The model: the crate `object_store` is asynchronous; its futures run on two threads of their own, and whoever calls waits for the
//! answer. Keys are relative to the URL that the store was opened with.
//!
//! How it fails: each error names the object by its URL, and says whether it is not there, is there already, is refused for good
//! (credentials, rights, something the store cannot do), or whether asking again makes sense. A caller whose run is over gets its thread
//! back within a moment, whatever the store does.

use crate::config::ObjectUrl;
use crate::error::{ProcessorError, ProcessorResult};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use crossbeam_channel::{RecvTimeoutError, bounded};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Threads that speak to the store.
const THREADS: usize = 2;
/// How often a caller looks whether its run is over.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the run that waits is over.
pub type IsOver = Arc<dyn Fn() -> bool + Send + Sync>;

/// An object store under a URL. Clones are the same.
#[derive(Clone)]
pub struct ObjectClient {
    url: ObjectUrl,
    prefix: Path,
    store: Arc<dyn ObjectStore>,
    runtime: Arc<Threads>,
    is_over: IsOver,
}

/// One object, as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name under the URL.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: DateTime<Utc>,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    /// The object, or all of them.
    pub url: String,
    /// What it means.
    pub kind: ObjectErrorKind,
    /// The store's words.
    pub why: String,
}

/// What an error of the store means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectErrorKind {
    /// There is no such object.
    Missing,
    /// There is one already.
    Exists,
    /// Asking again is of no use before somebody has changed something.
    Refused,
    /// It may have happened or not; asking again makes sense.
    Unreachable,
    /// The run was over before there was an answer.
    Over,
}

/// What a request comes to.
pub type ObjectResult<T> = Result<T, ObjectError>;

impl ObjectClient {
    /// Of a store whose objects begin with `prefix`; `url` is for people.
    pub fn new(url: ObjectUrl, store: Arc<dyn ObjectStore>, prefix: Path) -> ProcessorResult<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(|error| ProcessorError::io("cannot start the threads for the object store", error))?;
        let is_over: IsOver = Arc::new(|| false);
        Ok(Self { url, prefix, store, runtime: Arc::new(Threads(Some(runtime))), is_over })
    }

    /// The same store for somebody who waits no longer than this says.
    pub fn until(&self, is_over: IsOver) -> Self {
        Self { is_over, ..self.clone() }
    }

    /// Whether whoever waits has no time left.
    pub fn is_over(&self) -> bool {
        (self.is_over)()
    }

    /// Until when it waits.
    pub fn end(&self) -> IsOver {
        Arc::clone(&self.is_over)
    }

    /// What it was opened with.
    pub fn url(&self) -> &ObjectUrl {
        &self.url
    }

    /// Writes an object, in the place of one that is there.
    pub fn put(&self, key: &str, content: Bytes) -> ObjectResult<()> {
        self.put_as(key, content, PutMode::Overwrite)
    }

    /// Writes an object if there is none: of all who try one succeeds.
    pub fn create(&self, key: &str, content: Bytes) -> ObjectResult<()> {
        self.put_as(key, content, PutMode::Create)
    }

    fn put_as(&self, key: &str, content: Bytes, mode: PutMode) -> ObjectResult<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        self.wait(key, async move {
            let options = PutOptions { mode, ..PutOptions::default() };
            store.put_opts(&path, PutPayload::from_bytes(content), options).await.map(drop)
        })
    }

    /// Begins an object that is written in parts, and is there when all are.
    pub fn begin(&self, key: &str) -> ObjectResult<Parts<'_>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        let upload =
            self.wait(key, async move { store.put_multipart_opts(&path, PutMultipartOptions::default()).await })?;
        Ok(Parts { client: self, key: key.to_owned(), upload })
    }

    /// A whole object.
    pub fn get(&self, key: &str) -> ObjectResult<Bytes> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        self.wait(key, async move { store.get_opts(&path, GetOptions::default()).await?.bytes().await })
    }

    /// Some bytes of an object that begins before `range` ends, and the length of all of it.
    pub fn get_range(&self, key: &str, range: Range<u64>) -> ObjectResult<(Bytes, u64)> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        self.wait(key, async move {
            // An empty object has no range that a store would give.
            let range = (!range.is_empty()).then_some(GetRange::Bounded(range));
            let found = store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await?;
            let length = found.meta.size;
            Ok((found.bytes().await?, length))
        })
    }

    /// How long an object is.
    pub fn length(&self, key: &str) -> ObjectResult<u64> {
        let (store, path) = (Arc::clone(&self.store), self.path(key));
        self.wait(key, async move {
            let found = store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await?;
            Ok(found.meta.size)
        })
    }

    /// All objects, in the order of their keys.
    pub fn list(&self) -> ObjectResult<Vec<Object>> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let mut objects = self.wait("", async move {
            let under = (!prefix.as_ref().is_empty()).then_some(&prefix);
            let of = |found: object_store::ObjectMeta| {
                let key = key_under(&prefix, &found.location)?;
                Some(Object { key, bytes: found.size, modified: found.last_modified })
            };
            let found: Vec<_> = store.list(under).try_collect().await?;
            Ok(found.into_iter().filter_map(of).collect::<Vec<_>>())
        })?;
        objects.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(objects)
    }

    /// The names at the top, of objects and of what objects are under.
    pub fn list_top(&self) -> ObjectResult<BTreeSet<String>> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        self.wait("", async move {
            let under = (!prefix.as_ref().is_empty()).then_some(&prefix);
            let found = store.list_with_delimiter(under).await?;
            let objects = found.objects.into_iter().map(|object| object.location);
            let names = found.common_prefixes.into_iter().chain(objects);
            Ok(names.filter_map(|path| key_under(&prefix, &path)).collect())
        })
    }

    /// Removes objects, in no order; those that are not there are no failure.
    pub fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        let store = Arc::clone(&self.store);
        let paths: Vec<_> = keys.iter().map(|key| Ok(self.path(key))).collect();
        self.wait("", async move {
            let mut removed = store.delete_stream(futures_util::stream::iter(paths).boxed());
            let mut failed = None;
            while let Some(one) = removed.next().await {
                match one {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.map_or(Ok(()), Err)
        })
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Has a request run, and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        key: &str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> ObjectResult<T> {
        let (answer, answered) = bounded(1);
        let task = self.runtime.get().spawn(async move {
            // Whoever asked may be gone.
            let _ = answer.send(request.await);
        });
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => return answer.map_err(|error| self.error(key, &error)),
                Err(RecvTimeoutError::Timeout) if self.is_over() => {
                    task.abort();
                    return Err(self.failure(key, ObjectErrorKind::Over, "the run is over".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "the request ended without an answer".to_owned();
                    return Err(self.failure(key, ObjectErrorKind::Unreachable, why));
                }
            }
        }
    }

    fn error(&self, key: &str, error: &object_store::Error) -> ObjectError {
        use object_store::Error;
        let kind = match error {
            Error::NotFound { .. } => ObjectErrorKind::Missing,
            Error::AlreadyExists { .. } => ObjectErrorKind::Exists,
            Error::Generic { .. } | Error::JoinError { .. } | Error::Precondition { .. } => {
                ObjectErrorKind::Unreachable
            }
            _ => ObjectErrorKind::Refused,
        };
        self.failure(key, kind, with_sources(error))
    }

    fn failure(&self, key: &str, kind: ObjectErrorKind, why: String) -> ObjectError {
        let url = if key.is_empty() { self.url.to_string() } else { self.url.of(key) };
        ObjectError { url, kind, why }
    }
}

/// The name that a path has under a prefix.
fn key_under(prefix: &Path, path: &Path) -> Option<String> {
    let parts: Vec<String> = path.prefix_match(prefix)?.map(|part| part.as_ref().to_owned()).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// An error with what it comes from, where that says more.
fn with_sources(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// An object that is being written in parts.
pub struct Parts<'a> {
    client: &'a ObjectClient,
    key: String,
    upload: Box<dyn MultipartUpload>,
}

impl Parts<'_> {
    /// Writes the next part. All but the last are of one length, at least 5 MiB.
    pub fn push(&mut self, content: Bytes) -> ObjectResult<()> {
        let part = self.upload.put_part(PutPayload::from_bytes(content));
        self.client.wait(&self.key, part)
    }

    /// Makes an object of the parts.
    pub fn finish(mut self) -> ObjectResult<()> {
        self.client.wait(&self.key, async move { self.upload.complete().await.map(drop) })
    }

    /// Gives the parts back to the store. One that does not hear it keeps them until its own rules remove them.
    pub fn give_up(mut self) {
        let _ = self.client.wait(&self.key, async move { self.upload.abort().await });
    }
}

impl ObjectError {
    /// Whether asking again makes sense.
    pub fn is_passing(&self) -> bool {
        self.kind == ObjectErrorKind::Unreachable
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ObjectErrorKind::Missing => write!(f, "{}: is missing", self.url),
            ObjectErrorKind::Exists => write!(f, "{}: is there already", self.url),
            _ => write!(f, "{}: {}", self.url, self.why),
        }
    }
}

impl From<ObjectError> for ProcessorError {
    fn from(error: ObjectError) -> Self {
        ProcessorError::State(error.to_string())
    }
}

impl fmt::Debug for ObjectClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectClient({})", self.url)
    }
}

/// The threads; they end without waiting for requests that nobody waits for.
struct Threads(Option<Runtime>);

impl Threads {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken when this is dropped")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
