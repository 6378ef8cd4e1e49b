//! Results as JSON lines on standard output.
//!
//! How it fails: when the reader goes away (`processor ... | head`), that is the orderly end and no error: the run is asked to
//! stop, and what is still coming goes nowhere.

use super::encode::encode_result;
use super::{ResultRow, ResultSink, SinkContext};
use crate::error::{ProcessorError, ProcessorResult};
use std::io::{ErrorKind, Stdout, Write};

/// Gathered bytes beyond which they are written.
const WRITE_AT: usize = 64 * 1024;

/// Text on its way to standard output. What a failed write did not take stays for the next attempt.
pub(super) struct Output<W> {
    writer: W,
    waiting: Vec<u8>,
    context: Option<SinkContext>,
    reader_gone: bool,
}

impl<W: Write> Output<W> {
    pub fn new(writer: W) -> Self {
        Output { writer, waiting: Vec::new(), context: None, reader_gone: false }
    }

    /// Whom to tell when the reader is gone.
    pub fn open(&mut self, context: SinkContext) {
        self.context = Some(context);
    }

    /// What waits to be written; text is appended here.
    pub fn waiting(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Writes all that waits.
    pub fn write_out(&mut self) -> ProcessorResult<()> {
        let mut written = 0;
        let result = loop {
            if self.reader_gone || written == self.waiting.len() {
                break self.writer.flush();
            }
            match self.writer.write(&self.waiting[written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.lose_reader(),
            Err(error) => {
                self.waiting.drain(..written);
                return Err(ProcessorError::io("writing to standard output", error));
            }
            Ok(()) => {}
        }
        self.waiting.clear();
        Ok(())
    }

    fn lose_reader(&mut self) {
        if self.reader_gone {
            return;
        }
        self.reader_gone = true;
        tracing::info!(target: "sink", "the reader of standard output is gone; stopping");
        if let Some(context) = &self.context {
            context.control().stop();
        }
    }
}

/// Writes results to standard output.
pub(super) struct StdoutResults<W = Stdout> {
    output: Output<W>,
}

impl StdoutResults {
    pub fn new() -> Self {
        StdoutResults { output: Output::new(std::io::stdout()) }
    }
}

impl<W: Write + Send> ResultSink for StdoutResults<W> {
    fn name(&self) -> &str {
        "stdout"
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.output.open(context);
        Ok(())
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        // Written in the flush, which may be tried again; so a batch is never encoded twice.
        if self.output.waiting().len() >= WRITE_AT {
            self.output.write_out()?;
        }
        let out = self.output.waiting();
        for row in rows {
            encode_result(row, out);
            out.push(b'\n');
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.output.write_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::context::tests::detached;
    use crate::sink::encode::tests::documented_row;
    use std::io;

    /// Takes a few bytes at a time, and fails where it is told.
    #[derive(Default)]
    struct Reluctant {
        taken: Vec<u8>,
        failures: Vec<ErrorKind>,
        calls: usize,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3)
                && let Some(kind) = self.failures.pop()
            {
                return Err(kind.into());
            }
            let count = bytes.len().min(50);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink(failures: &[ErrorKind]) -> StdoutResults<Reluctant> {
        let writer = Reluctant { failures: failures.to_vec(), ..Reluctant::default() };
        StdoutResults { output: Output::new(writer) }
    }

    fn lines(count: usize) -> Vec<u8> {
        let mut line = Vec::new();
        encode_result(&documented_row(), &mut line);
        line.push(b'\n');
        line.repeat(count)
    }

    #[test]
    fn a_retry_goes_on_where_the_failed_write_stopped() {
        let mut sink = sink(&[ErrorKind::StorageFull, ErrorKind::Interrupted, ErrorKind::StorageFull]);
        sink.write(&[documented_row(), documented_row()]).unwrap();
        let mut failures = 0;
        while sink.flush().is_err() {
            failures += 1;
        }
        assert_eq!(failures, 2);
        assert_eq!(sink.output.writer.taken, lines(2));
    }

    #[test]
    fn a_reader_that_goes_away_is_the_orderly_end() {
        let mut sink = sink(&[ErrorKind::BrokenPipe]);
        let context = detached();
        sink.open(context.clone()).unwrap();
        sink.write(&[documented_row(), documented_row()]).unwrap();
        sink.flush().unwrap();
        assert!(context.control().is_stopping());
        assert!(!context.control().has_failed());
        let taken = sink.output.writer.taken.len();
        sink.write(&[documented_row()]).unwrap();
        sink.close().unwrap();
        assert_eq!(sink.output.writer.taken.len(), taken, "nothing more is tried");
    }
}
