//! Sinks that users write.
//!
//! The model: a user implements [`EventSink`], which is asynchronous; [`UserSink`] drives it on the sink's own thread with a
//! runtime of its own, so that neither a slow sink nor the user's runtime gets in the way of the other. Timers and sockets of
//! tokio work; they make progress while one of the sink's calls is running.

use super::driver::Driver;
use super::epoch_sink::with_epochs;
use super::{
    EpochSink, Firing, Prepared, ResultOp, ResultRow, ResultSink, ResultValue, SinkContext, SinkEpoch, SinkRecovery,
};
use crate::aggregate::{AggregationResult, Window};
use crate::error::ProcessorResult;
use crate::event::GroupingKey;
use crate::time::Epoch;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A destination of `T`, usually [`AggregationResult`].
///
/// ```
/// use async_trait::async_trait;
/// use llm_optimizer_processor::ProcessorResult;
/// use llm_optimizer_processor::aggregate::AggregationResult;
/// use llm_optimizer_processor::sink::EventSink;
///
/// struct Printer;
///
/// #[async_trait]
/// impl EventSink<AggregationResult> for Printer {
///     async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
///         println!("{}: {}", result.window.start, result.results["count"]);
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait EventSink<T: Send + 'static>: Send + Sync {
    /// Takes one result. After an error the same result is sent again, as the retry policy says.
    async fn send(&self, result: T) -> ProcessorResult<()>;

    /// Takes one result with what made it: which windows, which revision, and whether it is early, on time or late. By default that
    /// is left out, and [`EventSink::send`] takes the result.
    async fn send_with(&self, result: T, info: ResultInfo) -> ProcessorResult<()> {
        drop(info);
        self.send(result).await
    }

    /// As [`EventSink::retract`], with what is said of the result that is taken back.
    async fn retract_with(&self, result: T, info: ResultInfo) -> ProcessorResult<()> {
        drop(info);
        self.retract(result).await
    }

    /// Takes back a result that was sent: its window has become part of another one. Ignored unless implemented; windows of a
    /// fixed size never do this.
    async fn retract(&self, result: T) -> ProcessorResult<()> {
        drop(result);
        Ok(())
    }

    /// Returns when everything sent is as durable as it will be. Offsets are committed after that.
    async fn flush(&self) -> ProcessorResult<()> {
        Ok(())
    }

    /// The orderly end.
    async fn close(&self) -> ProcessorResult<()> {
        self.flush().await
    }

    /// What logs and metrics call it.
    fn name(&self) -> &str {
        "user"
    }

    /// How it takes part in checkpoints, where it does: see [`EpochSink`].
    fn epochs(&self) -> Option<&dyn EpochSink> {
        None
    }
}

#[async_trait]
impl<T: Send + 'static, S: EventSink<T> + ?Sized> EventSink<T> for Arc<S> {
    async fn send(&self, result: T) -> ProcessorResult<()> {
        (**self).send(result).await
    }

    async fn send_with(&self, result: T, info: ResultInfo) -> ProcessorResult<()> {
        (**self).send_with(result, info).await
    }

    async fn retract_with(&self, result: T, info: ResultInfo) -> ProcessorResult<()> {
        (**self).retract_with(result, info).await
    }

    async fn retract(&self, result: T) -> ProcessorResult<()> {
        (**self).retract(result).await
    }

    async fn flush(&self) -> ProcessorResult<()> {
        (**self).flush().await
    }

    async fn close(&self) -> ProcessorResult<()> {
        (**self).close().await
    }

    fn name(&self) -> &str {
        (**self).name()
    }

    fn epochs(&self) -> Option<&dyn EpochSink> {
        (**self).epochs()
    }
}

/// A result as users see it. Times outside the years that chrono knows are clamped to them.
pub fn to_aggregation_result(row: &ResultRow) -> AggregationResult {
    let value = |value: &ResultValue| match value {
        ResultValue::Count(count) => (*count).into(),
        // What JSON cannot write becomes null.
        ResultValue::Number(number) => (*number).into(),
        ResultValue::Null => serde_json::Value::Null,
        ResultValue::Json(value) => value.clone(),
    };
    AggregationResult {
        window: Window {
            start: row.window.start.to_datetime_clamped(),
            end: row.window.end.to_datetime_clamped(),
            key: Some(row.key.clone()).filter(|key| *key != GroupingKey::everything()),
        },
        results: row.names.iter().zip(&row.values).map(|(name, number)| (name.to_string(), value(number))).collect(),
        timestamp: row.fired_at.to_datetime_clamped(),
    }
}

