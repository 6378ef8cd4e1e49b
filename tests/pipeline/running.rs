//! Pipelines that run: beside other work, with pages, stopped, and ended by a mistake.

use crate::calls::{Kept, START, call, calls, expected, of_calls, run_into, wait_until};
use llm_optimizer_processor::*;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_live_pipeline_gives_results_as_windows_close_and_is_stopped_by_its_handle() {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    let kept = Kept::default();
    let pipeline = of_calls().with_tokio_channel_source(receiver).with_sink(kept.clone()).build().unwrap();
    let (handle, metrics) = (pipeline.shutdown_handle(), pipeline.metrics());
    let running = tokio::spawn(pipeline.run());
    for call in calls() {
        sender.send(call).await.unwrap();
    }
    // The last window of each model is open: its end has not passed.
    wait_until("ten windows closed", || kept.len() == 10).await;
    // They close before the last calls are read, and the end leaves what is in the channel.
    wait_until("all is read", || metrics.render().contains("events_processed_total 600")).await;
    assert!(!running.is_finished() && !handle.is_shutting_down());
    handle.shutdown();
    let begun = Instant::now();
    let summary = running.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!((summary.events, summary.windows, summary.open), (600, 10, 2));
    assert_eq!(kept.len(), 10);
    assert!(metrics.render().contains("events_processed_total 600"), "{}", metrics.render());
    assert!(sender.is_closed() && handle.is_shutting_down());
}

#[tokio::test]
async fn a_pipeline_that_is_no_longer_wanted_stops() {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    let pipeline = of_calls().with_tokio_channel_source(receiver).with_sink(StdoutSink).build().unwrap();
    let outcome = tokio::time::timeout(Duration::from_millis(300), pipeline.run()).await;
    assert!(outcome.is_err(), "the channel is open, so the run goes on: {outcome:?}");
    wait_until("the run let go of its source", || sender.is_closed()).await;
}

#[tokio::test]
async fn a_pipeline_that_was_stopped_before_it_began_ends_at_once() {
    let (_sender, receiver) = crossbeam_channel::unbounded();
    let pipeline = of_calls().with_channel_source(receiver).with_sink(Kept::default()).build().unwrap();
    pipeline.shutdown_handle().shutdown();
    let begun = Instant::now();
    assert_eq!(pipeline.run().await.unwrap().events, 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// Runs a pipeline that takes its time, and counts how often another task of the runtime has its turn meanwhile.
async fn ticks_during_a_run() -> u32 {
    let slow = calls().inspect(|call| {
        if call.at_ms % 1000 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let kept = Kept::default();
    let running = run_into(&kept, of_calls().with_iterator_source(slow).with_parallelism(2));
    tokio::pin!(running);
    let mut timer = tokio::time::interval(Duration::from_millis(10));
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks = 0;
    loop {
        tokio::select! {
            summary = &mut running => {
                assert_eq!(summary.windows, 12);
                return ticks;
            }
            _ = timer.tick() => ticks += 1,
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_does_not_block_a_runtime_of_one_thread() {
    let ticks = ticks_during_a_run().await;
    assert!(ticks >= 20, "{ticks} turns in 600 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_does_not_block_a_runtime_of_several_threads() {
    let ticks = ticks_during_a_run().await;
    assert!(ticks >= 20, "{ticks} turns in 600 ms");
}

#[test]
fn a_run_without_any_runtime() {
    let kept = Kept::default();
    let pipeline = of_calls().with_iterator_source(calls()).with_sink(kept.clone()).build().unwrap();
    assert_eq!(pipeline.run_blocking().unwrap().windows, 12);
    assert_eq!(kept.counts_and_sums(), expected(calls()));
}

#[tokio::test]
async fn a_panic_in_a_closure_ends_the_run_with_its_message() {
    let builder = of_calls().with_iterator_source(calls()).with_values(|_, _| panic!("the closure's own mistake"));
    let error = builder.with_sink(Kept::default()).build().unwrap().run().await.unwrap_err();
    assert!(error.to_string().contains("the closure's own mistake"), "{error}");
}

#[tokio::test]
async fn the_pages_of_a_pipeline() {
    let listen = ([127, 0, 0, 1], kafka_broker::process::free_port()).into();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let metrics = ProcessorMetrics::new();
    let pipeline = of_calls()
        .with_tokio_channel_source(receiver)
        .with_metrics(metrics.clone())
        .with_metrics_listen(listen)
        .with_sink(Kept::default())
        .build()
        .unwrap();
    let running = tokio::spawn(pipeline.run());
    sender.send(call(START, "opus", 1.0)).await.unwrap();
    wait_until("the event was counted", || metrics.render().contains("events_processed_total 1")).await;
    let page = tokio::task::spawn_blocking(move || {
        ureq::get(format!("http://{listen}/metrics")).call().unwrap().body_mut().read_to_string().unwrap()
    });
    assert!(page.await.unwrap().contains("events_processed_total 1"));
    drop(sender);
    assert_eq!(running.await.unwrap().unwrap().windows, 1);
}
