//! Lines out of chunks of bytes.
//!
//! The model: whoever reads fills [`LineBuffer::space`] and says how much it was; the buffer hands out lines where they lie,
//! with their byte offset in the stream. It grows to the longest line that is allowed and no further: what is longer is
//! passed over piece by piece, and reported with its beginning. A last line without a newline counts, a carriage return
//! before the newline does not, blank lines are passed over, and so is a byte order mark at the start of the stream.

use crate::event::Offset;

/// The longest line that is read, in bytes.
pub(super) const MAX_LINE: usize = 16 << 20;

/// How much of a longer line is kept for the report.
const KEPT_OF_TOO_LONG: usize = 4096;

/// How many bytes are read at a time.
pub(super) const CHUNK: usize = 512 << 10;

/// Splits a stream of bytes into lines.
#[derive(Debug)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    /// What is not yet handed out: `bytes[start..end]`.
    start: usize,
    end: usize,
    /// Up to here, from `start`, there is no newline.
    searched: usize,
    /// Of `bytes[start]` in the stream.
    offset: u64,
    ended: bool,
    too_long: Option<TooLong>,
    max_line: usize,
}

#[derive(Debug)]
struct TooLong {
    offset: u64,
    first_bytes: Vec<u8>,
    size: u64,
}

/// What [`LineBuffer::next_line`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextLine<'b> {
    /// A line, without its end.
    Line { offset: Offset, bytes: &'b [u8] },
    /// A line that is too long; it has been passed over.
    TooLong { offset: Offset, first_bytes: Vec<u8>, size: u64 },
    /// Only the beginning of a line is there.
    NeedMore,
    /// All lines were handed out, and the stream has ended.
    End,
}

impl LineBuffer {
    pub(super) fn new() -> Self {
        Self::with_limits(CHUNK, MAX_LINE)
    }

    /// Of a stream whose first `offset` bytes are read already.
    pub(super) fn at(offset: u64) -> Self {
        Self { offset, ..Self::new() }
    }

    fn with_limits(chunk: usize, max_line: usize) -> Self {
        Self {
            bytes: vec![0; chunk.max(4)],
            start: 0,
            end: 0,
            searched: 0,
            offset: 0,
            ended: false,
            too_long: None,
            max_line,
        }
    }

    /// Where the next bytes go; never empty after [`NextLine::NeedMore`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            // A line may have `max_line` bytes, a carriage return, a newline, and a byte order mark before it.
            let length = (self.bytes.len() * 2).min(self.max_line + 5).max(self.bytes.len() + 1);
            self.bytes.resize(length, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// That many bytes were put into [`LineBuffer::space`].
    pub(super) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// The stream has ended.
    pub(super) fn set_ended(&mut self) {
        self.ended = true;
    }

    /// How far the lines that were handed out reach in the stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the stream has ended and nothing of it is left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.ended && self.start == self.end
    }

