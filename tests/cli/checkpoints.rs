//! `processor checkpoints`, on checkpoints that are whole, incomplete and damaged.

use super::checkout;
use super::program::{Place, Said, config};
use super::sample::Job;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

/// A folder with a job's checkpoints 1 to 3 of two workers.
fn place() -> Place {
    let place = Place::new();
    let mut job = Job::with_windows(&place.path("state"), &place.path("c"), 2);
    (1..=3).for_each(|epoch| drop(job.checkpoint(epoch).expect("a checkpoint")));
    place
}

fn checkpoints(place: &Place, arguments: &str) -> Said {
    let words: Vec<&str> = ["checkpoints"].into_iter().chain(arguments.split(' ')).collect();
    place.run(&words)
}

fn done(place: &Place, arguments: &str) -> String {
    let said = checkpoints(place, arguments);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{arguments}: {said:?}");
    said.out
}

#[test]
fn list_tells_what_there_is() {
    let place = place();
    let out = done(&place, "list --path c");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["epoch", "age", "size", "workers", "partitions", "finished", "state"]);
    assert_eq!(rows.len(), 4);
    assert!(
        (1..=3).all(|epoch| rows[epoch][0] == epoch.to_string() && rows[epoch].ends_with(&["2", "2", "no", "ok"])),
        "{out}"
    );

    fs::remove_file(place.path("c/1/manifest.json")).expect("removed");
    fs::write(place.path("c/2/worker-1/CURRENT"), "").expect("written");
    let out = done(&place, "list --path c");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].ends_with("incomplete: not published, parts of 2 workers"), "{out}");
    assert!(lines[2].contains("damaged: c/2/worker-1/CURRENT: ends at byte 0, and 16 were written"), "{out}");
    assert!(lines[3].ends_with("ok"), "{out}");

    // The configuration says where they are.
    let text = config("stdin", "[stdout]");
    place.write("c.yaml", format!("{text}  state: {{backend: rocksdb, path: state, checkpoint_path: c}}\n"));
    assert_eq!(done(&place, "list --config c.yaml"), out);
    place.write("memory.yaml", &text);
    let said = checkpoints(&place, "list --config memory.yaml");
    assert!(said.code == Some(2) && said.err.contains("state.checkpoint_path is not set"), "{said:?}");
    fs::create_dir(place.path("empty")).expect("made");
    assert_eq!(done(&place, "list --path empty"), "no checkpoints in empty\n");
    let said = checkpoints(&place, "list --path absent");
    assert!(said.code == Some(1) && said.err.contains("cannot open the checkpoints in absent"), "{said:?}");
    assert_eq!(checkpoints(&place, "list").code, Some(2));
    assert_eq!(checkpoints(&place, "list --path c --config c.yaml").code, Some(2));
}

