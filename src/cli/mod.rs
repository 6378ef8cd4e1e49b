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
    match dispatch(arguments) {
        Ok(code) => std::process::ExitCode::from(code as u8),
        Err(error) => {
            say(format_args!("processor: {error}"));
            std::process::ExitCode::from(error.exit_code() as u8)
        }
    }
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
