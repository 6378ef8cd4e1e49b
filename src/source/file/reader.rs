//! One file: its bytes, decompressed where need be, as lines.

use super::expand::InputFile;
use super::progress::FileProgress;
use crate::error::{ProcessorError, ProcessorResult};
use crate::source::lines::{LineBuffer, NextLine};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file's bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By the name; a file without a telling one by its first bytes, which no JSON begins with.
    fn of(path: &Path, first_bytes: &[u8]) -> Self {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("gz" | "gzip") => Packing::Gzip,
            Some("zst" | "zstd") => Packing::Zstd,
            _ if first_bytes.starts_with(&[0x1F, 0x8B]) => Packing::Gzip,
            _ if first_bytes.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// How a file is read that was read up to a record before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// From that record on.
    Record,
    /// It has no such record: so many bytes, unpacked, are all of it.
    End(u64),
    /// There is no line that begins there: it is not the file that was read.
    InsideALine,
    /// It cannot be read twice, as a named pipe.
    NoWayBack,
}

/// An open file.
pub(super) struct FileReader {
    path: Arc<str>,
    packing: Packing,
    input: Box<dyn Read + Send>,
    stored_read: Arc<AtomicU64>,
    lines: LineBuffer,
}

impl FileReader {
    /// Opens a file to read the line at byte `start` of it, unpacked, and those behind; where there is none, says why. Of a packed
    /// file the bytes before are read and thrown away.
    pub(super) fn open(file: &InputFile, progress: &Arc<FileProgress>, start: u64) -> ProcessorResult<(Self, Reached)> {
        let path: Arc<str> = file.path.to_string_lossy().into();
        let failed = |error: io::Error| ProcessorError::Source(format!("cannot read the file {path}: {error}"));
        let mut raw = File::open(&file.path).map_err(failed)?;
        let mut first_bytes = [0; 4];
        let count = read_up_to(&mut raw, &mut first_bytes).map_err(failed)?;
        let packing = Packing::of(&file.path, &first_bytes[..count]);
        let is_file = raw.metadata().map_err(failed)?.is_file();
        if start > 0 && is_file && packing == Packing::Plain {
            return Self::open_plain_at(raw, path, progress, start);
        }
        let stored_read = Arc::new(AtomicU64::new(0));
        let whole = io::Cursor::new(first_bytes).take(count as u64).chain(raw);
        let counted = Counting { input: whole, here: stored_read.clone(), progress: progress.clone() };
        // The line buffer is the buffer of a plain file; a decoder needs one of its own.
        let input: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(counted),
            Packing::Gzip => {
                Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, counted)))
            }
            Packing::Zstd => Box::new(
                zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(64 << 10, counted))
                    .map_err(failed)?,
            ),
        };
        let mut reader = Self { path, packing, input, stored_read, lines: LineBuffer::at(start) };
        let reached = match (start, is_file) {
            (0, _) => Reached::Record,
            (_, true) => reader.pass_over(start)?,
            (_, false) => Reached::NoWayBack,
        };
        Ok((reader, reached))
    }

    /// Of a plain file only the byte before the line is looked at: that it ends the line before.
    fn open_plain_at(
        mut raw: File,
        path: Arc<str>,
        progress: &Arc<FileProgress>,
        start: u64,
    ) -> ProcessorResult<(Self, Reached)> {
        let failed = |error: io::Error| ProcessorError::Source(format!("cannot read the file {path}: {error}"));
        let length = raw.metadata().map_err(failed)?.len();
        let mut before = [0];
        raw.seek(SeekFrom::Start(start - 1)).map_err(failed)?;
        let found = read_up_to(&mut raw, &mut before).map_err(failed)?;
        let reached = match before {
            _ if found == 0 => Reached::End(length),
            [b'\n'] => Reached::Record,
            // A last line need not end.
            _ if start == length => Reached::Record,
            _ => Reached::InsideALine,
        };
        progress.add_bytes(start.min(length));
        let stored_read = Arc::new(AtomicU64::new(start));
        let input = Box::new(Counting { input: raw, here: stored_read.clone(), progress: progress.clone() });
        let packing = Packing::Plain;
        Ok((Self { path, packing, input, stored_read, lines: LineBuffer::at(start) }, reached))
    }

    /// Reads up to the line at byte `start`.
    fn pass_over(&mut self, start: u64) -> ProcessorResult<Reached> {
        let mut buffer = vec![0; 64 << 10];
        let (mut passed, mut last) = (0, b'\n');
        while passed < start {
            let space = usize::try_from(start - passed).unwrap_or(usize::MAX).min(buffer.len());
            match retry_interrupted(|| self.input.read(&mut buffer[..space])) {
                Ok(0) => return Ok(Reached::End(passed)),
                Ok(count) => {
                    passed += count as u64;
                    last = buffer[count - 1];
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        if last == b'\n' {
            return Ok(Reached::Record);
        }
        // A last line need not end.
        self.fill()?;
        Ok(if self.lines.is_exhausted() { Reached::Record } else { Reached::InsideALine })
    }

    /// How many bytes of the file, as it is stored, have been read.
    pub(super) fn stored_bytes_read(&self) -> u64 {
        self.stored_read.load(Ordering::Relaxed)
    }

    /// How far the lines that were handed out reach, in bytes of the file as it is stored. Of a packed file it is known up to a
    /// buffer.
    pub(super) fn position(&self) -> u64 {
        match self.packing {
            Packing::Plain => self.lines.offset(),
            _ => self.stored_bytes_read(),
        }
    }

    /// Where the next line begins, in bytes of the unpacked stream.
    pub(super) fn next_line(&self) -> u64 {
        self.lines.offset()
    }

    /// Hands up to `max` lines to `take`; how many it was, and whether there is more.
    pub(super) fn read_lines(
        &mut self,
        max: usize,
        mut take: impl FnMut(NextLine<'_>) -> ProcessorResult<()>,
    ) -> ProcessorResult<(usize, bool)> {
        let mut count = 0;
        while count < max {
            match self.lines.next_line() {
                NextLine::NeedMore => self.fill()?,
                NextLine::End => return Ok((count, false)),
                line => {
                    take(line)?;
                    count += 1;
                }
            }
        }
        Ok((count, true))
    }

    fn fill(&mut self) -> ProcessorResult<()> {
        match retry_interrupted(|| self.input.read(self.lines.space())) {
            Ok(0) => self.lines.set_ended(),
            Ok(count) => self.lines.filled(count),
            Err(error) => return Err(self.failed(error)),
        }
        Ok(())
    }

    #[cold]
    fn failed(&self, error: io::Error) -> ProcessorError {
        let stored = self.stored_bytes_read();
        let lines = self.lines.offset();
        ProcessorError::Source(match self.packing {
            Packing::Plain => format!("cannot read the file {} at byte {stored}: {error}", self.path),
            packing => format!(
                "cannot read the file {}: bad or cut off {} data within its first {stored} bytes, behind byte {lines} of the \
                 unpacked lines: {error}",
                self.path,
                packing.name()
            ),
        })
    }
}

/// Counts what is read from a file as it is stored.
struct Counting<R> {
    input: R,
    here: Arc<AtomicU64>,
    progress: Arc<FileProgress>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(space)?;
        self.here.fetch_add(count as u64, Ordering::Relaxed);
        self.progress.add_bytes(count as u64);
        Ok(count)
    }
}

fn retry_interrupted(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Fills `space` as far as the file goes.
fn read_up_to(file: &mut File, space: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < space.len() {
        match retry_interrupted(|| file.read(&mut space[filled..]))? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn open(path: &Path) -> ProcessorResult<FileReader> {
        open_at(path, 0).map(|(reader, _)| reader)
    }

    fn open_at(path: &Path, start: u64) -> ProcessorResult<(FileReader, Reached)> {
        FileReader::open(&InputFile { path: path.into(), size: 0 }, &Arc::default(), start)
    }

    fn read_all(path: &Path) -> Result<Vec<(i64, String)>, String> {
        rest_of(open(path).map_err(|error| error.to_string())?)
    }

    fn rest_of(mut reader: FileReader) -> Result<Vec<(i64, String)>, String> {
        let mut found = Vec::new();
        loop {
            let read = reader.read_lines(7, |line| {
                if let NextLine::Line { offset, bytes } = line {
                    found.push((offset.0, String::from_utf8_lossy(bytes).into_owned()));
                }
                Ok(())
            });
            if !read.map_err(|error| error.to_string())?.1 {
                return Ok(found);
            }
        }
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// 300 lines that hardly compress, so that a cut is noticed in the middle.
    fn text() -> Vec<u8> {
        let mut state = 1u64;
        let mut line = |_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            format!("{:x}{:x}\n", state, state.rotate_left(17)).repeat(30).replace('\n', "") + "\n"
        };
        (0..300).map(&mut line).collect::<String>().into_bytes()
    }

    #[test]
    fn every_packing_reads_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let text = text();
        let middle = text.len() / 2;
        let members = [gzip(&text[..middle]), gzip(b""), gzip(&text[middle..])].concat();
        let frames =
            [zstd::encode_all(&text[..middle], 1).unwrap(), zstd::encode_all(&text[middle..], 1).unwrap()].concat();
        let contents = [
            ("a.jsonl", text.clone()),
            ("b.gz", members.clone()),
            ("c.ZST", frames.clone()),
            ("d", members),
            ("e", frames),
        ];
        let expected: Vec<String> =
            text.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into()).collect();
        for (name, bytes) in contents {
            let path = directory.path().join(name);
            std::fs::write(&path, &bytes).unwrap();
            let lines = read_all(&path).unwrap();
            assert_eq!(lines.len(), 300, "{name}");
            assert!(lines.iter().map(|(_, line)| line).eq(&expected[..300]), "{name}");
            assert_eq!(lines[1].0 as usize, expected[0].len() + 1, "{name}");
            let mut reader = open(&path).unwrap();
            reader.read_lines(usize::MAX, |_| Ok(())).unwrap();
            assert_eq!(reader.stored_bytes_read(), bytes.len() as u64, "{name}");
        }
    }

    #[test]
    fn a_file_is_read_from_any_of_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let ends = text();
        let open_ended = &ends[..ends.len() - 1];
        for text in [&ends[..], open_ended] {
            let members = [gzip(&text[..1000]), gzip(&text[1000..])].concat();
            let contents = [("a", text.to_vec()), ("b.gz", members), ("c.zst", zstd::encode_all(text, 1).unwrap())];
            for (name, bytes) in contents {
                let path = directory.path().join(name);
                std::fs::write(&path, &bytes).unwrap();
                let all = read_all(&path).unwrap();
                for line in [0, 1, 2, 150, 299] {
                    let (reader, reached) = open_at(&path, all[line].0 as u64).unwrap();
                    assert_eq!(reached, Reached::Record, "{name}");
                    assert_eq!(rest_of(reader).unwrap(), all[line..], "{name} from line {line}");
                }
                let length = text.len() as u64;
                let (reader, reached) = open_at(&path, length).unwrap();
                assert_eq!((reached, rest_of(reader).unwrap()), (Reached::Record, Vec::new()), "{name}");
                let reached = |start| open_at(&path, start).unwrap().1;
                assert_eq!(reached(length + 1), Reached::End(length), "{name}");
                assert_eq!(reached(all[7].0 as u64 + 3), Reached::InsideALine, "{name}");
            }
        }
    }

    #[test]
    fn damage_is_reported_with_file_and_place() {
        let directory = tempfile::tempdir().unwrap();
        let packed = [("x.gz", gzip(&text())), ("x.zst", zstd::encode_all(&text()[..], 1).unwrap())];
        for (name, bytes) in packed {
            let path = directory.path().join(name);
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let error = read_all(&path).unwrap_err();
            assert!(
                error.starts_with(&format!("source: cannot read the file {}: bad or cut off", path.display())),
                "{error}"
            );
            assert!(error.contains(&format!("within its first {} bytes", bytes.len() / 2)), "{error}");
            std::fs::write(&path, b"no compressed data at all").unwrap();
            let error = read_all(&path).unwrap_err();
            assert!(error.contains("bad or cut off"), "{error}");
        }
        let gone = read_all(&directory.path().join("gone.jsonl")).unwrap_err();
        assert!(gone.ends_with("gone.jsonl: No such file or directory (os error 2)"), "{gone}");
    }
}
