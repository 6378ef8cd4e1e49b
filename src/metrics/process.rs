//! Metrics of the process itself, under the names that Prometheus's own clients use.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use std::fs;
use std::sync::Mutex;

/// Reads `/proc/self` whenever the page is asked for. Without a `/proc` its metrics are absent.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    cpu: Counter,
    start_time: Gauge,
    resident_memory: Gauge,
    virtual_memory: Gauge,
    open_files: Gauge,
    threads: Gauge,
    /// Two scrapes at once must not both add the same CPU time.
    collecting: Mutex<()>,
}

/// What one look at `/proc` gives.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    threads: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let gauge = |name, help| Gauge::new(name, help).expect("the names are constants that Prometheus accepts");
        ProcessCollector {
            cpu: Counter::new("process_cpu_seconds_total", "User and system CPU time, in seconds.")
                .expect("the name is a constant that Prometheus accepts"),
            start_time: gauge("process_start_time_seconds", "When the process began, in seconds since 1970."),
            resident_memory: gauge("process_resident_memory_bytes", "Memory in RAM, in bytes."),
            virtual_memory: gauge("process_virtual_memory_bytes", "Address space, in bytes."),
            open_files: gauge("process_open_fds", "Open file descriptors."),
            threads: gauge("process_threads", "Threads."),
            collecting: Mutex::new(()),
        }
    }

    fn gauges(&self) -> [&Gauge; 5] {
        [&self.start_time, &self.resident_memory, &self.virtual_memory, &self.open_files, &self.threads]
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(|gauge| gauge.desc()).chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.collecting.lock();
        let Some(usage) = read_usage() else { return Vec::new() };
        self.cpu.inc_by((usage.cpu_seconds - self.cpu.get()).max(0.0));
        self.start_time.set(usage.start_seconds);
        self.resident_memory.set(usage.resident_bytes);
        self.virtual_memory.set(usage.virtual_bytes);
        self.threads.set(usage.threads);
        self.open_files.set(fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64));
        self.gauges().into_iter().flat_map(|gauge| gauge.collect()).chain(self.cpu.collect()).collect()
    }
}

fn read_usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let boot = boot_seconds(&fs::read_to_string("/proc/stat").ok()?)?;
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let (ticks, page) = unsafe { (libc::sysconf(libc::_SC_CLK_TCK), libc::sysconf(libc::_SC_PAGESIZE)) };
    parse_usage(&stat, boot, ticks as f64, page as f64)
}

/// The line `btime` of `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// `/proc/self/stat`: the program's name is in parentheses and may hold anything, so fields count from the last one.
fn parse_usage(stat: &str, boot_seconds: f64, ticks_per_second: f64, page_bytes: f64) -> Option<Usage> {
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The first field here is the third in the manual's numbering.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) / ticks_per_second,
        threads: field(20)?,
        start_seconds: boot_seconds + field(22)? / ticks_per_second,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_shifts_nothing() {
        let stat =
            "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 3000 1048576 256 18446744073709551615";
        let usage = parse_usage(stat, 1_000.0, 100.0, 4096.0);
        let expected = Usage {
            cpu_seconds: 3.0,
            start_seconds: 1_030.0,
            resident_bytes: 256.0 * 4096.0,
            virtual_bytes: 1_048_576.0,
            threads: 7.0,
        };
        assert_eq!(usage, Some(expected));
        assert_eq!(parse_usage("42 (short) S 1", 0.0, 100.0, 4096.0), None);
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\nprocesses 9\n"), Some(1_700_000_000.0));
    }

    #[test]
    fn this_process_has_sensible_figures() {
        let usage = read_usage().expect("Linux has /proc");
        assert!(usage.resident_bytes > 500_000.0 && usage.resident_bytes <= usage.virtual_bytes, "{usage:?}");
        assert!(usage.threads >= 1.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
        assert!(usage.start_seconds <= now + 2.0 && usage.start_seconds > now - 86_400.0 * 365.0, "{usage:?}");
    }
}
