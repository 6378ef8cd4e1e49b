//! What programs do with late events and dead letters themselves.
//!
//! The model: a [`LateEventHandler`] or a [`DeadLetterSink`] is asynchronous, or a closure; it is driven on a thread of the run's
//! with a runtime of its own. Records come one at a time, in the order of each partition. Offsets are settled when `flush` has
//! returned after the record: what was taken is not read again, and what was not taken is.
//!
//! How it fails: a record that is refused is offered again, as the retry policy says, and no other one before it; then the run
//! ends with that error. A handler that is slow slows the readers.

use super::driver::Driver;
use super::side_output::SideSink;
use super::{SideRecord, SinkContext};
use crate::error::ProcessorResult;
use async_trait::async_trait;
use std::sync::Arc;

/// Takes the events that time rules out: too late ([`Reason::Late`](crate::Reason::Late)), returned from idleness when their
/// windows were gone ([`Reason::Expired`](crate::Reason::Expired)), or too far ahead of the clock
/// ([`Reason::Future`](crate::Reason::Future)). See
/// [`PipelineBuilder::with_late_event_handler`](crate::PipelineBuilder::with_late_event_handler).
///
/// ```
/// use llm_optimizer_processor::{LateEventHandler, ProcessorResult, SideRecord, async_trait};
///
/// /// Keeps what was too late by less than an hour, for the nightly recomputation.
/// struct Nightly(tokio::sync::mpsc::UnboundedSender<Vec<u8>>);
///
/// #[async_trait]
/// impl LateEventHandler for Nightly {
///     async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
///         if late.late_by.is_some_and(|by| by.as_millis() < 3_600_000) {
///             // Nobody to tell is no reason to end the run.
///             let _ = self.0.send(late.payload);
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// A closure is a handler too: `|late: SideRecord| { println!("{} {}", late.origin, late.offset); Ok(()) }`.
#[async_trait]
pub trait LateEventHandler: Send + Sync {
    /// Takes one event. After an error the same event comes again, as the retry policy says.
    async fn handle(&self, late: SideRecord) -> ProcessorResult<()>;

    /// Returns when everything taken is as durable as it will be. Offsets are committed after that.
    async fn flush(&self) -> ProcessorResult<()> {
        Ok(())
    }

    /// The orderly end.
    async fn close(&self) -> ProcessorResult<()> {
        self.flush().await
    }
}

/// Takes the records that could not be read: malformed, or without a timestamp, a key or a value that is a number. See
/// [`PipelineBuilder::with_dead_letter_sink`](crate::PipelineBuilder::with_dead_letter_sink).
///
/// ```
/// use llm_optimizer_processor::{DeadLetterSink, ProcessorResult, SideRecord, async_trait};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Sounds an alarm at the first record that is no JSON.
/// #[derive(Default)]
/// struct Alarm(AtomicU64);
///
/// #[async_trait]
/// impl DeadLetterSink for Alarm {
///     async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
///         if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
///             eprintln!("{} at offset {}: {}: {}", letter.origin, letter.offset, letter.reason, letter.detail);
///         }
///         Ok(())
///     }
/// }
/// ```
///
/// A closure is a sink too: `|letter: SideRecord| { println!("{}", letter.detail); Ok(()) }`.
#[async_trait]
pub trait DeadLetterSink: Send + Sync {
    /// Takes one record. After an error the same record comes again, as the retry policy says.
    async fn send(&self, letter: SideRecord) -> ProcessorResult<()>;

    /// Returns when everything taken is as durable as it will be. Offsets are committed after that.
    async fn flush(&self) -> ProcessorResult<()> {
        Ok(())
    }

    /// The orderly end.
    async fn close(&self) -> ProcessorResult<()> {
        self.flush().await
    }
}

#[async_trait]
impl<F: Fn(SideRecord) -> ProcessorResult<()> + Send + Sync> LateEventHandler for F {
    async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
        self(late)
    }
}

#[async_trait]
impl<F: Fn(SideRecord) -> ProcessorResult<()> + Send + Sync> DeadLetterSink for F {
    async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
        self(letter)
    }
}

#[async_trait]
impl<H: LateEventHandler + ?Sized> LateEventHandler for Arc<H> {
    async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
        (**self).handle(late).await
    }
    async fn flush(&self) -> ProcessorResult<()> {
        (**self).flush().await
    }
    async fn close(&self) -> ProcessorResult<()> {
        (**self).close().await
    }
}

