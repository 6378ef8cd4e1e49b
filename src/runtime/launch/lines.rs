//! What the processes of a group write, put together line by line.
//!
//! The model: a thread for each of a process's two outputs reads lines and writes them whole. Standard output goes on as it is:
//! these are results. Lines of the log get the process's index: `[1] ` before them, or a field `process` where they are JSON.
//!
//! How it fails: where nobody reads any more, the thread ends, and the process notices that at its next line. Where the thread panics,
//! results are missing: that is a failure of the whole.

use crate::error::ProcessorResult;
use crate::runtime::Control;
use std::io::{BufRead, BufReader, Read, Write};
use std::thread::JoinHandle;

/// Which lines get what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    None,
    /// The process's index before the line.
    Prefix(usize),
    /// The process's index as a field, where the line is a JSON object.
    Field(usize),
}

/// Passes lines on until there are no more.
pub(super) fn forward<R, W>(
    from: R,
    to: impl Fn() -> W + Send + 'static,
    mark: Mark,
    control: &Control,
) -> ProcessorResult<JoinHandle<()>>
where
    R: Read + Send + 'static,
    W: Write,
{
    let pass_on = move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.read_until(b'\n', &mut line) {
                Ok(1..) => {}
                _ => return,
            }
            // The last line of a process that was killed.
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            let mut to = to();
            if to.write_all(&marked(&line, mark)).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    };
    control.spawn("forward-lines", pass_on)
}

fn marked(line: &[u8], mark: Mark) -> Vec<u8> {
    match (mark, line) {
        (Mark::None, _) => line.to_vec(),
        (Mark::Field(process), [b'{', rest @ ..]) => {
            let separator = if rest.first() == Some(&b'}') { "" } else { "," };
            [format!("{{\"process\":{process}{separator}").as_bytes(), rest].concat()
        }
        (Mark::Prefix(process) | Mark::Field(process), _) => [format!("[{process}] ").as_bytes(), line].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    /// Takes all that is written to it.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn forwarded(text: &'static str, mark: Mark) -> String {
        let to = Shared::default();
        let writer = to.clone();
        forward(text.as_bytes(), move || writer.clone(), mark, &Control::new()).unwrap().join().unwrap();
        let bytes = to.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_marked_as_they_are() {
        assert_eq!(forwarded("a\nb", Mark::None), "a\nb\n");
        assert_eq!(forwarded("a\n\nb", Mark::Prefix(1)), "[1] a\n[1] \n[1] b\n");
        let json = "{\"level\":\"INFO\"}\n{}\nno JSON\n";
        let marked = "{\"process\":2,\"level\":\"INFO\"}\n{\"process\":2}\n[2] no JSON\n";
        assert_eq!(forwarded(json, Mark::Field(2)), marked);
    }
}
