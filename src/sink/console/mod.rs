//! Results as a table for people on standard output.
//!
//! The model: on a terminal one live table, the latest window of each key, drawn over itself from the top of the screen so that
//! nothing scrolls and a changed size does no harm; what was on the screen before stays in the scroll-back. Elsewhere (a pipe, a
//! file, a terminal that cannot move its cursor) one aligned block of text a window, appended. [`Board`] holds what is shown
//! and makes text of it; this file only knows where the text goes.

mod board;
mod layout;
mod numbers;

use super::stdout::Output;
use super::{ResultRow, ResultSink, SinkContext};
use crate::error::ProcessorResult;
use board::Board;
use std::io::{IsTerminal, Stdout, Write};
use std::time::Duration;

/// Results of one window come from several workers; waiting this long lets them be shown together.
const LINGER: Duration = Duration::from_millis(100);

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Screen {
    columns: usize,
    lines: usize,
}

/// How text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    /// Bold and dim; not under `NO_COLOR`.
    emphasis: bool,
}

/// What standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    Terminal,
    Stream,
}

/// Shows results as a table.
pub(super) struct ConsoleResults<W = Stdout> {
    output: Output<W>,
    medium: Medium,
    style: Style,
    /// Asked at each drawing, because windows are resized.
    screen: fn() -> Screen,
    board: Board,
    begun: bool,
}

impl ConsoleResults {
    pub fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb" || terminal.is_empty());
        let medium = if std::io::stdout().is_terminal() && !dumb { Medium::Terminal } else { Medium::Stream };
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let style = Style { emphasis: medium == Medium::Terminal && !no_color };
        ConsoleResults::with_output(Output::new(std::io::stdout()), medium, style, screen_of_stdout)
    }
}

impl<W: Write> ConsoleResults<W> {
    fn with_output(output: Output<W>, medium: Medium, style: Style, screen: fn() -> Screen) -> Self {
        ConsoleResults { output, medium, style, screen, board: Board::default(), begun: false }
    }

    /// Puts the live table on the screen.
    fn draw(&mut self) {
        let screen = (self.screen)();
        let lines = self.board.live(screen, self.style);
        let out = self.output.waiting();
        if !self.begun {
            self.begun = true;
            // Scrolls what is there out of the way instead of wiping it.
            out.extend(std::iter::repeat_n(b'\n', screen.lines));
        }
        out.extend_from_slice(b"\x1b[H");
        for line in lines {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\x1b[K\r\n");
        }
        out.extend_from_slice(b"\x1b[J");
    }
}

impl<W: Write + Send> ResultSink for ConsoleResults<W> {
    fn name(&self) -> &str {
        "console"
    }

    fn open(&mut self, context: SinkContext) -> ProcessorResult<()> {
        self.output.open(context);
        Ok(())
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        // It is a table of results; views have another.
        match rows.first().is_some_and(|row| row.view.is_some()) {
            true => {}
            false => self.board.take(rows),
        }
        Ok(())
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        if self.board.has_news() {
            match self.medium {
                Medium::Terminal => {
                    self.draw();
                    self.board.shown();
                }
                Medium::Stream => {
                    let blocks = self.board.blocks();
                    self.output.waiting().extend_from_slice(blocks.as_bytes());
                }
            }
        }
        self.output.write_out()
    }

    fn linger(&self) -> Duration {
        LINGER
    }
}

/// The size of the terminal that standard output is, or 80 by 24.
fn screen_of_stdout() -> Screen {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for it and outlives the call; a descriptor that is
    // closed or no terminal makes the call fail and write nothing.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if answer == 0 && size.ws_col > 0 && size.ws_row > 0 {
        Screen { columns: size.ws_col.into(), lines: size.ws_row.into() }
    } else {
        Screen { columns: 80, lines: 24 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::tests::documented_row;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn screen() -> Screen {
        Screen { columns: 100, lines: 20 }
    }

    fn console(medium: Medium, style: Style) -> (ConsoleResults<Captured>, Captured) {
        let captured = Captured::default();
        (ConsoleResults::with_output(Output::new(captured.clone()), medium, style, screen), captured)
    }

    #[test]
    fn on_a_terminal_the_table_is_drawn_over_itself() {
        let (mut console, captured) = console(Medium::Terminal, Style { emphasis: true });
        let mut parser = vt100::Parser::new(20, 100, 200);
        parser.process(b"$ make run\r\n");
        for revision in 0..30 {
            let mut row = documented_row();
            row.revision = revision;
            console.write(&[row]).unwrap();
            console.flush().unwrap();
            parser.process(&std::mem::take(&mut *captured.0.lock().unwrap()));
            let text = parser.screen().contents();
            assert_eq!(text.matches("claude-3-opus").count(), 1, "drawn once:\n{text}");
            assert!(text.contains("us-west-2") && text.contains("102.2"), "{text}");
            assert!(!text.contains("make run"), "scrolled away, not mixed in:\n{text}");
        }
        parser.screen_mut().set_scrollback(200);
        assert!(parser.screen().contents().contains("make run"), "still in the scroll-back");
    }

    #[test]
    fn a_flush_without_news_draws_nothing() {
        let (mut console, captured) = console(Medium::Terminal, Style { emphasis: false });
        console.flush().unwrap();
        assert!(captured.0.lock().unwrap().is_empty());
        console.write(&[documented_row()]).unwrap();
        console.flush().unwrap();
        let drawn = captured.0.lock().unwrap().len();
        console.close().unwrap();
        assert_eq!(captured.0.lock().unwrap().len(), drawn);
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains("\x1b[1m") && !text.contains("\x1b[2m"), "no emphasis under NO_COLOR: {text:?}");
    }

    #[test]
    fn in_a_pipe_each_window_is_a_block_of_plain_text() {
        let (mut console, captured) = console(Medium::Stream, Style { emphasis: false });
        console.write(&[documented_row()]).unwrap();
        console.flush().unwrap();
        console.write(&[documented_row()]).unwrap();
        console.close().unwrap();
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(text.matches("2026-09-21 14:13:00").count(), 2, "{text}");
    }
}
