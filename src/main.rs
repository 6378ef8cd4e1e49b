//! The program; see the library's [`cli`](llm_optimizer_processor::cli).

use std::process::ExitCode;

/// The allocator: windows are many small allocations from several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    llm_optimizer_processor::cli::main()
}