#[test]
fn inspect_tells_what_one_holds() {
    let place = place();
    let out = done(&place, "inspect 3 --path c");
    for text in [
        "checkpoint 3 of the job `feedback` in c\n",
        "by processor 0.1.0, start 3 of the job\n1 process, 2 workers, 256 key groups\nfired up to 2026-09-21T14:14:50.000Z\n",
        "\n  windows: tumbling 60s\n  event.key: [data.model]\n",
        "\npartitions (watermark: 10s behind the latest event)\n",
        "  feedback-events[1]   150  2026-09-21T14:14:50.000Z  2026-09-21T14:15:00.000Z      150   109            447ms  ended\n",
        "\n  0-0: 1 chunk to deliver; results.jsonl up to byte 1234\n  0-0: chunk 0 of epoch 3: 12 B\n",
        "minutely [2026-09-21T14:14:00.000Z, 2026-09-21T14:15:00.000Z) {\"model\":\"gpt-4o\"}  cost_usd: count ",
        "{\"model\":\"\u{3b1}\\\"quoted\\\"\"}",
        "\nrows that wait: ",
        " more; --limit N shows more, --key TEXT those of some keys\n",
    ] {
        assert!(out.contains(text), "{text}\n{out}");
    }
    let few = done(&place, "inspect 3 --path c --key gpt-4o --limit 2");
    let windows: Vec<&str> = few.lines().filter(|line| line.contains("latency_ms: count ")).collect();
    assert!(windows.len() == 2 && windows.iter().all(|line| line.contains("gpt-4o")), "{few}");

    let said = checkpoints(&place, "inspect 9 --path c");
    assert!(said.code == Some(1) && said.err.contains("checkpoint 9 in c is not there; there are 1, 2, 3"), "{said:?}");
    // A reader that has seen enough.
    let mut command = place.command(&["checkpoints", "inspect", "3", "--path", "c", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut [0; 10]).expect("ten bytes");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn inspect_as_json_has_all_of_it() {
    let place = place();
    let document: Value = serde_json::from_str(&done(&place, "inspect 3 --path c --json")).expect("JSON");
    let windows = document["windows"].as_array().expect("a list");
    assert_eq!(document["windows_found"], json!(windows.len()));
    assert!(windows.len() > 50);
    assert_eq!(document["manifest"]["epoch"], 3);
    assert_eq!(document["manifest"]["snapshots"][1]["directory"], "worker-1");
    let partition = &document["partitions"][0];
    assert_eq!((&partition["next"], &partition["watermark"]), (&json!(150), &json!("2026-09-21T14:14:50.000Z")));
    assert_eq!(
        document["outbox"],
        json!([{"sink": 0, "process": 0, "epoch": 3, "chunk": 0, "bytes": 12, "crc32": "e3325fab"}])
    );
    let window = windows.iter().find(|window| window["name"] == "trend" && window["key"] == json!({"model": "gpt-4o"}));
    let window = window.expect("a window of gpt-4o");
    assert!(window["results"]["latency_ms"]["count"].as_u64() > Some(0), "{window}");
    assert_eq!(window["results"]["latency_ms"].as_object().expect("figures").len(), 3);
    for list in ["revisions", "panes", "waiting"] {
        assert!(!document[list].as_array().expect("a list").is_empty(), "{list}");
    }
    let count = |list: &str| json!(document[list].as_array().expect("a list").len());
    assert_eq!(document["records"]["panes"]["records"], count("panes"));
    assert_eq!(document["records"]["waiting rows"]["records"], count("waiting"));
}

#[test]
fn verify_names_what_is_wrong() {
    let place = place();
    let out = done(&place, "verify --path c");
    assert_eq!(out.lines().count(), 3);
    assert!(out.lines().all(|line| line.contains(": ok: ") && line.contains(" records")), "{out}");
    fs::write(place.path("c/3/worker-0/notes"), "mine").expect("written");
    assert!(done(&place, "verify 3 --path c").ends_with("  c/3/worker-0/notes: not part of the checkpoint\n"));

    let table = fs::read_dir(place.path("c/2/worker-0")).expect("listed").map(|entry| entry.expect("an entry").path());
    let table = table.filter(|path| path.extension().is_some_and(|of| of == "sst")).min().expect("a table");
    let mut bytes = fs::read(&table).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    // Another file: the one there is the same as in the other checkpoints.
    fs::remove_file(&table).expect("removed");
    fs::write(&table, bytes).expect("written");
    let said = checkpoints(&place, "verify --path c");
    assert_eq!(said.code, Some(1), "{said:?}");
    let name = table.file_name().expect("a name").to_string_lossy();
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[1].starts_with("checkpoint 2: damaged: "), "{said:?}");
    assert!(lines[2].starts_with(&format!("  c/2/worker-0/{name}: is damaged: its checksum is ")), "{said:?}");
    assert!(lines[0].starts_with("checkpoint 1: ok: ") && lines[3].starts_with("checkpoint 3: ok: "), "{said:?}");
    assert_eq!(checkpoints(&place, "verify 2 --path c").code, Some(1));
    done(&place, "verify 1 --path c");

    fs::remove_file(place.path("c/1/manifest.json")).expect("removed");
    let said = checkpoints(&place, "verify 1 --path c");
    assert!(
        said.code == Some(1) && said.err.contains("checkpoint 1 in c is incomplete: it was not published"),
        "{said:?}"
    );
    let said = checkpoints(&place, "verify 8 --path c");
    assert!(said.code == Some(1) && said.err.contains("checkpoint 8 in c is not there"), "{said:?}");
    fs::create_dir(place.path("empty")).expect("made");
    let said = checkpoints(&place, "verify --path empty");
    assert!(said.code == Some(1) && said.err.contains("no published checkpoint in empty"), "{said:?}");
}

#[test]
fn diff_tells_what_has_happened_in_between() {
    let place = place();
    let out = done(&place, "diff 1 2 --path c");
    for text in [
        "from checkpoint 1 to 2\nfired up to 2026-09-21T14:13:30.000Z, then fired up to 2026-09-21T14:14:10.000Z\n",
        "  feedback-events[0]    50  -> 100      +50  2026-09-21T14:13:40.000Z  -> 2026-09-21T14:14:20.000Z\n",
        " added, ",
        "\n  + minutely [2026-09-21T14:14:00.000Z, 2026-09-21T14:15:00.000Z) {\"model\":\"",
        "\n  ~ minutely [2026-09-21T14:13:00.000Z, 2026-09-21T14:14:00.000Z) {\"model\":\"",
        "\n    minutely [2026-09-21T14:13:00.000Z, 2026-09-21T14:14:00.000Z) {\"model\":\"",
        "next revision 1",
        "\nrecords\n",
    ] {
        assert!(out.contains(text), "{text}\n{out}");
    }
    let same = done(&place, "diff 2 2 --path c --limit 3");
    assert!(same.contains("no partition has moved") && same.contains(": 0 added, 0 removed, 0 changed, "), "{same}");
    let few = done(&place, "diff 1 2 --path c --limit 3");
    assert!(few.contains(" more; --limit N shows more\n"), "{few}");
    assert_eq!(checkpoints(&place, "diff 1 7 --path c").code, Some(1));
}

/// A checkpoint of version 1 says what it said when it was made. With `MAKE_CHECKPOINT_FIXTURE` it is made first; see
/// docs/checkpoint-format.md.
#[test]
fn the_fixture_of_version_1_is_read_as_it_was_written() {
    let fixture = checkout::ROOT.join("tests/fixtures/checkpoint-v1");
    let place = Place::new();
    let path = fixture.to_str().expect("UTF-8");
    let inspect = || done(&place, &format!("inspect 3 --path {path} --json"));
    if std::env::var_os("MAKE_CHECKPOINT_FIXTURE").is_some() {
        let mut job = Job::with_windows(&place.path("state"), &place.path("c"), 2);
        (1..=3).for_each(|epoch| drop(job.checkpoint(epoch).expect("a checkpoint")));
        drop(fs::remove_dir_all(&fixture));
        copy(&place.path("c/3"), &fixture.join("3"));
        fs::write(fixture.join("expected.json"), inspect()).expect("written");
    }
    let expected = fs::read_to_string(fixture.join("expected.json")).expect("the fixture");
    assert_eq!(inspect(), expected);
    let out = done(&place, &format!("verify --path {path}"));
    assert!(out.starts_with("checkpoint 3: ok: ") && out.lines().count() == 1, "{out}");
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

#[test]
fn help_has_examples() {
    let place = Place::new();
    for command in ["--help", "list --help", "inspect --help", "verify --help", "diff --help"] {
        let out = done(&place, command);
        assert!(out.contains("EXAMPLE") && out.contains("processor checkpoints "), "{command}: {out}");
    }
}