/// What is said of a result beside its figures.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResultInfo {
    /// The name of the windows, where there are several.
    pub window_name: Option<Arc<str>>,
    /// 0 for the first result of this window and key, then 1, 2, ...
    pub revision: u32,
    /// What made it fire.
    pub firing: Firing,
    /// Of an early result: the share of partitions that were past the window's end, 0 to 1.
    pub complete: Option<f64>,
    /// The view of whose content this is a change, and no window's result: what is taken back is deleted from it.
    pub view: Option<Arc<str>>,
}

impl ResultInfo {
    fn of(row: &ResultRow) -> Self {
        Self {
            window_name: row.window_name.clone(),
            revision: row.revision,
            firing: row.firing,
            complete: row.complete,
            view: row.view.as_ref().map(|view| Arc::clone(&view.name)),
        }
    }
}

/// A user's sink as one of the run's.
pub(super) struct UserSink {
    sink: Arc<dyn EventSink<AggregationResult>>,
    name: String,
    driver: Driver,
    /// Rows of the current batch that the user's sink has taken: a batch that is given again goes on from there.
    taken: usize,
    /// In a job that takes checkpoints, the epoch of the next result.
    epoch: Option<NextEpoch>,
}

#[derive(Clone, Copy)]
struct NextEpoch {
    of: SinkEpoch,
    /// Whether the user's sink knows of it.
    begun: bool,
}

impl UserSink {
    pub fn new(sink: Arc<dyn EventSink<AggregationResult>>) -> Self {
        let name = sink.name().to_owned();
        UserSink { sink, name, driver: Driver::default(), taken: 0, epoch: None }
    }

    /// Says that the epoch of the next result begins, once.
    fn begin(&mut self) -> ProcessorResult<()> {
        if let Some(NextEpoch { of, begun: false }) = self.epoch {
            self.drive(|sink| async move { with_epochs(&*sink, |epochs| epochs.begin(of)).await })?;
            self.epoch = Some(NextEpoch { of, begun: true });
        }
        Ok(())
    }

    fn drive<F: Future<Output = ProcessorResult<()>>>(
        &mut self,
        call: impl FnOnce(Arc<dyn EventSink<AggregationResult>>) -> F,
    ) -> ProcessorResult<()> {
        self.driver.drive(&self.name, call(Arc::clone(&self.sink)))
    }
}

impl ResultSink for UserSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        tracing::debug!(target: "sink", sink = context.name(), "user sink started");
        self.drive(|_| async { Ok(()) })
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        self.begin()?;
        while let Some(row) = rows.get(self.taken) {
            let result = to_aggregation_result(row);
            let (op, info) = (row.op, ResultInfo::of(row));
            self.drive(|sink| async move {
                match op {
                    ResultOp::Upsert => sink.send_with(result, info).await,
                    ResultOp::Retract => sink.retract_with(result, info).await,
                }
            })?;
            self.taken += 1;
        }
        self.taken = 0;
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.drive(|sink| async move { sink.flush().await })
    }

    fn close(&mut self) -> ProcessorResult<()> {
        self.drive(|sink| async move { sink.close().await })
    }

    fn recover(&mut self, recovery: SinkRecovery) -> ProcessorResult<()> {
        let SinkRecovery { shard, restored, prepared, taken_over, .. } = recovery;
        let held: BTreeSet<u16> = prepared.iter().map(|(shard, _)| shard.process).collect();
        let others = taken_over.iter().map(|shard| shard.process);
        let all: BTreeSet<u16> = held.iter().copied().chain(others).chain([shard.process]).collect();
        for process in all {
            self.drive(|sink| async move { with_epochs(&*sink, |epochs| epochs.abort(process, restored)).await })?;
        }
        for (process, epoch) in held.into_iter().filter_map(|process| Some((process, restored?))) {
            self.commit_of(SinkEpoch { epoch, process })?;
        }
        let epoch = restored.map_or(Epoch::FIRST, Epoch::next);
        self.epoch = Some(NextEpoch { of: SinkEpoch { epoch, process: shard.process }, begun: false });
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> ProcessorResult<Prepared> {
        self.begin()?;
        self.flush()?;
        if let Some(NextEpoch { of: SinkEpoch { process, .. }, .. }) = self.epoch {
            let of = SinkEpoch { epoch, process };
            self.drive(|sink| async move { with_epochs(&*sink, |epochs| epochs.prepare(of)).await })?;
            let next = SinkEpoch { epoch: epoch.next(), process };
            self.epoch = Some(NextEpoch { of: next, begun: false });
        }
        Ok(Prepared::default())
    }

    fn commit(&mut self, epoch: Epoch) -> ProcessorResult<()> {
        match self.epoch {
            Some(NextEpoch { of: SinkEpoch { process, .. }, .. }) => self.commit_of(SinkEpoch { epoch, process }),
            None => Ok(()),
        }
    }
}

