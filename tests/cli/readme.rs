//! The README's commands, run as they stand.
//!
//! A block of commands has a comment before it that says what becomes of it here:
//! - `<!-- test: run -->`: run to its end, which is exit code 0;
//! - `<!-- test: run for 3 s -->`: the same, ended by SIGTERM after that time;
//! - `<!-- test: beside -->`: run beside a live job, whose address takes the place of `localhost:8080`;
//! - `<!-- test: usage -->`: needs what is not here (a broker, a build, a cluster): the configurations must be valid, the options known
//!   and the files there; what the files are worth is the matter of `deploy`.
//!
//! A block of YAML that begins with `# NAME.yaml` is that file for the commands, and must be valid. Blocks see the files of the
//! blocks before them.

use super::checkout::ROOT;
use super::program::{BINARY, Live, Place, Said, finish};
use std::process::Command;
use std::time::Duration;

struct Block {
    /// What the comment before it asks for.
    test: Option<String>,
    language: String,
    text: String,
    line: usize,
}

fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut test, mut open) = (None, false);
    for (index, line) in readme.lines().enumerate() {
        if let Some(fence) = line.strip_prefix("```") {
            open = !open;
            if open {
                blocks.push(Block {
                    test: test.take(),
                    language: fence.to_owned(),
                    text: String::new(),
                    line: index + 1,
                });
            }
        } else if open {
            let text = &mut blocks.last_mut().expect("a fence began it").text;
            text.push_str(line);
            text.push('\n');
        } else if let Some(asked) = line.strip_prefix("<!-- test: ") {
            test = Some(asked.trim_end_matches("-->").trim().to_owned());
        } else if !line.is_empty() {
            test = None;
        }
    }
    assert!(!open, "a block of the README has no end");
    blocks
}

/// A place in which the commands find what they name: `processor` and the configurations.
fn place() -> Place {
    let place = Place::new();
    std::os::unix::fs::symlink(ROOT.join("config"), place.path("config")).expect("a link");
    std::fs::create_dir(place.path("bin")).expect("a folder");
    std::os::unix::fs::symlink(BINARY, place.path("bin/processor")).expect("a link");
    place
}

/// Runs a script as a person would, and ends it after `limit` where there is one. The pages get a port that is free.
fn bash(place: &Place, script: &str, limit: Option<u64>) -> Said {
    let script = format!("set -eo pipefail\ntrap : TERM\n{script}");
    let mut command = match limit {
        Some(seconds) => {
            let mut command = Command::new("timeout");
            command.args(["--preserve-status", "-s", "TERM", &seconds.to_string(), "bash", "-c", &script]);
            command
        }
        None => {
            let mut command = Command::new("bash");
            command.args(["-c", &script]);
            command
        }
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.current_dir(place.path("")).env("PATH", format!("{}:{path}", place.path("bin").display()));
    command.env("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0");
    finish(&mut command, "")
}

fn must_be_valid(place: &Place, name: &str, line: usize) {
    let said = place.run(&["validate", "--config", name]);
    assert_eq!(said.code, Some(0), "README.md:{line}: {name}: {said:?}");
}

/// The commands of a block, one a line, without comments.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let bare = |line: &str| line.split(" #").next().unwrap_or("").trim().to_owned();
    joined.lines().map(bare).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// Whose commands change the machine, or a cluster: only that the files are there is looked at.
const TOOLS: [&str; 6] = ["docker", "install", "kubectl", "openssl", "systemctl", "systemd-sysusers"];

/// Checks the commands that cannot be run here.
fn check_usage(place: &Place, block: &Block) {
    let makefile = std::fs::read_to_string(ROOT.join("Makefile")).expect("the Makefile");
    for command in commands(&block.text) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let at = |what: &str| words.iter().position(|word| word.ends_with(what));
        if TOOLS.contains(&words[0]) {
            for path in words.iter().filter(|word| ["deploy/", "config/"].iter().any(|folder| word.starts_with(folder)))
            {
                assert!(ROOT.join(path).exists(), "README.md:{}: {command}: {path} is not there", block.line);
            }
        } else if words[0] == "make" {
            let target = words[1];
            assert!(makefile.contains(&format!("\n{target}:")), "README.md:{}: no target {target}", block.line);
        } else if let Some(program) = at("processor").filter(|at| words[*at] != "--bin") {
            for pair in words.windows(2).filter(|pair| pair[0] == "--config") {
                // What lies elsewhere in production is the shipped one.
                let name = pair[1].replace("/etc/optimizer/processor.yaml", "config/processor.yaml");
                must_be_valid(place, &name, block.line);
            }
            let subcommand = words
                .get(program + 1)
                .filter(|word| ["run", "validate", "generate", "late-report", "checkpoints", "views"].contains(word));
            let help = place.run(&[subcommand.copied().unwrap_or("run"), "--help"]).out;
            for option in words[program..].iter().filter(|word| word.starts_with('-') && **word != "--") {
                let mut known = help.split([' ', ',', '\n', '=', '[', ']']);
                assert!(known.any(|word| word == *option), "README.md:{}: no option {option}: {help}", block.line);
            }
        } else {
            panic!("README.md:{}: {command} cannot be checked", block.line);
        }
    }
}

