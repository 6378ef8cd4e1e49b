//! The sources of a pipeline, as the run opens them.

use crate::error::{ProcessorError, ProcessorResult};
use crate::event::{Decoder, TypedDecoder};
use crate::runtime::{ConfiguredInput, Input, InputContext};
use crate::source::Source;
use crate::source::memory::{EventInput, MemorySource};
use std::sync::{Mutex, PoisonError};

/// Makes a worker's decoder.
pub(super) type MakeDecoder = Box<dyn Fn() -> Box<dyn Decoder> + Send + Sync>;

/// Kafka or files, with a decoder for the user's type.
pub(super) struct PayloadInput {
    source: ConfiguredInput,
    decoder: MakeDecoder,
}

impl PayloadInput {
    pub(super) fn new(source: ConfiguredInput, decoder: MakeDecoder) -> Self {
        Self { source, decoder }
    }
}

/// Without the progress of files: a library does not draw on its program's terminal.
impl Input for PayloadInput {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let (source, _) = self.source.open(context)?;
        Ok((source, (self.decoder)()))
    }

    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }
}

/// Events that are in the program already.
pub(super) struct MemoryInput<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    /// No worker has come yet.
    Whole(EventInput<T>, TypedDecoder<T>),
    /// One a worker, until it has come for it.
    Shared(Vec<Option<MemorySource<T>>>),
    /// Between the two.
    Dealing,
}

impl<T> MemoryInput<T> {
    pub(super) fn new(events: EventInput<T>, decoder: TypedDecoder<T>) -> Self {
        Self { state: Mutex::new(State::Whole(events, decoder)) }
    }
}

impl<T: Send + 'static> Input for MemoryInput<T> {
    fn open(&self, context: InputContext) -> ProcessorResult<(Box<dyn Source>, Box<dyn Decoder>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shares = match std::mem::replace(&mut *state, State::Dealing) {
            State::Whole(events, decoder) => {
                events.into_sources(&decoder, context.peers).into_iter().map(Some).collect()
            }
            State::Shared(shares) => shares,
            State::Dealing => Vec::new(),
        };
        let share = shares.get_mut(context.worker.0 as usize).and_then(Option::take);
        *state = State::Shared(shares);
        let source = share.ok_or_else(|| {
            ProcessorError::Runtime(format!("the events of worker {} were taken already", context.worker))
        })?;
        let decoder = source.intake_decoder();
        Ok((Box::new(source.resuming(context.resume)), decoder))
    }
}
