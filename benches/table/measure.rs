//! Clocks, repeated runs and the table.

use std::time::{Duration, Instant};

/// How often each side of a line is measured.
pub const RUNS: usize = 7;

/// The CPU time of the whole process so far.
pub fn cpu_time() -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole rusage, which getrusage fills.
    let usage = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), 0);
        usage.assume_init()
    };
    let time = |at: libc::timeval| Duration::from_micros(at.tv_sec as u64 * 1_000_000 + at.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// CPU time of a call, over all threads.
pub fn cpu(work: impl FnOnce()) -> Duration {
    let before = cpu_time();
    work();
    cpu_time() - before
}

/// The clock's time of a call.
pub fn wall(work: impl FnOnce()) -> Duration {
    let before = Instant::now();
    work();
    before.elapsed()
}

/// Measures two things in turn, and gives the least time of each: what else the machine does only ever adds.
pub fn in_turn(first: impl FnMut() -> Duration, second: impl FnMut() -> Duration) -> (Duration, Duration) {
    in_turn_times(RUNS, first, second)
}

/// The same with another number of runs.
pub fn in_turn_times(
    runs: usize,
    mut first: impl FnMut() -> Duration,
    mut second: impl FnMut() -> Duration,
) -> (Duration, Duration) {
    let (mut least_first, mut least_second) = (Duration::MAX, Duration::MAX);
    for _ in 0..runs {
        least_first = least_first.min(first());
        least_second = least_second.min(second());
    }
    (least_first, least_second)
}

/// A group of lines: its name, and what measures them.
type Group<'a> = (&'a str, fn(&mut Table));

/// The lines.
pub struct Table {
    only: String,
    lines: Vec<[String; 5]>,
}

impl Table {
    pub fn new(only: &str) -> Self {
        Self { only: only.to_owned(), lines: Vec::new() }
    }

    /// Whether a group of lines is asked for.
    pub fn wants(&self, group: &str) -> bool {
        group.starts_with(&self.only)
    }

    /// Measures those of the groups that are asked for, in their order.
    pub fn run(&mut self, groups: &[Group<'_>]) {
        for (group, measure) in groups {
            if self.wants(group) {
                measure(self);
            }
        }
    }

    /// A line with a floor: `floor / time`, for `count` things.
    pub fn ratio(&mut self, name: &str, floor: Duration, time: Duration, count: u64, reach: &str) {
        let each = |time: Duration| format!("{:.1} ns", time.as_nanos() as f64 / count as f64);
        let ratio = floor.as_secs_f64() / time.as_secs_f64();
        self.line([name.to_owned(), each(floor), each(time), format!("{ratio:.2}"), reach.to_owned()]);
    }

    /// A line with a figure of its own.
    pub fn figure(&mut self, name: &str, floor: &str, figure: &str, reach: &str) {
        self.line([name.to_owned(), floor.to_owned(), figure.to_owned(), String::new(), reach.to_owned()]);
    }

    fn line(&mut self, line: [String; 5]) {
        eprintln!("{}: floor {}, processor {}, ratio {} (reach {})", line[0], line[1], line[2], line[3], line[4]);
        self.lines.push(line);
    }

    pub fn print(&self) {
        println!("| what | floor | processor | ratio | reach |\n|---|---|---|---|---|");
        for line in &self.lines {
            println!("| {} |", line.join(" | "));
        }
    }
}
