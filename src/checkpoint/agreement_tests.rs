//! What processes agree on, against a model that tries every checkpoint.

use super::*;

fn held(epoch: u64, is_committed: bool) -> Held {
    Held { epoch: Epoch::new(epoch), is_committed, digest: Some(epoch as u32), fault: None, cuts: Vec::new() }
}

fn of(process: u16, next: u64, held: Vec<Held>) -> Offer {
    Offer {
        process: ProcessIndex(process),
        placement: Placement::PerProcess,
        directory: format!("/disk{process}"),
        start: StartFrom::Newest,
        next: Epoch::new(next),
        held,
    }
}

fn restored(offers: &[Offer], may_fall_back: bool) -> Result<(Option<u64>, u64), String> {
    match agree(offers, may_fall_back) {
        Ok(agreed) => Ok((agreed.restored.map(|epoch| epoch.number()), agreed.first.number())),
        Err(ProcessorError::Refused(text)) => Err(text),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_one_has_committed_counts_and_what_all_have_prepared_does_not() {
    let (done, ready) = (|epoch| held(epoch, true), |epoch| held(epoch, false));
    for may_fall_back in [false, true] {
        let agreed = |offers: &[Offer]| restored(offers, may_fall_back);
        assert_eq!(agreed(&[of(0, 0, vec![]), of(1, 0, vec![])]), Ok((None, 0)));
        assert_eq!(agreed(&[of(0, 8, vec![done(6), done(7)]), of(1, 8, vec![done(6), ready(7)])]), Ok((Some(7), 8)));
        assert_eq!(agreed(&[of(0, 8, vec![done(6), ready(7)]), of(1, 9, vec![done(6), ready(7)])]), Ok((Some(6), 9)));
        assert_eq!(agreed(&[of(0, 7, vec![done(6)]), of(1, 8, vec![done(6), ready(7)])]), Ok((Some(6), 8)));
        // The first process never came to its first checkpoint: nobody has been told of anything.
        assert_eq!(agreed(&[of(0, 1, vec![]), of(1, 1, vec![ready(0)])]), Ok((None, 1)));
    }
}

#[test]
fn who_is_in_the_way_is_named() {
    let lost = restored(&[of(0, 8, vec![held(7, true)]), of(1, 0, vec![])], true).unwrap_err();
    assert!(
        lost.starts_with("process 1 has no checkpoint in /disk1, and process 0 has checkpoint 7 in /disk0"),
        "{lost}"
    );
    let damaged = Held { fault: Some("a.sst is gone".into()), ..held(7, true) };
    let offers = [of(0, 8, vec![held(6, true), held(7, true)]), of(1, 8, vec![held(6, true), damaged])];
    assert_eq!(restored(&offers, true), Ok((Some(6), 8)));
    let text = restored(&offers, false).unwrap_err();
    assert!(text.starts_with("process 1 cannot restore checkpoint 7 in /disk1: a.sst is gone, and a sink"), "{text}");
    let passed = agree(&offers, true).unwrap().passed_over;
    assert_eq!(passed, ["process 1 cannot restore checkpoint 7 in /disk1: a.sst is gone"]);
    let foreign = Held { digest: Some(0), ..held(7, true) };
    let text = restored(&[of(0, 8, vec![held(7, true)]), of(1, 8, vec![foreign])], true).unwrap_err();
    assert!(
        text.contains("checkpoint 7 of process 0 in /disk0 and that of process 1 in /disk1 are of different runs"),
        "{text}"
    );
}

#[test]
fn all_begin_as_the_command_lines_say() {
    let both = |start| {
        let with = |process| Offer { start, ..of(process, 8, vec![held(5, true), held(6, true), held(7, false)]) };
        [with(0), with(1)]
    };
    assert_eq!(restored(&both(StartFrom::Anew), false), Ok((None, 8)));
    assert_eq!(restored(&both(StartFrom::Checkpoint(Epoch::new(5))), false), Ok((Some(5), 8)));
    let text = restored(&both(StartFrom::Checkpoint(Epoch::new(7))), true).unwrap_err();
    assert!(text.contains("checkpoint 7 was never published"), "{text}");
    let text = restored(&both(StartFrom::Checkpoint(Epoch::new(3))), true).unwrap_err();
    assert!(text.contains("process 0 has no checkpoint 3 in /disk0; there are 5, 6"), "{text}");
    let [one, other] = [both(StartFrom::Anew)[0].clone(), both(StartFrom::Newest)[1].clone()];
    let text = restored(&[one.clone(), other], true).unwrap_err();
    assert!(
        text.contains("process 0 is to begin without a checkpoint, and process 1 is to go on from the newest"),
        "{text}"
    );
    let text = restored(&[one, Offer::shared(ProcessIndex(1), "/all".into(), StartFrom::Anew)], true).unwrap_err();
    assert!(text.contains("checkpoint_path_shared is false in process 0, and true in process 1"), "{text}");
}

/// Random disks: two processes to four, each with some epochs committed, prepared, damaged or absent.
#[test]
fn random_offers_come_to_what_a_model_says() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |bound: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % bound
    };
    for _ in 0..20_000 {
        let processes = 2 + random(3);
        let offers: Vec<Offer> = (0..processes)
            .map(|process| {
                let mut parts = Vec::new();
                for epoch in 0..4 {
                    match random(6) {
                        0 => {}
                        1 => parts.push(Held { fault: Some("damaged".into()), ..held(epoch, random(2) == 0) }),
                        2 => parts.push(held(epoch, false)),
                        _ => parts.push(held(epoch, true)),
                    }
                }
                of(process as u16, 4 + random(2), parts)
            })
            .collect();
        let may_fall_back = random(2) == 0;
        // The model asks of each epoch by itself, from the newest on.
        let counts = |epoch: u64| {
            offers.iter().any(|of| {
                of.held.contains(&held(epoch, true))
                    || of.held.iter().any(|held| held.epoch.number() == epoch && held.is_committed)
            })
        };
        let sound = |epoch: u64| {
            offers.iter().all(|of| of.held.iter().any(|held| held.epoch.number() == epoch && held.fault.is_none()))
        };
        let newest = (0..4).rev().find(|epoch| counts(*epoch));
        let expected = match newest {
            None => Some(None),
            Some(_) if offers.iter().any(|of| of.held.is_empty()) => None,
            Some(newest) if sound(newest) => Some(Some(newest)),
            Some(_) if !may_fall_back => None,
            Some(newest) => (0..newest).rev().find(|epoch| counts(*epoch) && sound(*epoch)).map(Some),
        };
        let found = restored(&offers, may_fall_back).ok();
        assert_eq!(found.map(|(epoch, _)| epoch), expected, "{offers:#?} {may_fall_back}");
        let first = offers.iter().map(|of| of.next.number()).max();
        assert!(found.is_none_or(|(_, begins)| Some(begins) == first));
    }
}

#[test]
fn an_offer_crosses_as_it_was() {
    let with_cuts = Held { cuts: vec![(hex(&[0, 255, 16]), hex(&[]))], ..held(3, true) };
    let mine = of(2, 4, vec![with_cuts]);
    assert_eq!(Offer::from_bytes(&mine.to_bytes().unwrap()).unwrap(), mine);
    assert_eq!(unhex(&hex(&[0, 255, 16])).unwrap(), [0, 255, 16]);
    assert!(unhex("0").is_err() && unhex("zz").is_err());
    assert!(Offer::from_bytes(b"{}").is_err());
}
