//! The Dockerfile: its steps, as far as they go without Docker. What needs packages or a compiler is in scripts/deploy-check.sh.

use super::{in_effect, port, read};
use crate::checkout::ROOT;
use crate::program::{Live, Place, config, finish};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// The instructions of the Dockerfile, each with what follows it, on one line. Variables of `ARG` before the first `FROM` are filled in.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut instructions = Vec::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (word, rest) = line.split_once(' ').expect("an instruction and what follows");
        let mut rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name, value) in &variables {
            rest = rest.replace(&format!("${{{name}}}"), value);
        }
        if word == "ARG" {
            let (name, value) = rest.split_once('=').expect("a default");
            variables.push((name.to_owned(), value.to_owned()));
        }
        instructions.push((word.to_owned(), rest));
    }
    instructions
}

fn all(word: &str) -> Vec<String> {
    instructions().into_iter().filter(|(name, _)| name == word).map(|(_, rest)| rest).collect()
}

fn one(word: &str) -> String {
    let mut found = all(word);
    assert_eq!(found.len(), 1, "{word}");
    found.remove(0)
}

/// The number of the image's user.
pub fn user() -> u32 {
    let runs = all("RUN").join(" ");
    let number = |option: &str| {
        let mut words = runs.split_whitespace().skip_while(|word| *word != option);
        words.nth(1).and_then(|number| number.parse::<u32>().ok()).unwrap_or_else(|| panic!("no {option}"))
    };
    assert_eq!(number("--uid"), number("--gid"));
    number("--uid")
}

/// Whether one name of a path fits one of a pattern; `*` is anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(after, &rest[at..]))),
    }
}

/// Whether a pattern of .dockerignore names this path or a folder above it; `**` is any number of folders.
fn covers(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], _) => true,
        (["**", rest @ ..], _) => (0..path.len()).any(|at| covers(rest, &path[at..])),
        (_, []) => false,
        ([first, rest @ ..], [name, below @ ..]) => fits(first, name) && covers(rest, below),
    }
}

/// What of these files Docker sends to the build. The last pattern that covers a path decides.
fn sent<'a>(ignore: &str, files: &'a [String]) -> Vec<&'a str> {
    let patterns: Vec<&str> = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let is_sent = |path: &str| {
        let path: Vec<&str> = path.split('/').collect();
        patterns.iter().fold(true, |sent, pattern| {
            let names: Vec<&str> = pattern.trim_start_matches('!').split('/').collect();
            if covers(&names, &path) { pattern.starts_with('!') } else { sent }
        })
    };
    files.iter().map(String::as_str).filter(|path| is_sent(path)).collect()
}

#[test]
fn dockerignore_is_read_as_docker_does() {
    let files = ["a", "b/c", "b/d.swp", "e/f/g", "e/f/h/i", "e/x"].map(str::to_owned);
    let of = |ignore: &str| sent(ignore, &files).join(" ");
    assert_eq!(of("# c\nb\n"), "a e/f/g e/f/h/i e/x");
    assert_eq!(of("*\n!b\n!e/f/h\n**/*.swp\n"), "b/c e/f/h/i");
    assert_eq!(of("e/*\n!e/x\n"), "a b/c b/d.swp e/x");
}

/// The files of a clean checkout that the build is given; `None` where this is no checkout.
fn context() -> Option<Vec<String>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(&*ROOT).output().ok()?;
    if !output.status.success() {
        eprintln!("this is no checkout: what Docker is sent is not looked at");
        return None;
    }
    let files: Vec<String> = String::from_utf8(output.stdout).ok()?.split_terminator('\0').map(str::to_owned).collect();
    Some(sent(&read(".dockerignore"), &files).into_iter().map(str::to_owned).collect())
}

#[test]
fn what_is_copied_is_there_and_nothing_else_is_sent() {
    let Some(context) = context() else { return };
    for copied in all("COPY").iter().filter(|copied| !copied.starts_with("--from=")) {
        let (source, _) = copied.split_once(' ').expect("a source and a target");
        assert!(source == "." || context.iter().any(|path| path == source), "COPY {copied}: {source} is not sent");
    }
    let tops: BTreeSet<&str> = context.iter().map(|path| path.split('/').next().unwrap()).collect();
    let built = [".cargo", "Cargo.lock", "Cargo.toml", "benches", "config", "dataflows", "rust-toolchain.toml"];
    assert_eq!(tops, built.into_iter().chain(["scripts", "src", "tests"]).collect());
    let tests: Vec<&String> = context.iter().filter(|path| path.starts_with("tests/")).collect();
    assert_eq!(tests, ["tests/kafka-broker/Cargo.toml", "tests/kafka-broker/src/lib.rs"], "what the workspace names");

    // Cargo finds all targets and members of the workspace in it.
    let place = Place::new();
    for path in &context {
        let target = place.path(path);
        std::fs::create_dir_all(target.parent().unwrap()).expect("a folder");
        std::fs::copy(ROOT.join(path), target).expect("a copy");
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"]);
    let said = finish(command.current_dir(place.path("")), "");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let metadata: Value = serde_json::from_str(&said.out).expect("JSON");
    let package =
        metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == env!("CARGO_PKG_NAME"));
    let targets = package.expect("the package")["targets"].as_array().unwrap();
    assert!(targets.iter().any(|target| target["name"] == "processor" && target["kind"][0] == "bin"));
}