impl UserSink {
    fn commit_of(&mut self, upto: SinkEpoch) -> ProcessorResult<()> {
        self.drive(|sink| async move { with_epochs(&*sink, |epochs| epochs.commit(upto)).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProcessorError;
    use crate::sink::Shard;
    use crate::sink::context::tests::detached;
    use crate::sink::encode::tests::documented_row;
    use std::sync::Mutex;
    use std::time::Duration;

    /// Fails every second call, and uses what tokio offers.
    #[derive(Default)]
    struct Picky {
        calls: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl EventSink<AggregationResult> for Picky {
        async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut calls = self.calls.lock().unwrap();
            calls.push(format!("send {}", result.results["count"]));
            if calls.len().is_multiple_of(2) {
                calls.pop();
                calls.push("refused".to_owned());
                return Err(ProcessorError::Sink("not now".into()));
            }
            Ok(())
        }

        async fn retract(&self, result: AggregationResult) -> ProcessorResult<()> {
            self.calls.lock().unwrap().push(format!("retract {}", result.results["count"]));
            Ok(())
        }

        async fn flush(&self) -> ProcessorResult<()> {
            self.calls.lock().unwrap().push("flush".to_owned());
            Ok(())
        }
    }

    fn row(count: u64) -> ResultRow {
        let mut row = documented_row();
        row.values[0] = ResultValue::Count(count);
        row
    }

    #[test]
    fn a_batch_given_again_goes_on_from_the_refused_result() {
        let picky = Arc::new(Picky::default());
        let mut sink = UserSink::new(Arc::clone(&picky) as Arc<dyn EventSink<AggregationResult>>);
        sink.open(detached()).unwrap();
        let mut taken_back = row(3);
        taken_back.op = ResultOp::Retract;
        let batch = [row(1), row(2), taken_back];
        assert!(sink.write(&batch).is_err());
        sink.write(&batch).unwrap();
        sink.write(&batch[2..]).unwrap();
        sink.close().unwrap();
        let calls = picky.calls.lock().unwrap();
        assert_eq!(*calls, ["send 1", "refused", "send 2", "retract 3", "retract 3", "flush"]);
    }

    /// Takes note of every call; each kind of them fails once, at its first.
    #[derive(Default)]
    struct Recorder {
        calls: Mutex<Vec<String>>,
        failed: Mutex<BTreeSet<String>>,
    }

    impl Recorder {
        fn call(&self, kind: &str, of: impl std::fmt::Display) -> ProcessorResult<()> {
            if self.failed.lock().unwrap().insert(kind.to_owned()) {
                return Err(ProcessorError::Sink(format!("{kind} fails once")));
            }
            self.calls.lock().unwrap().push(format!("{kind} {of}"));
            Ok(())
        }

        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.calls.lock().unwrap())
        }
    }

    #[async_trait]
    impl EventSink<AggregationResult> for Recorder {
        async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
            self.call("send", &result.results["count"])
        }

        fn epochs(&self) -> Option<&dyn EpochSink> {
            Some(self)
        }
    }

    #[async_trait]
    impl EpochSink for Recorder {
        async fn begin(&self, of: SinkEpoch) -> ProcessorResult<()> {
            self.call("begin", of)
        }

        async fn prepare(&self, of: SinkEpoch) -> ProcessorResult<()> {
            self.call("prepare", of)
        }

        async fn commit(&self, upto: SinkEpoch) -> ProcessorResult<()> {
            self.call("commit", upto)
        }

        async fn abort(&self, process: u16, restored: Option<Epoch>) -> ProcessorResult<()> {
            self.call("abort", format!("{process} {:?}", restored.map(Epoch::number)))
        }
    }

    /// As the retry policy does it.
    fn insist<T>(sink: &mut UserSink, mut call: impl FnMut(&mut UserSink) -> ProcessorResult<T>) -> T {
        (0..5).find_map(|_| call(sink).ok()).expect("it fails a few times at most")
    }