    /// The next line that is not blank.
    #[inline]
    pub(super) fn next_line(&mut self) -> NextLine<'_> {
        loop {
            let Some(newline) = memchr::memchr(b'\n', &self.bytes[self.start + self.searched..self.end]) else {
                match self.without_newline() {
                    Some(line) => match self.trimmed(line) {
                        Some((offset, from, to)) => return NextLine::Line { offset, bytes: &self.bytes[from..to] },
                        None => return NextLine::End,
                    },
                    None => return self.unfinished(),
                }
            };
            let length = self.searched + newline;
            let line = self.take(length, 1);
            if self.is_plain(line) {
                let (offset, from, to) = line;
                return NextLine::Line { offset: Offset(offset as i64), bytes: &self.bytes[from..to] };
            }
            if self.too_long.is_some() || length > self.max_line + 4 {
                return self.finish_too_long(line);
            }
            if let Some((offset, from, to)) = self.trimmed(line) {
                return NextLine::Line { offset, bytes: &self.bytes[from..to] };
            }
        }
    }

    /// Whether a line is one of the usual kind: nothing is to be taken off it, and it is neither blank nor too long.
    #[inline]
    fn is_plain(&self, (offset, from, to): (u64, usize, usize)) -> bool {
        let line = &self.bytes[from..to];
        let ends_alone = |last: &u8| *last != b'\r';
        offset > 0
            && line.first() == Some(&b'{')
            && line.last().is_some_and(ends_alone)
            && line.len() <= self.max_line
            && self.too_long.is_none()
    }

    /// Hands out `length` bytes and `end` more that end them: where they begin in the stream and in the buffer, and their end.
    #[inline]
    fn take(&mut self, length: usize, end: usize) -> (u64, usize, usize) {
        let taken = (self.offset, self.start, self.start + length);
        self.start += length + end;
        self.offset += (length + end) as u64;
        self.searched = 0;
        taken
    }

    /// The rest of an ended stream as a line, if it is one.
    fn without_newline(&mut self) -> Option<(u64, usize, usize)> {
        self.searched = self.end - self.start;
        if !self.ended || self.too_long.is_some() || self.searched > self.max_line + 4 {
            return None;
        }
        Some(self.take(self.searched, 0))
    }

    /// What a line is without what does not belong to it; `None` where nothing is left.
    #[inline]
    fn trimmed(&self, (offset, mut from, mut to): (u64, usize, usize)) -> Option<(Offset, usize, usize)> {
        let mut offset = offset;
        if offset == 0 && self.bytes[from..to].starts_with(b"\xEF\xBB\xBF") {
            from += 3;
            offset = 3;
        }
        if to > from && self.bytes[to - 1] == b'\r' {
            to -= 1;
        }
        // Only a line that begins with white space can be blank.
        let blank = match self.bytes[from..to].first() {
            None => true,
            Some(b' ' | b'\t' | b'\r') => self.bytes[from..to].trim_ascii().is_empty(),
            Some(_) => false,
        };
        if blank { None } else { Some((Offset(offset as i64), from, to)) }
    }

    /// There is no newline in the buffer, and what is there is no last line.
    fn unfinished(&mut self) -> NextLine<'static> {
        if self.too_long.is_some() || self.searched > self.max_line + 4 {
            let piece = self.take(self.searched, 0);
            if self.ended {
                return self.finish_too_long(piece);
            }
            self.add_to_too_long(piece);
        }
        NextLine::NeedMore
    }

    fn add_to_too_long(&mut self, (offset, from, to): (u64, usize, usize)) {
        let piece = &self.bytes[from..to];
        let too_long = self.too_long.get_or_insert_with(|| TooLong {
            offset,
            first_bytes: piece[..piece.len().min(KEPT_OF_TOO_LONG)].to_vec(),
            size: 0,
        });
        too_long.size += piece.len() as u64;
    }

    #[cold]
    fn finish_too_long(&mut self, piece: (u64, usize, usize)) -> NextLine<'static> {
        self.add_to_too_long(piece);
        match self.too_long.take() {
            Some(TooLong { offset, first_bytes, size }) => {
                NextLine::TooLong { offset: Offset(offset as i64), first_bytes, size }
            }
            None => NextLine::NeedMore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Found {
        Line(i64, Vec<u8>),
        TooLong(i64, u64),
    }

    fn split(stream: &[u8], cuts: &[usize], max_line: usize) -> Vec<Found> {
        let mut buffer = LineBuffer::with_limits(8, max_line);
        let (mut rest, mut found, mut cuts) = (stream, Vec::new(), cuts.iter().cycle());
        loop {
            match buffer.next_line() {
                NextLine::Line { offset, bytes } => found.push(Found::Line(offset.0, bytes.to_vec())),
                NextLine::TooLong { offset, size, first_bytes } => {
                    assert!(stream[offset.0 as usize..].starts_with(&first_bytes));
                    found.push(Found::TooLong(offset.0, size));
                }
                NextLine::NeedMore if rest.is_empty() => buffer.set_ended(),
                NextLine::NeedMore => {
                    let space = buffer.space();
                    let count = space.len().min(rest.len()).min(*cuts.next().unwrap());
                    space[..count].copy_from_slice(&rest[..count]);
                    rest = &rest[count..];
                    buffer.filled(count);
                }
                NextLine::End => {
                    assert_eq!(buffer.offset(), stream.len() as u64);
                    return found;
                }
            }
            assert!(buffer.bytes.len() <= max_line.max(8) + 5);
        }
    }

    fn line(offset: i64, text: &str) -> Found {
        Found::Line(offset, text.as_bytes().to_vec())
    }

    #[test]
    fn line_ends_blank_lines_and_a_last_line_without_one() {
        let expected = [line(0, "a"), line(3, "bc"), line(10, "  d"), line(15, "e\rf")];
        assert_eq!(split(b"a\r\nbc\n\r\n \t\n  d\r\n\ne\rf".as_slice(), &[3], 100)[..2], expected[..2]);
        assert_eq!(split(b"a\r\nbc\n\n\r\n \n  d\n\ne\rf", &[1], 100).len(), 4);
        assert_eq!(split(b"", &[1], 100), vec![]);
        assert_eq!(split(b"\n\r\n  ", &[1], 100), vec![]);
    }

    #[test]
    fn a_byte_order_mark_at_the_start_is_passed_over() {
        assert_eq!(
            split(b"\xEF\xBB\xBFa\n\xEF\xBB\xBFb", &[2], 100),
            [Found::Line(3, b"a".to_vec()), Found::Line(5, b"\xEF\xBB\xBFb".to_vec())]
        );
        assert_eq!(split(b"\xEF\xBB\xBF", &[2], 100), vec![]);
    }

    #[test]
    fn a_line_that_is_too_long_is_reported_and_the_next_one_read() {
        let long = "x".repeat(1000);
        let stream = format!("a\n{long}\nb\n{long}");
        let expected = [line(0, "a"), Found::TooLong(2, 1000), line(1003, "b"), Found::TooLong(1005, 1000)];
        for cut in [1, 7, 64, 5000] {
            assert_eq!(split(stream.as_bytes(), &[cut], 100), expected, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            stream in proptest::collection::vec(proptest::sample::select(b"ab \r\n\xEF\xBB\xBF".to_vec()), 0..200),
            cuts in proptest::collection::vec(1..40usize, 1..6),
        ) {
            // The oracle splits the whole stream at once.
            let (mut expected, mut at) = (Vec::new(), 0);
            for piece in stream.split_inclusive(|byte| *byte == b'\n') {
                let mut from = at;
                let mut text = piece.strip_suffix(b"\n").unwrap_or(piece);
                if at == 0 && text.starts_with(b"\xEF\xBB\xBF") {
                    (text, from) = (&text[3..], 3);
                }
                text = text.strip_suffix(b"\r").unwrap_or(text);
                if !text.iter().all(u8::is_ascii_whitespace) {
                    expected.push(Found::Line(from as i64, text.to_vec()));
                }
                at += piece.len();
            }
            prop_assert_eq!(split(&stream, &cuts, 1000), expected);
        }
    }
}
