//! State backends: the same behaviour in memory and in RocksDB, and what only the disk can show.

use llm_optimizer_processor::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

fn open(directory: &Path) -> RocksDBStateBackend {
    RocksDBStateBackend::new(directory.join("state"), directory.join("checkpoints")).unwrap()
}

fn put(namespace: &str, key: &[u8], value: &[u8]) -> StateChange {
    StateChange::Put { namespace: namespace.into(), key: key.into(), value: value.into() }
}

fn delete(namespace: &str, key: &[u8]) -> StateChange {
    StateChange::Delete { namespace: namespace.into(), key: key.into() }
}

/// A seeded walk of changes, checkpoints and restores against an ordered map.
async fn behaves_like_a_map(backend: &dyn StateBackend, mut seed: u64) {
    type Map = BTreeMap<(String, Vec<u8>), Vec<u8>>;
    let (mut map, mut taken) = (Map::new(), BTreeMap::<CheckpointId, Map>::new());
    let mut random = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for step in 0..300u64 {
        let namespace = ["", "a", "ab", "b"][random(4) as usize];
        let key = vec![[0u8, 1, 255][random(3) as usize]; random(4) as usize];
        match random(10) {
            0..=4 => {
                backend.put(namespace, &key, &step.to_be_bytes()).await.unwrap();
                map.insert((namespace.into(), key), step.to_be_bytes().into());
            }
            5 => {
                backend.delete(namespace, &key).await.unwrap();
                map.remove(&(namespace.into(), key));
            }
            6 => {
                let changes = vec![put(namespace, &key, b"first"), delete(namespace, &key), put("b", &key, b"last")];
                backend.apply(changes).await.unwrap();
                map.remove(&(namespace.into(), key.clone()));
                map.insert(("b".into(), key), b"last".into());
            }
            7 => {
                let id = CheckpointId(random(100));
                let outcome = backend.checkpoint(id).await;
                assert_eq!(outcome.is_ok(), !taken.contains_key(&id), "{outcome:?}");
                taken.entry(id).or_insert_with(|| map.clone());
            }
            8 => {
                let id = CheckpointId(random(100));
                let outcome = backend.restore(id).await;
                assert_eq!(outcome.is_ok(), taken.contains_key(&id), "{outcome:?}");
                map = taken.get(&id).unwrap_or(&map).clone();
            }
            _ => {
                let id = CheckpointId(random(100));
                backend.drop_checkpoint(id).await.unwrap();
                taken.remove(&id);
            }
        }
        let expected: Vec<(Vec<u8>, Vec<u8>)> = map
            .iter()
            .filter(|((in_namespace, key), _)| in_namespace == namespace && key.starts_with(&[255]))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(backend.scan_prefix(namespace, &[255]).await.unwrap(), expected, "step {step}");
        let probe = vec![0; random(3) as usize];
        let held = map.get(&(namespace.to_owned(), probe.clone())).cloned();
        assert_eq!(backend.get(namespace, &probe).await.unwrap(), held, "step {step}");
    }
    assert_eq!(backend.checkpoints().await.unwrap(), taken.keys().copied().collect::<Vec<_>>());
    assert!(!taken.is_empty() && !map.is_empty(), "the walk has not shown much");
}

#[tokio::test]
async fn both_backends_behave_like_a_map() {
    for seed in 0..20 {
        behaves_like_a_map(&MemoryStateBackend::new(), seed).await;
    }
    let directory = tempfile::tempdir().unwrap();
    behaves_like_a_map(&open(directory.path()), 21).await;
}

#[tokio::test]
async fn namespaces_with_a_nul_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let backends: [Arc<dyn StateBackend>; 2] = [Arc::new(MemoryStateBackend::new()), Arc::new(open(directory.path()))];
    for backend in backends {
        let error = backend.put("a\0b", b"k", b"v").await.unwrap_err().to_string();
        assert!(error.contains(r#"the namespace "a\0b" has a NUL"#), "{error}");
    }
}

#[tokio::test]
async fn state_and_checkpoints_are_there_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    first.put("n", b"k", b"1").await.unwrap();
    first.checkpoint(CheckpointId(3)).await.unwrap();
    first.put("n", b"k", b"2").await.unwrap();
    drop(first);
    let second = open(directory.path());
    assert_eq!(second.get("n", b"k").await.unwrap(), Some(b"2".to_vec()));
    second.restore(CheckpointId(3)).await.unwrap();
    assert_eq!(second.get("n", b"k").await.unwrap(), Some(b"1".to_vec()));
    // The checkpoint is still what it was, whatever happens to what was restored from it.
    second.put("n", b"k", b"3").await.unwrap();
    second.restore(CheckpointId(3)).await.unwrap();
    assert_eq!(second.get("n", b"k").await.unwrap(), Some(b"1".to_vec()));
    let names: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2, "nothing is left over: {names:?}");
}