    #[test]
    fn a_sink_with_epochs_hears_of_each_in_order_whatever_fails_in_between() {
        let recorder = Arc::new(Recorder::default());
        let mut sink = UserSink::new(Arc::clone(&recorder) as Arc<dyn EventSink<AggregationResult>>);
        insist(&mut sink, |sink| sink.recover(SinkRecovery::default()));
        assert_eq!(recorder.take(), ["abort 0 None"]);
        insist(&mut sink, |sink| sink.write(&[row(1), row(2)]));
        insist(&mut sink, |sink| sink.prepare(Epoch::new(0)));
        insist(&mut sink, |sink| sink.write(&[row(3)]));
        insist(&mut sink, |sink| sink.commit(Epoch::new(0)));
        // An epoch without results.
        insist(&mut sink, |sink| sink.prepare(Epoch::new(1)));
        insist(&mut sink, |sink| sink.prepare(Epoch::new(2)));
        insist(&mut sink, |sink| sink.commit(Epoch::new(2)));
        let expected = [
            "begin 0-0",
            "send 1",
            "send 2",
            "prepare 0-0",
            "begin 1-0",
            "send 3",
            "commit 0-0",
            "prepare 1-0",
            "begin 2-0",
            "prepare 2-0",
            "commit 2-0",
        ];
        assert_eq!(recorder.take(), expected);
    }

    #[test]
    fn at_a_restart_what_came_after_the_checkpoint_is_aborted_and_the_checkpoint_committed_again() {
        let recorder = Arc::new(Recorder::default());
        recorder.failed.lock().unwrap().extend(["begin", "send", "commit", "abort"].map(str::to_owned));
        let mut sink = UserSink::new(Arc::clone(&recorder) as Arc<dyn EventSink<AggregationResult>>);
        let of = |process| (Shard { sink: 3, process }, Prepared::default());
        sink.recover(SinkRecovery {
            shard: Shard { sink: 3, process: 1 },
            restored: Some(Epoch::new(7)),
            // Process 4 is no more; process 7 was no more when the checkpoint was taken.
            prepared: vec![of(1), of(4)],
            taken_over: vec![of(4).0, of(7).0],
            ..SinkRecovery::default()
        })
        .unwrap();
        assert_eq!(
            recorder.take(),
            ["abort 1 Some(7)", "abort 4 Some(7)", "abort 7 Some(7)", "commit 7-1", "commit 7-4"]
        );
        sink.write(&[row(5)]).unwrap();
        assert_eq!(recorder.take(), ["begin 8-1", "send 5"]);
    }

    #[test]
    fn without_checkpoints_nobody_hears_of_epochs() {
        let recorder = Arc::new(Recorder::default());
        recorder.failed.lock().unwrap().insert("send".to_owned());
        let mut sink = UserSink::new(Arc::clone(&recorder) as Arc<dyn EventSink<AggregationResult>>);
        sink.write(&[row(1)]).unwrap();
        sink.flush().unwrap();
        sink.close().unwrap();
        assert_eq!(recorder.take(), ["send 1"]);
    }

    #[test]
    fn it_runs_inside_a_users_runtime_too() {
        let outer = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let picky = Arc::new(Picky::default());
        let sink = Arc::clone(&picky);
        outer.block_on(async move {
            let thread = std::thread::spawn(move || UserSink::new(sink).write(&[row(7)]));
            thread.join().unwrap().unwrap();
        });
        assert_eq!(*picky.calls.lock().unwrap(), ["send 7"]);
    }

    #[test]
    fn results_as_users_see_them() {
        let mut row = documented_row();
        row.values[1] = ResultValue::Null;
        let result = to_aggregation_result(&row);
        assert_eq!(result.window.start.to_rfc3339(), "2026-09-21T14:13:00+00:00");
        assert_eq!(result.window.end.to_rfc3339(), "2026-09-21T14:14:00+00:00");
        assert_eq!(result.window.key.as_ref().unwrap(), &row.key);
        assert_eq!(result.results["count"], 12);
        assert_eq!(result.results["sum"], serde_json::Value::Null);
        assert_eq!(result.results["p99"], 140.2);
        assert_eq!(result.results.len(), 9);
        assert_eq!(result.timestamp.timestamp_millis(), row.fired_at.as_millis());
        row.key = GroupingKey::everything();
        assert_eq!(to_aggregation_result(&row).window.key, None);
    }
}
