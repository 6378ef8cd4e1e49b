use super::*;

const SHARD: Shard = Shard { sink: 0, process: 1 };
const OTHER: Shard = Shard { sink: 0, process: 0 };
const START: Generation = Generation(7);

fn delivered(epoch: u64, chunks: u32, outbox: u64) -> Delivered {
    Delivered { epoch: Epoch::new(epoch), chunks, outbox: OutboxFingerprint(outbox), by: Generation(6) }
}

fn marker(delivered: Option<Delivered>, generation: u64) -> Marker {
    Marker { delivered, generation: Generation(generation), run: RunId(generation), ready: true }
}

fn plan(restored: Option<u64>, chunks: u32, found: Option<Marker>) -> Result<u32, Refusal> {
    let after = Some(delivered(3, 9, 1));
    let held = BTreeMap::from([(SHARD, Undelivered { chunks, outbox: OutboxFingerprint(5), after })]);
    let markers: Markers = found.map(|found| (SHARD, found)).into_iter().collect();
    plan_recovery(START, restored.map(Epoch::new), Some(Generation(6)), &held, &markers).map(|plan| plan[&SHARD])
}

#[test]
fn what_has_no_marker_is_sent() {
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(3, 9, 1)), 6))), Ok(0), "nothing of the epoch");
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 2, 5)), 6))), Ok(2));
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 3, 5)), 6))), Ok(3));
    assert_eq!(
        plan(Some(4), 3, Some(marker(Some(delivered(3, 9, 1)), 7))),
        Ok(0),
        "of a start that got the same number"
    );
    assert_eq!(plan(Some(4), 0, None), Ok(0), "a job that delivered at least once before");
    assert_eq!(plan(None, 0, None), Ok(0));
    assert_eq!(plan(None, 0, Some(marker(None, 3))), Ok(0), "a start that died before its first checkpoint");
}

#[test]
fn a_start_that_would_double_or_lose_results_is_refused() {
    let restored = Some(Epoch::new(4));
    let newer = |restored| Refusal::NewerMarker { shard: SHARD, delivered: Epoch::new(5), restored };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(5, 0, 5)), 6))), Err(newer(restored)));
    assert_eq!(plan(None, 0, Some(marker(Some(delivered(5, 1, 5)), 6))), Err(newer(None)));
    let other = Refusal::OtherCheckpoint { shard: SHARD, delivered: Epoch::new(4), restored: Epoch::new(4) };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 1, 6)), 6))), Err(other));
    let other = Refusal::OtherCheckpoint { shard: SHARD, delivered: Epoch::new(3), restored: Epoch::new(4) };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(3, 9, 2)), 6))), Err(other), "not what came before it");
    assert_eq!(plan(Some(4), 3, None), Err(Refusal::NoMarker { shard: SHARD, restored: Epoch::new(4) }));
    let later = Refusal::LaterStart { shard: SHARD, found: Generation(8), own: START };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 1, 5)), 8))), Err(later));
    let markers = Markers::from([(OTHER, marker(Some(delivered(5, 1, 5)), 6))]);
    assert!(plan_recovery(START, restored, None, &BTreeMap::new(), &markers).is_err(), "every shard of the job counts");
}

#[test]
fn a_checkpoint_that_another_start_has_gone_past_is_refused() {
    let held = BTreeMap::from([(SHARD, Undelivered { chunks: 1, outbox: OutboxFingerprint(5), after: None })]);
    let plan = |publisher, delivered| {
        let markers = Markers::from([(OTHER, marker(Some(delivered), 6)), (SHARD, marker(None, 6))]);
        plan_recovery(START, Some(Epoch::new(4)), Some(Generation(publisher)), &held, &markers).map(|_| ())
    };
    assert_eq!(plan(6, delivered(3, 1, 9)), Ok(()), "what came before it");
    let refusal = Refusal::OtherCheckpoint { shard: OTHER, delivered: Epoch::new(3), restored: Epoch::new(4) };
    assert_eq!(plan(5, delivered(3, 1, 9)), Err(refusal), "a later start has delivered something else");
    assert_eq!(plan(5, delivered(4, 1, 9)), Ok(()), "its own outbox: looked at by who holds it");
}

