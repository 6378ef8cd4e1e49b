//! The speed of the processor, each line a ratio to a floor measured in the same run.
//!
//! `make bench` runs all; `make bench ONLY=rows` the lines whose name begins so. Machines are noisy: every line is the least of
//! several runs, floor and program in turn. Time is the CPU time of the whole process where the line says CPU, else the clock's.

mod checkpoints;
mod cluster;
mod events;
mod files;
mod kafka;
mod latency;
mod measure;
mod memory;
mod rows;
mod views;
mod windows;
mod wire;

use measure::Table;

/// The program's allocator, so that both sides of a ratio have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let started = std::time::Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(case) = arguments.first().and_then(|argument| argument.strip_prefix("--child=")) {
        return match case.strip_prefix("restore:") {
            Some(folder) => checkpoints::child(folder, started),
            None => match (case.strip_prefix("exchange:"), case.strip_prefix("views:")) {
                (Some(case), _) => cluster::child(case),
                (_, Some(kind)) => views::child(kind),
                (None, None) => memory::child(case),
            },
        };
    }
    let only = arguments.first().map_or("", String::as_str);
    let mut table = Table::new(only);
    rows::run(&mut table);
    windows::run(&mut table);
    files::run(&mut table);
    kafka::run(&mut table);
    latency::run(&mut table);
    memory::run(&mut table);
    checkpoints::run(&mut table);
    views::run(&mut table);
    wire::run(&mut table);
    cluster::run(&mut table);
    table.print();
}