#[async_trait]
impl<S: DeadLetterSink + ?Sized> DeadLetterSink for Arc<S> {
    async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
        (**self).send(letter).await
    }
    async fn flush(&self) -> ProcessorResult<()> {
        (**self).flush().await
    }
    async fn close(&self) -> ProcessorResult<()> {
        (**self).close().await
    }
}

/// The side sink of a handler of late events.
pub(super) fn late_side(handler: impl LateEventHandler + 'static) -> Box<dyn SideSink> {
    Box::new(Driven { handler, driver: Driver::default(), name: String::new(), taken: 0 })
}

/// The side sink of a sink of dead letters.
pub(super) fn dead_letter_side(sink: impl DeadLetterSink + 'static) -> Box<dyn SideSink> {
    late_side(Letters(sink))
}

/// A sink of dead letters under the other trait's names, so that one thing drives both.
struct Letters<S>(S);

#[async_trait]
impl<S: DeadLetterSink> LateEventHandler for Letters<S> {
    async fn handle(&self, letter: SideRecord) -> ProcessorResult<()> {
        self.0.send(letter).await
    }
    async fn flush(&self) -> ProcessorResult<()> {
        self.0.flush().await
    }
    async fn close(&self) -> ProcessorResult<()> {
        self.0.close().await
    }
}

struct Driven<H> {
    handler: H,
    driver: Driver,
    /// What logs and metrics call it.
    name: String,
    /// Records of the current batch that were taken: a batch that is given again goes on from there.
    taken: usize,
}

impl<H: LateEventHandler> SideSink for Driven<H> {
    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        context.name().clone_into(&mut self.name);
        tracing::debug!(target: "sink", sink = context.name(), "handler of the program's own started");
        Ok(())
    }

    fn write(&mut self, records: &[SideRecord]) -> ProcessorResult<()> {
        while let Some(record) = records.get(self.taken) {
            self.driver.drive(&self.name, self.handler.handle(record.clone()))?;
            self.taken += 1;
        }
        self.taken = 0;
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.driver.drive(&self.name, self.handler.flush())
    }

    fn close(&mut self) -> ProcessorResult<()> {
        self.driver.drive(&self.name, self.handler.close())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProcessorError;
    use crate::sink::side_encode::tests::late_record;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Refuses each payload once, and notes what it is called with.
    #[derive(Default)]
    struct Picky(Mutex<Vec<String>>);

    impl Picky {
        async fn take(&self, record: SideRecord) -> ProcessorResult<()> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let payload = String::from_utf8_lossy(&record.payload).into_owned();
            let mut calls = self.0.lock().unwrap();
            let refused = calls.contains(&format!("no {payload}"));
            calls.push(if refused { payload } else { format!("no {payload}") });
            if refused { Ok(()) } else { Err(ProcessorError::Sink("not now".into())) }
        }
    }

    #[async_trait]
    impl LateEventHandler for Picky {
        async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
            self.take(late).await
        }
        async fn flush(&self) -> ProcessorResult<()> {
            self.0.lock().unwrap().push("flush".into());
            Ok(())
        }
    }

    #[async_trait]
    impl DeadLetterSink for Picky {
        async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
            self.take(letter).await
        }
        async fn close(&self) -> ProcessorResult<()> {
            self.0.lock().unwrap().push("close".into());
            Ok(())
        }
    }

    fn play(mut side: Box<dyn SideSink>) {
        let records = [late_record(b"1"), late_record(b"2")];
        assert!(side.write(&records).is_err());
        assert!(side.write(&records).is_err(), "the second record is refused once as well");
        side.write(&records).unwrap();
        side.flush().unwrap();
        side.close().unwrap();
    }

    #[test]
    fn a_record_that_was_refused_comes_again_and_none_twice() {
        let handler = Arc::new(Picky::default());
        play(late_side(Arc::clone(&handler)));
        assert_eq!(*handler.0.lock().unwrap(), ["no 1", "1", "no 2", "2", "flush", "flush"]);
        let sink = Arc::new(Picky::default());
        play(dead_letter_side(Arc::clone(&sink)));
        assert_eq!(*sink.0.lock().unwrap(), ["no 1", "1", "no 2", "2", "close"]);
    }

    #[test]
    fn closures_will_do() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&seen);
        let mut side = late_side(move |late: SideRecord| {
            taken.lock().unwrap().push(late.payload);
            Ok(())
        });
        side.write(&[late_record(b"x")]).unwrap();
        side.close().unwrap();
        assert_eq!(*seen.lock().unwrap(), [b"x"]);
    }
}