#[test]
fn refusals_name_the_shard_both_epochs_and_what_can_be_done() {
    let refusal = Refusal::NewerMarker { shard: SHARD, delivered: Epoch::new(5), restored: Some(Epoch::new(4)) };
    let text = refusal.to_string();
    assert!(text.contains("shard 0-1") && text.contains("epoch 5") && text.contains("epoch 4"), "{text}");
    assert!(text.contains("Start from the checkpoint of epoch 5"), "{text}");
    let text = Refusal::NewerMarker { shard: SHARD, delivered: Epoch::new(5), restored: None }.to_string();
    assert!(text.contains("there is no checkpoint") && text.contains("state.checkpoint_path"), "{text}");
    let text = Refusal::TakenOver { shard: SHARD, by: Generation(9) }.to_string();
    assert!(text.contains("another run of the job (start 9) has taken over shard 0-1"), "{text}");
}

#[test]
fn a_time_out_is_told_from_another_run() {
    let known = marker(Some(delivered(3, 2, 1)), 7);
    let sending = marker(Some(delivered(4, 1, 2)), 7);
    let foreign = marker(Some(delivered(3, 2, 1)), 8);
    let outcome = |found| after_doubt(SHARD, Some(&known), &sending, found);
    assert_eq!(outcome(Some(&sending)), AfterDoubt::Delivered);
    assert_eq!(outcome(Some(&known)), AfterDoubt::SendAgain);
    assert_eq!(outcome(Some(&foreign)), AfterDoubt::Refuse(Refusal::TakenOver { shard: SHARD, by: Generation(8) }));
    assert_eq!(outcome(None), AfterDoubt::Refuse(Refusal::MarkerLost { shard: SHARD }));
    assert_eq!(after_doubt(SHARD, None, &sending, None), AfterDoubt::SendAgain, "the first one ever");
    let same_number = Marker { run: RunId(99), ..sending };
    assert!(matches!(outcome(Some(&same_number)), AfterDoubt::Refuse(_)), "two starts that got the same number");
}

#[test]
fn shards_that_no_manifest_knows_are_fenced_by_one_process() {
    let shard = |sink, process| Shard { sink, process };
    let markers: Markers = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 5)]
        .map(|(sink, process)| (shard(sink, process), marker(None, 3)))
        .into();
    let of = |process, processes, fenced: &[Shard]| {
        let fenced = fenced.iter().copied().collect();
        strangers(0, process, processes, &markers, &fenced).into_iter().map(|shard| shard.process).collect::<Vec<_>>()
    };
    assert_eq!(of(0, 1, &[]), [1, 2, 3, 4]);
    assert_eq!((of(0, 2, &[]), of(1, 2, &[])), (vec![2, 4], vec![3]));
    assert_eq!(of(0, 2, &[shard(0, 2)]), [4]);
    assert_eq!(of(0, 9, &[]), [0u16; 0]);
}

#[test]
fn a_start_delivers_when_all_its_processes_are_ready() {
    let of = |list: &[(u16, u64, bool)]| {
        let one = |&(process, start, ready): &(u16, u64, bool)| {
            (Shard { sink: 0, process }, Marker { ready, ..marker(None, start) })
        };
        all_ready(START, 0, 2, &list.iter().map(one).collect())
    };
    assert!(of(&[(0, 7, true), (1, 7, true)]) && of(&[(0, 7, true), (1, 7, true), (5, 6, true)]));
    assert!(!of(&[]) && !of(&[(0, 7, true)]), "one has not begun");
    assert!(!of(&[(0, 7, true), (1, 6, true)]) && !of(&[(0, 7, true), (1, 7, false)]));
}

#[test]
fn fingerprints_know_the_chunks_and_their_order() {
    let of = |chunks: &[&[u8]]| OutboxFingerprint::of(chunks);
    assert_eq!(of(&[]), OutboxFingerprint(0), "it is written down in markers: it must never change");
    assert_eq!(of(&[b"abc", b"d"]), OutboxFingerprint(0x7c47_d7a8_0000_0004));
    assert_ne!(of(&[b"abc", b"d"]), of(&[b"ab", b"cd"]));
    assert_ne!(of(&[b"abc", b"d"]), of(&[b"d", b"abc"]));
}