#[tokio::test]
async fn a_crash_in_a_restore_leaves_one_state_or_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let (state, coming, going) = (
        directory.path().join("state"),
        directory.path().join("state.restoring"),
        directory.path().join("state.replaced"),
    );
    let first = open(directory.path());
    first.put("n", b"k", b"old").await.unwrap();
    drop(first);
    // After the first rename, before the second: what was to come is complete.
    std::fs::rename(&state, &going).unwrap();
    let other = tempfile::tempdir().unwrap();
    let made = open(other.path());
    made.put("n", b"k", b"new").await.unwrap();
    drop(made);
    std::fs::rename(other.path().join("state"), &coming).unwrap();
    let after = open(directory.path());
    assert_eq!(after.get("n", b"k").await.unwrap(), Some(b"new".to_vec()));
    assert!(!coming.exists() && !going.exists());
    drop(after);
    // Before the first rename: what was to come may be half made.
    std::fs::create_dir(&coming).unwrap();
    std::fs::write(coming.join("000009.sst"), "half").unwrap();
    assert_eq!(open(directory.path()).get("n", b"k").await.unwrap(), Some(b"new".to_vec()));
    assert!(!coming.exists());
}

#[tokio::test]
async fn a_damaged_checkpoint_leaves_the_state_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let backend = open(directory.path());
    backend.put("n", b"k", b"1").await.unwrap();
    backend.checkpoint(CheckpointId(1)).await.unwrap();
    backend.put("n", b"k", b"2").await.unwrap();
    std::fs::write(directory.path().join("checkpoints/1/CURRENT"), "MANIFEST-nowhere\n").unwrap();
    let error = backend.restore(CheckpointId(1)).await.unwrap_err();
    assert!(matches!(&error, ProcessorError::State(text) if text.contains("state.restoring")), "{error}");
    assert_eq!(backend.get("n", b"k").await.unwrap(), Some(b"2".to_vec()));
}

#[test]
fn directories_that_cannot_be_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let nested = RocksDBStateBackend::new(at("s"), at("s/checkpoints")).unwrap_err().to_string();
    assert!(nested.contains("none is inside the other") && nested.contains("s/checkpoints"), "{nested}");
    let nested = RocksDBStateBackend::new(at("c/x/../s"), at("c")).unwrap_err().to_string();
    assert!(nested.contains("none is inside the other"), "{nested}");
    std::fs::write(at("file"), "").unwrap();
    let error = RocksDBStateBackend::new(at("s"), at("file/checkpoints")).unwrap_err();
    assert!(matches!(&error, ProcessorError::Io { context, .. } if context.contains("file/checkpoints")), "{error}");
    let _open = open(directory.path());
    let error = RocksDBStateBackend::new(at("state"), at("checkpoints")).unwrap_err();
    assert!(matches!(&error, ProcessorError::State(text) if text.contains("/state")), "{error}");
}

/// Calls work where there is no runtime of tokio's as well.
#[test]
fn a_backend_without_a_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let backend = open(directory.path());
    let mut put = std::pin::pin!(backend.put("n", b"k", b"v"));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(put.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(()))));
}

#[tokio::test]
async fn an_accumulator_that_cannot_be_read_names_its_window() {
    let window = Window { start: chrono::DateTime::UNIX_EPOCH, end: chrono::DateTime::UNIX_EPOCH, key: None };
    let backend: Arc<dyn StateBackend> = Arc::new(MemoryStateBackend::new());
    let numbers = WindowStateManager::<Vec<f64>>::new(Arc::clone(&backend), "n");
    numbers.put_accumulator(&window, &vec![1.0, 2.0]).await.unwrap();
    assert_eq!(numbers.accumulators().await.unwrap(), [(window.clone(), vec![1.0, 2.0])]);
    let error = WindowStateManager::<AggregationState>::new(backend.clone(), "n").get_accumulator(&window).await;
    let text = error.unwrap_err().to_string();
    assert!(text.starts_with(&format!("state: namespace `n`: the accumulator of {window} cannot be read")), "{text}");
    backend.put("n", b"other", b"").await.unwrap();
    let text = numbers.windows().await.unwrap_err().to_string();
    assert!(text.contains("the key other is no window's"), "{text}");
}