#[test]
fn every_command_of_the_readme_works() {
    let readme = std::fs::read_to_string(ROOT.join("README.md")).expect("the README");
    let place = place();
    let mut ran = 0;
    for block in blocks(&readme) {
        let (line, text) = (block.line, block.text.as_str());
        match (block.language.as_str(), block.test.as_deref()) {
            ("yaml", _) => {
                let first = text.lines().next().unwrap_or("");
                let name = first.strip_prefix("# ").filter(|name| name.ends_with(".yaml"));
                let name = name.unwrap_or_else(|| panic!("README.md:{line}: the block does not say which file it is"));
                place.write(name, text);
                must_be_valid(&place, name, line);
            }
            ("bash", Some("run")) => {
                let said = bash(&place, text, None);
                assert_eq!(said.code, Some(0), "README.md:{line}: {said:?}");
                ran += 1;
            }
            ("bash", Some("usage")) => check_usage(&place, &block),
            ("bash", Some("beside")) => {
                let mut job = place.command(&["--config", "config/processor-dev.yaml", "--log", "info"]);
                let live = Live::start(job.env("PROCESSOR_METRICS__LISTEN", "127.0.0.1:0"));
                let address = live.pages();
                let address = address.trim_start_matches("http://");
                live.wait_for("INFO");
                std::thread::sleep(Duration::from_secs(1));
                let said = bash(&place, &text.replace("localhost:8080", address), None);
                assert_eq!(said.code, Some(0), "README.md:{line}: {said:?}");
                assert!(!said.out.is_empty(), "README.md:{line}");
                ran += 1;
            }
            ("bash", Some(asked)) => {
                let seconds = asked.strip_prefix("run for ").and_then(|rest| rest.strip_suffix(" s")?.parse().ok());
                let seconds = seconds.unwrap_or_else(|| panic!("README.md:{line}: `{asked}` means nothing"));
                let said = bash(&place, text, Some(seconds));
                assert_eq!(said.code, Some(0), "README.md:{line}: {said:?}");
                ran += 1;
            }
            ("bash", None) => panic!("README.md:{line}: commands that nothing tests"),
            _ => {}
        }
    }
    assert!(ran >= 5, "the README has lost its commands");
}

#[test]
fn the_results_that_the_readme_shows_are_those_of_its_commands() {
    let readme = std::fs::read_to_string(ROOT.join("README.md")).expect("the README");
    let place = place();
    for block in blocks(&readme).iter().filter(|block| block.text.starts_with("# files.yaml")) {
        place.write("files.yaml", &block.text);
    }
    let commands =
        "processor generate --count 100000 --seed 7 --keys 4 --output events.jsonl\nprocessor --config files.yaml";
    let said = bash(&place, commands, None);
    assert_eq!(said.code, Some(0), "{said:?}");
    for command in commands.lines() {
        assert!(readme.contains(command), "the README has other commands than {command}");
    }
    let shown = blocks(&readme).into_iter().find(|block| block.language == "text" && block.text.contains("p95"));
    let shown = shown.expect("the README shows a result");
    for line in shown.text.lines().filter(|line| !line.starts_with('$')) {
        assert!(
            line.contains("records/s") || said.out.contains(line) || said.err.contains(line),
            "not so: {line}\n{said:?}"
        );
    }
}

/// The absolute paths that may be in the README: the program's pages, and where it is installed.
const PAGES: [&str; 8] =
    ["/frontiers", "/health", "/lateness", "/metrics", "/ready", "/status", "/views", "/views/NAME"];
const INSTALLED: [&str; 6] = [
    "/etc/optimizer/",
    "/var/lib/optimizer/",
    "/usr/local/bin/processor",
    "/etc/systemd/system/",
    "/etc/sysusers.d/llm-optimizer-processor.conf",
    "/dev/stdin",
];

/// The absolute paths in a text: those in addresses such as `http://host/page` are none.
fn absolute_paths(text: &str) -> Vec<&str> {
    let begins = |at: usize| {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        (before.is_whitespace() || "\"'`([{<,:=>|".contains(before))
            && text[at + 1..].starts_with(|first: char| first.is_ascii_alphanumeric() || "._$*".contains(first))
    };
    let path = |at: usize| {
        let rest = &text[at..];
        rest.split(|c: char| c.is_whitespace() || "\"'`)]}<>,:;|".contains(c))
            .next()
            .unwrap_or(rest)
            .trim_end_matches('.')
    };
    text.match_indices('/').map(|(at, _)| at).filter(|at| begins(*at)).map(path).collect()
}

#[test]
fn absolute_paths_are_found() {
    let text =
        "`/metrics`, http://localhost:8080/status. See /a/b/c.yaml. -v /x:/y/z p=/q \"/r s\" and/or 1/2 (/t) [/u, ./v]";
    let paths = ["/metrics", "/a/b/c.yaml", "/x", "/y/z", "/q", "/r", "/t", "/u"];
    assert_eq!(absolute_paths(text), paths);
}

#[test]
fn the_readme_names_no_machine() {
    let readme = std::fs::read_to_string(ROOT.join("README.md")).expect("the README");
    let paths = absolute_paths(&readme);
    assert!(paths.contains(&"/health"), "{paths:?}");
    let is_in = |path: &str, folder: &str| path.starts_with(folder) || path == folder.trim_end_matches('/');
    let may_be = |path: &str| PAGES.contains(&path) || INSTALLED.iter().any(|folder| is_in(path, folder));
    let others: Vec<&str> = paths.into_iter().filter(|path| !may_be(path)).collect();
    assert!(others.is_empty(), "{others:?}");
}
