//! One accumulator a window, in a namespace of a backend.

use super::backend::{Entry, StateBackend};
use super::key::{decode_window, encode_window};
use crate::aggregate::Window;
use crate::error::{ProcessorError, ProcessorResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// Keeps one accumulator of type `A` a window, written as JSON, in one namespace of a backend.
///
/// `A` is [`AggregationState`](crate::aggregate::AggregationState) or any type that serde writes and reads. Two managers of one
/// backend and namespace see the same accumulators.
pub struct WindowStateManager<A> {
    backend: Arc<dyn StateBackend>,
    namespace: String,
    accumulators: PhantomData<fn(A) -> A>,
}

impl<A> WindowStateManager<A> {
    /// The accumulators in `namespace`, which is any text without NUL (else every call fails).
    pub fn new(backend: Arc<dyn StateBackend>, namespace: impl Into<String>) -> Self {
        Self { backend, namespace: namespace.into(), accumulators: PhantomData }
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn StateBackend> {
        &self.backend
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Forgets a window's accumulator; nothing happens where there is none.
    pub async fn delete_window(&self, window: &Window) -> ProcessorResult<()> {
        self.backend.delete(&self.namespace, &encode_window(window)).await
    }

    /// The windows that have an accumulator, in the order of their starts, ends and keys.
    pub async fn windows(&self) -> ProcessorResult<Vec<Window>> {
        self.entries().await?.iter().map(|(key, _)| self.window(key)).collect()
    }

    async fn entries(&self) -> ProcessorResult<Vec<Entry>> {
        self.backend.scan_prefix(&self.namespace, &[]).await
    }

    fn window(&self, key: &[u8]) -> ProcessorResult<Window> {
        decode_window(key).ok_or_else(|| {
            ProcessorError::State(format!(
                "namespace `{}`: the key {} is no window's; something else writes there",
                self.namespace,
                key.escape_ascii()
            ))
        })
    }
}

impl<A: Serialize + DeserializeOwned> WindowStateManager<A> {
    /// A window's accumulator.
    pub async fn get_accumulator(&self, window: &Window) -> ProcessorResult<Option<A>> {
        let bytes = self.backend.get(&self.namespace, &encode_window(window)).await?;
        bytes.map(|bytes| self.read(window, &bytes)).transpose()
    }

    /// Keeps a window's accumulator in the place of the one before.
    ///
    /// It takes `&accumulator` and also `&accumulator` of an `Option`, such as [`WindowStateManager::get_accumulator`] gives:
    /// putting back `None` leaves the window without one.
    pub async fn put_accumulator<'a>(
        &self,
        window: &Window,
        accumulator: impl Into<Option<&'a A>>,
    ) -> ProcessorResult<()>
    where
        A: 'a,
    {
        // Written before the first await, so that the future does not hold on to the accumulator.
        let bytes = accumulator.into().map(|accumulator| self.write(window, accumulator)).transpose()?;
        match bytes {
            Some(bytes) => self.backend.put(&self.namespace, &encode_window(window), &bytes).await,
            None => self.delete_window(window).await,
        }
    }

    /// All windows with their accumulators, in the order of [`WindowStateManager::windows`].
    pub async fn accumulators(&self) -> ProcessorResult<Vec<(Window, A)>> {
        let entries = self.entries().await?;
        let read = |(key, bytes): &Entry| {
            let window = self.window(key)?;
            let accumulator = self.read(&window, bytes)?;
            Ok((window, accumulator))
        };
        entries.iter().map(read).collect()
    }

    fn write(&self, window: &Window, accumulator: &A) -> ProcessorResult<Vec<u8>> {
        serde_json::to_vec(accumulator).map_err(|error| self.failure(window, "cannot be written", &error))
    }

    fn read(&self, window: &Window, bytes: &[u8]) -> ProcessorResult<A> {
        serde_json::from_slice(bytes).map_err(|error| self.failure(window, "cannot be read", &error))
    }

    fn failure(&self, window: &Window, what: &str, error: &serde_json::Error) -> ProcessorError {
        let namespace = &self.namespace;
        ProcessorError::State(format!("namespace `{namespace}`: the accumulator of {window} {what}: {error}"))
    }
}

impl<A> Clone for WindowStateManager<A> {
    fn clone(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), namespace: self.namespace.clone(), accumulators: PhantomData }
    }
}

impl<A> fmt::Debug for WindowStateManager<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowStateManager({} in {})", self.namespace, self.backend.name())
    }
}
