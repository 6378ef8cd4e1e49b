//! Pipelines that take checkpoints: stopped and run again, they are as if they had never been stopped.

use crate::calls::{Call, calls, of_calls};
use llm_optimizer_processor::checkpoint::{StartFrom, StartOptions};
use llm_optimizer_processor::config::Delivery;
use llm_optimizer_processor::time::Epoch;
use llm_optimizer_processor::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What a database with two-phase commits would hold: it survives the runs.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    open: Vec<String>,
    prepared: BTreeMap<SinkEpoch, Vec<String>>,
    visible: Vec<String>,
    calls: Vec<String>,
}

/// A result without what differs between two runs.
fn line(result: &AggregationResult) -> String {
    let key = result.window.key.as_ref().map(|key| format!("{:?}", key.fields()));
    let results: BTreeMap<_, _> = result.results.iter().collect();
    format!("{} {key:?} {results:?}", result.window.start)
}

#[async_trait]
impl EventSink<AggregationResult> for Store {
    async fn send(&self, result: AggregationResult) -> ProcessorResult<()> {
        self.0.lock().unwrap().open.push(line(&result));
        Ok(())
    }

    fn epochs(&self) -> Option<&dyn EpochSink> {
        Some(self)
    }
}

#[async_trait]
impl EpochSink for Store {
    async fn prepare(&self, of: SinkEpoch) -> ProcessorResult<()> {
        let mut content = self.0.lock().unwrap();
        let lines = std::mem::take(&mut content.open);
        content.prepared.insert(of, lines);
        content.calls.push("prepare".into());
        Ok(())
    }

    async fn commit(&self, upto: SinkEpoch) -> ProcessorResult<()> {
        let mut content = self.0.lock().unwrap();
        let later = content.prepared.split_off(&SinkEpoch { epoch: upto.epoch.next(), process: 0 });
        let lines: Vec<String> = std::mem::replace(&mut content.prepared, later).into_values().flatten().collect();
        content.visible.extend(lines);
        content.calls.push("commit".into());
        Ok(())
    }

    async fn abort(&self, _: u16, restored: Option<Epoch>) -> ProcessorResult<()> {
        let mut content = self.0.lock().unwrap();
        content.open.clear();
        content.prepared.retain(|of, _| restored.is_some_and(|restored| of.epoch <= restored));
        content.calls.push("abort".into());
        Ok(())
    }
}

/// The calls from the first on; before number `at` the pipeline is asked to end.
fn stopping(at: Option<usize>, handle: Arc<OnceLock<ShutdownHandle>>) -> impl Iterator<Item = Call> + Send + 'static {
    calls().enumerate().map(move |(number, call)| {
        if Some(number) == at {
            handle.get().expect("it was given before the run").shutdown();
        }
        call
    })
}

async fn run(directory: &Path, store: &Store, stop_at: Option<usize>, workers: usize, start: StartOptions) -> Summary {
    let handle: Arc<OnceLock<ShutdownHandle>> = Arc::default();
    let backend = RocksDBStateBackend::new(directory.join("state"), directory.join("checkpoints")).unwrap();
    let pipeline = of_calls()
        .with_iterator_source(stopping(stop_at, Arc::clone(&handle)))
        .with_state_backend(Arc::new(backend))
        .with_checkpoint_interval(Duration::from_millis(20))
        .with_delivery(Delivery::ExactlyOnce)
        .with_start(start)
        .with_parallelism(workers)
        // A turn takes no more, so that the end comes in the middle.
        .with_buffer_size(20)
        .with_sink(FileSink::append(directory.join("results.jsonl")))
        .with_sink(store.clone())
        .build()
        .unwrap();
    handle.set(pipeline.shutdown_handle()).map_err(drop).unwrap();
    pipeline.run().await.unwrap()
}

/// The lines of the file without what differs between two runs, and what the other sink shows; both sorted.
fn outcome(directory: &Path, store: &Store) -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(directory.join("results.jsonl")).unwrap();
    let without_time = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("timestamp");
        value.to_string()
    };
    let mut lines: Vec<String> = text.lines().map(without_time).collect();
    let mut visible = store.0.lock().unwrap().visible.clone();
    lines.sort();
    visible.sort();
    (lines, visible)
}

#[tokio::test]
async fn a_pipeline_that_is_stopped_again_and_again_has_the_results_of_one_that_is_not() {
    let whole = tempfile::tempdir().unwrap();
    let (store, newest) = (Store::default(), StartOptions::default());
    assert_eq!(run(whole.path(), &store, None, 2, newest).await.events, 600);
    let expected = outcome(whole.path(), &store);
    assert_eq!((expected.0.len(), expected.1.len()), (12, 12));

    let parts = tempfile::tempdir().unwrap();
    let store = Store::default();
    let mut events = 0;
    for (stop_at, workers) in [(Some(90), 1), (Some(250), 3), (Some(251), 2), (Some(480), 1), (None, 2)] {
        events += run(parts.path(), &store, stop_at, workers, newest).await.events;
        let calls = std::mem::take(&mut store.0.lock().unwrap().calls);
        assert_eq!(calls[0], "abort");
        assert_eq!(calls.last().map(String::as_str), Some("commit"));
    }
    assert_eq!(events, 600, "none is read twice");
    assert_eq!(outcome(parts.path(), &store), expected);
    // There is nothing left to do.
    assert_eq!(run(parts.path(), &store, None, 1, newest).await.events, 0);
    assert_eq!(outcome(parts.path(), &store), expected);
    // But to begin anew, which writes everything again.
    let anew = StartOptions { from: StartFrom::Anew, accept_loss: false };
    assert_eq!(run(parts.path(), &store, None, 1, anew).await.events, 600);
    assert_eq!(outcome(parts.path(), &store).0.len(), 24);
}
