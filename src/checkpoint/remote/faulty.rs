//! A store that fails when it is told to, for tests.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It does not arrive, and the next ones do.
    Fails,
    /// It is done, a removal of several in part, and its answer is lost.
    LosesItsAnswer,
    /// It does not arrive, nor does any after it: whoever asked has died.
    IsNotMade,
    /// It is the last that is done.
    IsTheLast,
}

/// What a request does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Works,
    Fails,
    WorksUnheard,
}

/// A store in which one request goes wrong.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    requests: AtomicUsize,
    /// Which, counted from 0, and how.
    fault: Option<(usize, How)>,
    /// Objects that were read.
    pub gets: AtomicUsize,
    /// Writes over what is there, whatever the condition.
    pub heeds_no_condition: AtomicBool,
    /// Never answers.
    pub hangs: AtomicBool,
}

impl Faulty {
    /// Where the fault never comes the store is as the one within.
    pub fn new(inner: Arc<dyn ObjectStore>, fault: Option<(usize, How)>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            requests: AtomicUsize::new(0),
            fault,
            gets: AtomicUsize::new(0),
            heeds_no_condition: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
        })
    }

    /// Whether the fault has come.
    pub fn has_failed(&self) -> bool {
        self.fault.is_some_and(|(at, _)| self.requests.load(Ordering::SeqCst) > at)
    }

    fn deed(&self) -> Deed {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Some((at, How::Fails)) if number == at => Deed::Fails,
            Some((at, How::LosesItsAnswer | How::IsTheLast)) if number == at => Deed::WorksUnheard,
            Some((at, How::IsNotMade)) if number >= at => Deed::Fails,
            Some((at, How::IsTheLast)) if number > at => Deed::Fails,
            _ => Deed::Works,
        }
    }

    /// Does a request, or not, and answers, or not.
    async fn meet<T>(&self, request: impl Future<Output = Result<T>> + Send) -> Result<T> {
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match self.deed() {
            Deed::Works => request.await,
            Deed::Fails => Err(lost()),
            Deed::WorksUnheard => {
                let _ = request.await;
                Err(lost())
            }
        }
    }
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "the connection was lost".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if self.heeds_no_condition.load(Ordering::SeqCst) {
            opts.mode = PutMode::Overwrite;
        }
        self.meet(self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.meet(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.meet(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.meet(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let failed = stream::once(async { Err(lost()) });
        match self.deed() {
            Deed::Works => self.inner.delete_stream(locations),
            Deed::Fails => failed.boxed(),
            Deed::WorksUnheard => self.inner.delete_stream(locations.take(1).boxed()).chain(failed).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.deed() {
            Deed::Works => self.inner.list(prefix),
            Deed::Fails | Deed::WorksUnheard => stream::once(async { Err(lost()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.meet(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.meet(self.inner.copy_opts(from, to, options)).await
    }
}
