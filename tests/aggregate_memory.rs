//! What many accumulators cost in memory, by their own account and by the allocator's.

use llm_optimizer_processor::aggregate::{AccumulatorStore, AggregatePlan};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count of the bytes in use and of their peak.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ACCUMULATORS: usize = 100_000;
const VALUES: usize = 100;

#[test]
fn a_hundred_thousand_accumulators_of_a_hundred_values_stay_small() {
    let plan = AggregatePlan::everything();
    let before = IN_USE.load(Ordering::Relaxed);
    let mut store = AccumulatorStore::new(plan);
    let mut seed = 1u64;
    let mut values = [0.0; VALUES];
    for _ in 0..ACCUMULATORS {
        let id = store.create();
        for value in &mut values {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Latencies from 10 to 1000 ms, in microseconds' steps.
            let uniform = (seed >> 11) as f64 / (1u64 << 53) as f64;
            *value = (10.0 * 100f64.powf(uniform) * 1000.0).round() / 1000.0;
        }
        store.add_dense(&[id; VALUES], &values);
    }
    let (used, peak) = (IN_USE.load(Ordering::Relaxed) - before, PEAK.load(Ordering::Relaxed) - before);
    let own = store.heap_bytes();
    println!(
        "heap_bytes {own}, allocator {used}, peak {peak}: {} bytes an accumulator",
        used as f64 / ACCUMULATORS as f64
    );
    assert!(own.abs_diff(used) < 4096, "the store's own account, {own}, and the allocator's, {used}, differ");
    assert!(peak < 75_000_000, "a peak of {peak} bytes");
}
