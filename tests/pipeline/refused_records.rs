//! Late events and bad lines: to files, closures and handlers of the program's own.

use crate::calls::{Kept, START, as_json, call, of_calls, run_into, with_late_calls, write_lines};
use llm_optimizer_processor::*;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test]
async fn late_events_go_where_the_program_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.jsonl");
    let late: Arc<Mutex<Vec<SideRecord>>> = Arc::default();
    let keeping = Arc::clone(&late);
    let specs = [
        SideSpec::file(&path),
        SideSpec::each(move |record| {
            keeping.lock().unwrap().push(record.clone());
            Ok(())
        }),
    ];
    for spec in specs {
        let builder = of_calls()
            .with_iterator_source(with_late_calls())
            .with_allowed_lateness(Duration::from_secs(5))
            .with_payload(|call| as_json(call).into_bytes())
            .with_late_sink(spec);
        let summary = run_into(&Kept::default(), builder).await;
        assert_eq!((summary.events, summary.late, summary.dropped_late()), (3, 1, 2));
    }
    let late = late.lock().unwrap();
    let seen: Vec<_> = late
        .iter()
        .map(|record| (record.reason, record.offset.0, record.late_by.unwrap().as_millis(), record.payload.clone()))
        .collect();
    let payload = |index: usize| as_json(&with_late_calls()[index]).into_bytes();
    assert_eq!(seen, [(Reason::Late, 2, 58_000, payload(2)), (Reason::Late, 4, 57_000, payload(4))]);
    let lines = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["late_by_ms"], &lines[0]["reason"]), (2, &58_000.into(), &"late".into()));
    assert_eq!(lines[1]["payload"], as_json(&with_late_calls()[4]));
}

#[tokio::test]
async fn bad_lines_go_to_the_dead_letters_or_end_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.jsonl");
    let lines = [as_json(&call(START, "opus", 1.0)), r#"{"at_ms":1,"model":"opus"}"#.into(), "not JSON".into()];
    write_lines(&path, lines);
    let source = || of_calls().with_file_source(path.display().to_string());
    let bad: Arc<Mutex<Vec<SideRecord>>> = Arc::default();
    let keeping = Arc::clone(&bad);
    let builder = source().with_dead_letter(SideSpec::each(move |record| {
        keeping.lock().unwrap().push(record.clone());
        Ok(())
    }));
    let summary = run_into(&Kept::default(), builder).await;
    assert_eq!((summary.events, summary.bad()), (1, 2));
    let bad = bad.lock().unwrap().clone();
    assert!(bad[0].detail.contains("missing field `millis`"), "{}", bad[0].detail);
    assert_eq!(bad[1].payload, b"not JSON");
    let pipeline = source().with_error_policy(ErrorPolicy::Fail).with_sink(Kept::default()).build().unwrap();
    let error = pipeline.run().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ProcessorError::BadRecord(_)) && text.contains("calls.jsonl"), "{text}");
}

/// Handles what makes it into no window by noting it; what it is first given it refuses.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<String>>>);

impl Noting {
    async fn note(&self, record: SideRecord) -> ProcessorResult<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut notes = self.0.lock().unwrap();
        if notes.is_empty() {
            notes.push("refused".into());
            return Err(ProcessorError::Sink("not yet".into()));
        }
        notes.push(format!("{} at {}", record.reason, record.offset));
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl LateEventHandler for Noting {
    async fn handle(&self, late: SideRecord) -> ProcessorResult<()> {
        self.note(late).await
    }
    async fn close(&self) -> ProcessorResult<()> {
        self.0.lock().unwrap().push("closed".into());
        Ok(())
    }
}

#[async_trait]
impl DeadLetterSink for Noting {
    async fn send(&self, letter: SideRecord) -> ProcessorResult<()> {
        self.note(letter).await
    }
}

#[tokio::test]
async fn handlers_of_the_programs_own_take_late_events_and_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("calls.jsonl");
    let lines =
        with_late_calls().iter().map(as_json).chain(["not JSON".to_owned(), "{}".to_owned()]).collect::<Vec<_>>();
    let offset = |line: usize| lines[..line].iter().map(|line| line.len() + 1).sum::<usize>();
    write_lines(&path, lines.clone());
    let (late, dead) = (Noting::default(), Noting::default());
    let retry =
        RetryPolicy { max_retries: 1, initial_delay: Duration::from_millis(1), max_delay: Duration::from_secs(1) };
    let builder = of_calls()
        .with_file_source(path.display().to_string())
        .with_allowed_lateness(Duration::from_secs(5))
        .with_retry_policy(retry)
        .with_late_event_handler(late.clone())
        .with_dead_letter_sink(Arc::new(dead.clone()));
    let summary = run_into(&Kept::default(), builder).await;
    assert_eq!((summary.events, summary.dropped_late(), summary.bad()), (3, 2, 2));
    let at = |reason: &str, line: usize| format!("{reason} at {}", offset(line));
    assert_eq!(late.notes(), ["refused".into(), at("late", 2), at("late", 4), "closed".into()]);
    assert_eq!(dead.notes(), ["refused".into(), at("malformed", 5), at("malformed", 6)]);
}

#[tokio::test]
async fn a_handler_that_goes_on_refusing_ends_the_run_with_its_reason() {
    let retry =
        RetryPolicy { max_retries: 1, initial_delay: Duration::from_millis(1), max_delay: Duration::from_secs(1) };
    let builder = of_calls()
        .with_iterator_source(with_late_calls())
        .with_retry_policy(retry)
        .with_late_event_handler(|_: SideRecord| Err(ProcessorError::Sink("the ledger is closed".into())));
    let error = builder.with_sink(Kept::default()).build().unwrap().run().await.unwrap_err();
    assert!(error.to_string().contains("the ledger is closed"), "{error}");
}
