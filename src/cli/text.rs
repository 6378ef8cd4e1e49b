//! Text for people: tables, and standard output that may be read in part.

use crate::error::{ExitCode, ProcessorError, ProcessorResult};
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

/// Columns as wide as they must be; the first to the left, the others to the right.
pub fn push_table(text: &mut String, table: &[Vec<String>]) {
    push_columns(text, table, |column| column == 0);
}

/// Columns as wide as they must be, to the left where `is_left` says so.
pub fn push_columns(text: &mut String, table: &[Vec<String>], is_left: impl Fn(usize) -> bool) {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in table {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match is_left(column) {
                true => write!(line, "  {cell:<width$}"),
                false => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Prints to standard output. A reader that has seen enough is no failure.
pub fn print(text: &str) -> ProcessorResult<ExitCode> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(ProcessorError::io("cannot write to standard output", error))
        }
        _ => Ok(ExitCode::Done),
    }
}
