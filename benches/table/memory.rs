//! The peak of memory with 100,000 windows open, over the program with a handful. Each is a process of its own.

use super::measure::Table;
use super::rows::{Row, run_rows};
use std::process::Command;

const KEYS: u64 = 100_000;
const VALUES: u64 = 100;

pub fn run(table: &mut Table) {
    if !table.wants("memory") {
        return;
    }
    let (idle, full) = (peak("idle"), peak("full"));
    let over = format!("{:.1} MB over {:.1} MB", full - idle, idle);
    table.figure("peak memory, 100,000 open windows, 100 values each, all aggregates", "", &over, "<= 100 MB");
}

/// The peak of a child process in MB.
fn peak(case: &str) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program).arg(format!("--child={case}")).output().expect("a child process");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse::<f64>().unwrap_or_else(|_| panic!("a number of kilobytes, not {text}")) / 1024.0
}

/// What the child does: runs the rows, and prints its peak in kilobytes.
pub fn child(case: &str) {
    let keys = if case == "full" { KEYS } else { 48 };
    // One window of ten minutes; a key's values are spread over it.
    let rows = (0..keys * VALUES).map(move |index| Row {
        time: 1_700_000_400_000 + (index * 500_000 / (keys * VALUES)) as i64,
        key: index % keys,
        value: 50.0 + ((index * 2_654_435_761) % 495_000) as f64 / 100.0,
    });
    let summary = run_rows(rows, 600);
    assert_eq!((summary.events, summary.windows), (keys * VALUES, keys));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells the peak");
    println!("{}", peak.trim().trim_end_matches("kB").trim());
}