#[test]
fn it_is_built_as_it_is_built_here() {
    let text = read("Dockerfile");
    let channel = read("rust-toolchain.toml");
    let channel =
        channel.lines().find_map(|line| line.strip_prefix("channel = ")).expect("a channel").trim_matches('"');
    let from = all("FROM");
    assert_eq!(from.len(), 2);
    // One Debian in both stages: the binary is linked to its libraries.
    assert_eq!(from[0], format!("rust:{channel}-bookworm AS build"));
    assert!(from[1].starts_with("debian:12.") && from[1].ends_with("-slim"), "{}", from[1]);
    assert!(text.contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}\n")));

    let runs = all("RUN").join(" ");
    let release = read("scripts/release.sh");
    let build = release.lines().find_map(|line| line.strip_prefix("scripts/cargo.sh ")).expect("a build");
    assert!(runs.contains(&format!("cargo {build} ")), "cargo {build}");
    // What setup.sh installs for the build, but for the compiler, which that image has.
    let setup = read("scripts/setup.sh");
    let needed = setup.split("missing() {").nth(1).and_then(|rest| rest.split("if [").next()).expect("its list");
    let needed: BTreeSet<&str> = needed
        .lines()
        .filter_map(|line| line.rsplit_once("|| echo "))
        .map(|(_, package)| package.trim())
        .filter(|package| *package != "ccache")
        .collect();
    assert_eq!(packages(&all("RUN")[0]), needed);
    assert!(all("LABEL").join(" ").contains(&format!("image.version=\"{}\"", env!("CARGO_PKG_VERSION"))));
}

/// The packages that a step installs.
fn packages(run: &str) -> BTreeSet<&str> {
    let (_, rest) = run.split_once("install -y --no-install-recommends ").expect("it installs");
    rest.split_whitespace().take_while(|word| *word != "&&").collect()
}

#[test]
fn the_image_runs_the_shipped_configuration_and_keeps_its_state() {
    let copied: Vec<(String, String)> = all("COPY")
        .iter()
        .map(|copied| {
            let mut words = copied.split(' ').filter(|word| !word.starts_with("--"));
            (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
        })
        .collect();
    let target = |source: &str| {
        let found = copied.iter().find(|(from, _)| from == source);
        found.unwrap_or_else(|| panic!("{source} is not copied")).1.as_str()
    };
    let list = |word: &str| -> Vec<String> { serde_json::from_str(&one(word)).expect("a JSON list") };
    assert_eq!(list("ENTRYPOINT"), [target("scripts/docker-entrypoint.sh")]);
    assert_eq!(list("CMD"), ["--config", target("config/processor.yaml")]);
    let entry = read("scripts/docker-entrypoint.sh");
    assert!(entry.contains(target("/out/processor")) && entry.contains("setpriv --reuid=optimizer"), "{entry}");
    let state = in_effect("config/processor.yaml")["state"].clone();
    for key in ["path", "checkpoint_path"] {
        assert!(state[key].as_str().unwrap().starts_with(&format!("{}/", one("VOLUME"))), "{key}");
    }
    // The reference card's line mounts it.
    let run = format!("docker run -v {0}:{0}", one("VOLUME"));
    assert!(read("docs/reference-card.md").contains(&run), "{run}");
    assert_eq!(one("STOPSIGNAL"), "SIGTERM");
    let listen = all("ENV").iter().find_map(|set| set.strip_prefix("PROCESSOR_METRICS__LISTEN=").map(str::to_owned));
    assert_eq!(one("EXPOSE"), port(&Value::String(listen.expect("set"))).to_string());
}

#[test]
fn the_health_check_tells_a_live_run_from_none() {
    let healthcheck = one("HEALTHCHECK");
    let (_, list) = healthcheck.split_once("CMD ").expect("a command");
    let words: Vec<String> = serde_json::from_str(list).expect("a JSON list");
    assert_eq!((words.len(), words[0].as_str(), words[1].as_str()), (3, "/bin/bash", "-c"));
    let check = |address: &str| {
        let mut command = Command::new(&words[0]);
        finish(command.args(&words[1..]).env("PROCESSOR_METRICS__LISTEN", address), "").code
    };
    let place = Place::new();
    place.write("c.yaml", config("{type: generator, rate: 10}", "[{type: file, path: r.jsonl}]"));
    let mut command = place.command(&["--config", "c.yaml"]);
    command.env("PROCESSOR_METRICS__ENABLED", "true").env("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0");
    let mut live = Live::start(&mut command);
    let address = live.pages().trim_start_matches("http://").to_owned();
    assert_eq!(check(&address), Some(0));
    live.signal(libc::SIGTERM);
    live.end_within(std::time::Duration::from_secs(10));
    assert_ne!(check(&address), Some(0));
}
