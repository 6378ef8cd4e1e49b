//! Two runs of one job: one that was thought dead, two that were started at once, and changes between a stop and the next start.

use crate::program::{PATIENCE, Program};
use crate::recovery::{KINDS, Story};
use kafka_broker::fresh;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The exit code that says: do not start this again without a person.
const REFUSED: Option<i32> = Some(78);

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// Feeds a fair amount, and then until this many checkpoints of the run are published.
fn feed_until_published(story: &mut Story, program: &mut Program, count: f64) {
    let (until, mut portions) = (Instant::now() + PATIENCE, 0);
    while portions < 15 || program.metric("checkpoints_total", &[("outcome", "published")]) < count {
        assert!(Instant::now() < until && program.is_alive(), "{}", program.log());
        story.feed();
        portions += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same with several processes, all of which must stay up.
fn feed_until_all_published(story: &mut Story, group: &mut [Program], count: f64) {
    let (until, mut portions) = (Instant::now() + PATIENCE, 0);
    while portions < 15 || group[0].metric("checkpoints_total", &[("outcome", "published")]) < count {
        let alive = group.iter_mut().all(Program::is_alive);
        let said = |(process, program): (usize, &mut Program)| {
            let ended = (!program.is_alive()).then(|| program.wait().code);
            format!("process {process}, ended: {ended:?}\n{}", program.log())
        };
        let mut so_far = || group.iter_mut().enumerate().map(said).collect::<String>();
        assert!(Instant::now() < until && alive, "{}", so_far());
        story.feed();
        portions += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_that_was_thought_dead_writes_nothing_when_it_wakes_up() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("zombie-{name}"), windows, "exactly_once", 21);
    // A transaction that nobody ends is given up by the broker soon.
    story.add_producer_property("transaction.timeout.ms: 3000");
    let mut zombie = story.start(2, None);
    feed_until_published(&mut story, &mut zombie, 3.0);
    story.feed();
    std::thread::sleep(Duration::from_millis(100));
    zombie.pause();
    // Longer than its transaction may be open.
    std::thread::sleep(Duration::from_secs(4));
    // What another host would have: its own copy of the checkpoints.
    let copy = story.folder().join("copy");
    copy_folder(&story.checkpoints(), &copy);
    let mut successor = story.start_at(2, &copy);
    feed_until_published(&mut story, &mut successor, 3.0);
    zombie.resume();
    let ended = zombie.wait();
    assert_eq!(ended.code, REFUSED, "{}", ended.log);
    assert!(ended.log.contains("taken over"), "{}", ended.log);
    story.feed();
    story.close();
    story.finish(successor);
    story.check();
}

#[test]
fn of_two_runs_started_at_once_one_wins() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("twins-{name}"), windows, "exactly_once", 22);
    story.feed();
    let places = ["one", "two"].map(|place| story.folder().join(place));
    let mut runs = [story.start_at(2, &places[0]), story.start_at(2, &places[1])];
    let until = Instant::now() + PATIENCE;
    let loser = loop {
        assert!(Instant::now() < until, "both run:\n{}\n{}", runs[0].log(), runs[1].log());
        if let Some(loser) = (0..2).find(|run| !runs[*run].is_alive()) {
            break loser;
        }
        story.feed();
        std::thread::sleep(Duration::from_millis(50));
    };
    let [one, two] = &mut runs;
    let (loser, winner) = if loser == 0 { (one, two) } else { (two, one) };
    let ended = loser.wait();
    assert_eq!(ended.code, REFUSED, "{}", ended.log);
    // The other goes on.
    let published = winner.metric("checkpoints_total", &[("outcome", "published")]);
    feed_until_published(&mut story, winner, published + 3.0);
    story.feed();
    story.close();
    let [one, two] = runs;
    let winner = if ended.log == one.log() { two } else { one };
    story.finish(winner);
    story.check();
}

#[test]
fn a_second_run_on_the_same_checkpoints_is_refused_at_once() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("lock-{name}"), windows, "at_least_once", 23);
    let mut first = story.start(1, None);
    feed_until_published(&mut story, &mut first, 1.0);
    let ended = story.start(1, None).wait();
    assert_eq!(ended.code, REFUSED, "{}", ended.log);
    assert!(ended.log.contains("LOCK"), "{}", ended.log);
    story.close();
    story.finish(first);
    story.check();
}

#[test]
fn partitions_that_were_added_between_two_runs_are_read_from_their_beginning() {
    let (name, windows) = KINDS[0];
    for delivery in ["exactly_once", "at_least_once"] {
        let mut story = Story::new(&format!("added-{name}"), windows, delivery, 24);
        let mut program = story.start(2, None);
        feed_until_published(&mut story, &mut program, 2.0);
        assert_eq!(program.stop().code, Some(0));
        story.add_partitions(2);
        story.feed();
        story.close();
        story.finish(story.start(3, None));
        story.check();
    }
}

#[test]
fn another_configuration_is_refused_with_both_values_or_accepted() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("changed-{name}"), windows, "at_least_once", 25);
    story.set_most_behind(11_500);
    let mut program = story.start(2, None);
    feed_until_published(&mut story, &mut program, 2.0);
    program.kill();
    let mut other = story.with_windows("tumbling: {size: 3s, allowed_lateness: 10s}");
    let ended = other.wait();
    assert_eq!(ended.code, REFUSED, "{}", ended.log);
    assert!(ended.log.contains("2s") && ended.log.contains("3s"), "{}", ended.log);
    // More lateness changes no meaning; nothing that is fed is so late that it would show.
    story.set_windows("tumbling: {size: 2s, allowed_lateness: 20s}");
    story.close();
    let program = story.start(1, None);
    story.finish(program);
    story.set_windows(windows);
    story.check();
}

#[test]
fn records_that_the_broker_has_deleted_are_refused_by_name_unless_the_loss_is_accepted() {
    let (name, windows) = KINDS[0];
    let mut story = Story::new(&format!("deleted-{name}"), windows, "at_least_once", 26);
    let mut program = story.start(2, None);
    feed_until_published(&mut story, &mut program, 2.0);
    program.kill();
    story.feed();
    story.feed();
    let end = story.fed_to(1);
    story.broker.delete_records(story.topic(), 1, end - 3);
    let ended = story.start(2, None).wait();
    assert_eq!(ended.code, REFUSED, "{}", ended.log);
    let named = format!("{}[1]", story.topic());
    for word in [named.as_str(), "--accept-loss", &(end - 3).to_string()] {
        assert!(ended.log.contains(word), "{word}: {}", ended.log);
    }
    let mut program = story.start_with(2, &["--accept-loss"]);
    feed_until_published(&mut story, &mut program, 2.0);
    assert!(program.metric("source_records_lost_total", &[]) > 0.0, "{}", program.page("/metrics"));
    assert_eq!(program.stop().code, Some(0));
}

#[test]
fn two_processes_become_one_and_one_becomes_three() {
    let (name, windows) = KINDS[2];
    for (number, delivery) in ["exactly_once", "at_least_once"].into_iter().enumerate() {
        let mut story = Story::new(&format!("{}-{name}", fresh("rescale")), windows, delivery, 27 + number as u64);
        for processes in [2, 1, 3] {
            let mut group = story.start_group(processes, 1 + processes % 2);
            feed_until_all_published(&mut story, &mut group, 3.0);
            // All at once, as the loss of a rack would.
            group.iter_mut().for_each(Program::kill);
        }
        story.feed();
        story.close();
        story.finish(story.start(2, None));
        story.check();
    }
}
