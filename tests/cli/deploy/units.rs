//! The units for systemd: their settings, and the commands that they start.

use super::{read, texts};
use crate::checkout::ROOT;
use crate::program::{EVENTS, Place, config, finish};
use llm_optimizer_processor::ExitCode;
use std::process::Command;

const FOLDER: &str = "deploy/systemd";
const SINGLE: &str = "llm-optimizer-processor.service";
const TEMPLATE: &str = "llm-optimizer-processor@.service";

/// The settings of a unit, in order, without comments.
fn settings(name: &str) -> Vec<(String, String)> {
    let text = read(&format!("{FOLDER}/{name}"));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
        (key.to_owned(), value.to_owned())
    };
    lines.map(pair).collect()
}

/// The values of a key, in order.
fn all<'a>(settings: &'a [(String, String)], key: &str) -> Vec<&'a str> {
    settings.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
}

fn one<'a>(settings: &'a [(String, String)], key: &str) -> &'a str {
    let [value] = all(settings, key)[..] else { panic!("{key} is not there once") };
    value
}

#[test]
fn both_units_differ_only_in_what_a_job_of_several_processes_needs() {
    let (single, template) = (settings(SINGLE), settings(TEMPLATE));
    let only = |of: &[(String, String)], other: &[(String, String)]| -> Vec<String> {
        of.iter().filter(|setting| !other.contains(setting)).map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(only(&single, &template), ["Description", "ExecStart"]);
    let further = ["Description", "EnvironmentFile", "LoadCredential", "Environment", "ExecStart"];
    assert_eq!(only(&template, &single), further);
}

#[test]
fn a_run_is_started_again_unless_a_person_must_look_first() {
    for unit in [SINGLE, TEMPLATE].map(settings) {
        assert_eq!(one(&unit, "Restart"), "on-failure");
        let never = [ExitCode::Usage, ExitCode::Refused].map(|code| (code as i32).to_string()).join(" ");
        assert_eq!(one(&unit, "RestartPreventExitStatus"), never);
        assert!(all(&unit, "SuccessExitStatus").is_empty(), "75 would count as done");
        // A peer may be away for longer than systemd's patience with units that fail again and again.
        assert_eq!(one(&unit, "StartLimitIntervalSec"), "0");
        assert_eq!(one(&unit, "KillSignal"), "SIGTERM");
        assert!(one(&unit, "TimeoutStopSec").parse::<u32>().unwrap() > 10, "the end takes up to 10 s");
    }
}

#[test]
fn the_unit_owns_the_folders_of_the_shipped_configuration() {
    let unit = settings(SINGLE);
    let state = super::in_effect("config/processor.yaml")["state"].clone();
    let folders = one(&unit, "StateDirectory").split(' ').map(|folder| format!("/var/lib/{folder}"));
    let folders: Vec<String> = folders.collect();
    for key in ["path", "checkpoint_path"] {
        let path = state[key].as_str().unwrap();
        assert!(folders.iter().any(|folder| folder == path), "{path}: {folders:?}");
    }
    assert_eq!(one(&unit, "RequiresMountsFor"), state["checkpoint_path"].as_str().unwrap());
    let user = read(&format!("{FOLDER}/sysusers.conf"));
    let user = user.lines().find(|line| line.starts_with("u ")).expect("a user");
    let expected = format!("u {} {} ", one(&unit, "User"), super::image::user());
    assert!(user.starts_with(&expected), "{user}");
}

/// The command of a unit as words, with the paths of an installation become those of a place.
fn command(unit: &[(String, String)], place: &Place) -> Vec<String> {
    let folder = place.path("").display().to_string();
    let processes = read(&format!("{FOLDER}/processor.env"));
    let processes = processes.lines().find_map(|line| line.strip_prefix("PROCESSES=")).expect("it is set");
    let text = one(unit, "ExecStart").replace("${PROCESSES}", processes).replace("%i", "1");
    let text = text.replace("/etc/optimizer/", &folder);
    let mut words = text.split(' ').map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("/usr/local/bin/processor"));
    words.collect()
}

#[test]
fn the_commands_are_those_of_the_program() {
    let place = Place::new();
    place.write("processor.yaml", config("stdin", "[{type: stdout}]"));
    let words = command(&settings(SINGLE), &place);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = finish(&mut place.command(&words), EVENTS);
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 3), "{said:?}");

    // Without a hostfile it comes as far as that, and says so.
    let words = command(&settings(TEMPLATE), &place);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = place.run(&words);
    assert_eq!(said.code, Some(ExitCode::Usage as i32), "{said:?}");
    assert!(said.err.contains("cannot read the hostfile"), "{said:?}");
    place.write("hosts.txt", "localhost:2101\nlocalhost:2102\n");
    let said = place.run(&words);
    assert!(said.err.contains("-n 3 processes need 3 addresses, one a line, and there are 2"), "{said:?}");
}

#[test]
fn variables_are_settings_of_the_program() {
    let unit = settings(TEMPLATE);
    let (name, file) = one(&unit, "LoadCredential").split_once(':').expect("a name and a file");
    let (variable, value) = one(&unit, "Environment").split_once('=').expect("a name and a value");
    assert_eq!((value, file), (format!("%d/{name}").as_str(), "/etc/optimizer/secret"));
    assert_eq!(all(&unit, "EnvironmentFile"), ["-/etc/optimizer/processor.env", "-/etc/optimizer/processor-%i.env"]);
    let text = read(&format!("{FOLDER}/processor.env"));
    let examples = text.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='));
    let examples: Vec<(&str, &str)> =
        examples.filter(|(name, _)| name.starts_with("PROCESSOR_") && !name.contains(' ')).collect();
    assert_eq!(examples.len(), 3, "{examples:?}");
    let shipped = ROOT.join("config/processor.yaml");
    for (name, value) in examples.into_iter().chain([(variable, value)]) {
        let said = Place::new().run_with(&["validate", "--config", shipped.to_str().unwrap()], &[(name, value)]);
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        assert!(said.out.contains(&format!("# environment {name}")), "{name}: {said:?}");
    }
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is not here: the units are not verified");
        return;
    }
    let place = Place::new();
    for (name, instance) in [(SINGLE, SINGLE.to_owned()), (TEMPLATE, TEMPLATE.replace('@', "@1"))] {
        // The program is not installed here.
        let text =
            read(&format!("{FOLDER}/{name}")).replace("ExecStart=/usr/local/bin/processor", "ExecStart=/bin/true");
        place.write(&instance, text);
        let said = finish(Command::new("systemd-analyze").arg("verify").arg(place.path(&instance)), "");
        let ours: Vec<&str> = said.err.lines().filter(|line| line.contains("llm-optimizer-processor")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn the_units_are_shut_in() {
    for unit in [SINGLE, TEMPLATE].map(settings) {
        for (key, value) in [
            ("NoNewPrivileges", "yes"),
            ("CapabilityBoundingSet", ""),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("PrivateTmp", "yes"),
            ("PrivateDevices", "yes"),
            ("MemoryDenyWriteExecute", "yes"),
        ] {
            assert_eq!(one(&unit, key), value, "{key}");
        }
        // The threads of checkpoints change their own scheduling.
        assert_eq!(all(&unit, "SystemCallFilter"), ["@system-service", "~@privileged"]);
    }
    let pods = super::kubernetes::container();
    assert_eq!(texts(&pods["command"]), ["/usr/local/bin/processor"], "the same place as in the units");
}
