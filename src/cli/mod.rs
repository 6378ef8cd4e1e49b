//! The command line: words in, a call of the library, an exit code out.

mod arguments;
mod checkpoints;
mod confirm;
mod cpu;
mod generate;
mod late_report;
mod launch;
mod report;
mod run;
mod signals;
mod text;
mod validate;
mod views;

use crate::error::{ExitCode, ProcessorResult};
use arguments::{Arguments, Command};
use clap::Parser;
use clap::error::ErrorKind;
use std::io::Write;

/// Runs the program with the process's arguments and environment.
pub fn main() -> std::process::ExitCode {
    if let Err(missing) = cpu::check() {
        say(format_args!("processor: {missing}"));
        return std::process::ExitCode::from(ExitCode::Failed as u8);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let is_run = matches!(arguments.command, None | Some(Command::Run(_)));
    let code = dispatch(arguments).unwrap_or_else(|error| {
        say(format_args!("processor: {error}"));
        error.exit_code()
    });
    match code {
        ExitCode::Done => std::process::ExitCode::SUCCESS,
        failed if is_run => leave(failed),
        failed => std::process::ExitCode::from(failed as u8),
    }
}

/// Ends the process as it is. A run that has failed leaves threads behind, in RocksDB and librdkafka too: what these libraries do when
/// a process ends in order takes from under them what they use, and the process would die of that instead, with another exit code.
fn leave(code: ExitCode) -> ! {
    // Nothing waits to be written: what sinks have not written by now, a thread of theirs may hold standard output for.
    // SAFETY: it takes a number, and does not return; nothing of this program is run or used after it.
    unsafe { libc::_exit(code as i32) }
}

fn dispatch(arguments: Arguments) -> ProcessorResult<ExitCode> {
    match arguments.command {
        None => run::run(&arguments.run),
        Some(Command::Run(options)) => run::run(&options),
        Some(Command::Launch(options)) => launch::launch(&options),
        Some(Command::Validate(options)) => validate::validate(&options),
        Some(Command::Generate(options)) => generate::generate(&options),
        Some(Command::LateReport(options)) => late_report::late_report(&options),
        Some(Command::Views(options)) => views::views(&options),
        Some(Command::Checkpoints(options)) => checkpoints::checkpoints(&options),
    }
}

/// A line on standard error. Where nobody reads it any more, the exit code says it all.
fn say(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Help and version are no errors; everything else is the usage's fault.
fn usage(error: &clap::Error) -> std::process::ExitCode {
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::Done,
        _ => ExitCode::Usage,
    };
    // Nowhere to print to: the code says it all.
    let _ = error.print();
    std::process::ExitCode::from(code as u8)
}
