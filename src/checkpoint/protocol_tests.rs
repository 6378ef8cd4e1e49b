use super::*;
use proptest::prelude::*;

const SHARD: Shard = Shard { sink: 0, process: 1 };
const OTHER: Shard = Shard { sink: 0, process: 0 };
const START: Generation = Generation(7);

fn delivered(epoch: u64, chunks: u32, outbox: u64) -> Delivered {
    Delivered { epoch: Epoch::new(epoch), chunks, outbox: OutboxFingerprint(outbox) }
}

fn marker(delivered: Option<Delivered>, generation: u64) -> Marker {
    Marker { delivered, generation: Generation(generation), run: RunId(generation) }
}

fn plan(restored: Option<u64>, chunks: u32, found: Option<Marker>) -> Result<u32, Refusal> {
    let held = BTreeMap::from([(SHARD, Undelivered { chunks, outbox: OutboxFingerprint(5) })]);
    let markers: Markers = found.map(|found| (SHARD, found)).into_iter().collect();
    plan_recovery(START, restored.map(Epoch::new), &held, &markers).map(|plan| plan[&SHARD])
}

#[test]
fn what_has_no_marker_is_sent() {
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(3, 9, 1)), 6))), Ok(0), "nothing of the epoch");
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 2, 5)), 6))), Ok(2));
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 3, 5)), 6))), Ok(3));
    assert_eq!(plan(Some(4), 3, Some(marker(None, 7))), Ok(0), "of a start that got the same number");
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
    let other = Refusal::OtherOutbox { shard: SHARD, epoch: Epoch::new(4) };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 1, 6)), 6))), Err(other));
    assert_eq!(plan(Some(4), 3, None), Err(Refusal::NoMarker { shard: SHARD, restored: Epoch::new(4) }));
    let later = Refusal::LaterStart { shard: SHARD, found: Generation(8), own: START };
    assert_eq!(plan(Some(4), 3, Some(marker(Some(delivered(4, 1, 5)), 8))), Err(later));
    let markers = Markers::from([(OTHER, marker(Some(delivered(5, 1, 5)), 6))]);
    assert!(plan_recovery(START, restored, &BTreeMap::new(), &markers).is_err(), "every shard of the job counts");
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

fn published(epoch: u64, generation: u64) -> Published {
    Published { epoch: Epoch::new(epoch), generation: Generation(generation) }
}

fn candidates(list: &[(u64, u64, bool)]) -> Vec<Candidate> {
    let candidate = |&(epoch, generation, sound)| Candidate { checkpoint: published(epoch, generation), sound };
    list.iter().map(candidate).collect()
}

#[test]
fn the_newest_sound_checkpoint_is_restored() {
    let choose =
        |list: &[(u64, u64, bool)], guarantee: &Guarantee| choose_checkpoint(START, &candidates(list), guarantee);
    let exactly = |epoch| Guarantee::ExactlyOnce([(SHARD, marker(Some(delivered(epoch, 1, 5)), 6))].into());
    let from = |checkpoint, skipped: &[Published]| Restore::From { checkpoint, skipped: skipped.to_vec() };
    assert_eq!(choose(&[], &Guarantee::AtLeastOnce), Restore::Nothing);
    let sound = [(3, 1, true), (4, 1, true), (4, 2, true)];
    assert_eq!(choose(&sound, &Guarantee::Committed), from(published(4, 2), &[]), "the later start's");
    let damaged = [(3, 1, true), (4, 1, true), (5, 1, false)];
    let skipped = [published(5, 1)];
    assert_eq!(choose(&damaged, &Guarantee::AtLeastOnce), from(published(4, 1), &skipped));
    assert_eq!(choose(&damaged, &exactly(4)), from(published(4, 1), &skipped), "nothing of it was delivered");
    let because = Refusal::NewerMarker { shard: SHARD, delivered: Epoch::new(5), restored: Some(Epoch::new(4)) };
    let refuse = |because| Restore::Refuse { damaged: published(5, 1), because };
    assert_eq!(choose(&damaged, &exactly(5)), refuse(Some(because)));
    assert_eq!(choose(&damaged, &Guarantee::Committed), refuse(None));
    assert_eq!(choose(&[(5, 1, false)], &Guarantee::AtLeastOnce), refuse(None), "never from the beginning by itself");
}

#[test]
fn a_published_epoch_waits_for_all() {
    let all = BTreeSet::from([0, 1]);
    assert!(!may_publish(&all, &BTreeSet::from([1])) && may_publish(&all, &all));
    assert!(!may_announce(&all, &BTreeSet::from([0])) && may_announce(&all, &all));
}

#[test]
fn two_checkpoints_are_kept_and_what_is_newer_is_let_alone() {
    let all = [published(2, 1), published(3, 1), published(3, 2), published(4, 2), published(5, 9)];
    assert_eq!(removable(&all, published(4, 2), 0), [published(2, 1), published(3, 1)]);
    assert_eq!(removable(&all, published(4, 2), 3), [published(3, 1)]);
    assert_eq!(removable(&all[..1], published(2, 1), 2), []);
}

#[test]
fn fingerprints_know_the_chunks_and_their_order() {
    let of = |chunks: &[&[u8]]| OutboxFingerprint::of(chunks);
    assert_eq!(of(&[]), OutboxFingerprint(0), "it is written down in markers: it must never change");
    assert_eq!(of(&[b"abc", b"d"]), OutboxFingerprint(0x7c47_d7a8_0000_0004));
    assert_ne!(of(&[b"abc", b"d"]), of(&[b"ab", b"cd"]));
    assert_ne!(of(&[b"abc", b"d"]), of(&[b"d", b"abc"]));
}

proptest! {
    /// The newest one delivered and the one before it stay, whatever is there.
    #[test]
    fn removal_keeps_what_a_restart_needs(
        list in prop::collection::btree_set((0u64..6, 0u64..3), 1..12), at in any::<prop::sample::Index>(), retain in 0usize..4,
    ) {
        let all: Vec<Published> = list.iter().map(|&(epoch, generation)| published(epoch, generation)).collect();
        let delivered = all[at.index(all.len())];
        let gone = removable(&all, delivered, retain);
        let left: Vec<Published> = all.iter().copied().filter(|other| !gone.contains(other)).collect();
        prop_assert!(left.contains(&delivered));
        prop_assert!(all.iter().filter(|other| **other > delivered).all(|other| left.contains(other)));
        let before = all.iter().filter(|other| other.epoch < delivered.epoch).max();
        prop_assert!(before.is_none_or(|before| left.contains(before)));
        let again = removable(&left, delivered, retain);
        prop_assert!(again.is_empty(), "{again:?}");
    }
}
