//! Whatever another process sends: it is refused, or read as the batches that it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_optimizer_processor_fuzz::wire::check;

fuzz_target!(|bytes: &[u8]| {
    check::check(bytes);
    check::check_behind_lengths(bytes);
});
