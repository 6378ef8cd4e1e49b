//! Batches as bytes, and back.
//!
//! The model: a message is words of eight bytes, little-endian; whatever begins, begins at a word.
//!
//! | | words |
//! |---|---|
//! | message | [`MARK`], bytes of the message, batches |
//! | then each batch | bytes of the batch, rows, fields, late rows, new keys, bytes of text, sender and receiver, generation, time of reading |
//! | its columns | times, key ids (two in a word), one column of values a field |
//! | of late rows | which row, watermark, who refuses it |
//! | of new keys | ids (two in a word), lengths of their texts |
//! | of fields | lengths of their names |
//! | text | names of fields, then texts of keys, filled up with zeros |
//!
//! A batch's counts give its length, so nothing is read, and no memory taken, before the length that the counts come to, the length
//! that the batch names and what is left of the message agree. A message that is read is one that [`encode`] could have written: there
//! is no second way to write the same batches.
//!
//! How it fails: any other bytes are [`Damage`], which says what is wrong. What only the receiver can know, such as whether a key's id
//! was ever told, is its own business.

use super::columns::{self, Plain, WORD};
use crate::event::{DefinitionSet, DictionaryEntry, Late, LateRow, RowBatch, WorkerIndex};
use crate::time::EventTime;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

/// What a message begins with: a name, and the version of the format.
pub const MARK: u64 = u64::from_le_bytes(*b"rows/v1\n");

/// Words before the first batch.
const MESSAGE_HEADER: usize = 3;
/// Words before the columns of a batch.
const BATCH_HEADER: usize = 9;

/// Why bytes are no message of this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They begin with something else than [`MARK`].
    Mark(u64),
    /// The message, or a batch of it, needs more bytes than there are.
    Short {
        /// How many it needs.
        needs: u64,
        /// How many there are.
        left: u64,
    },
    /// There are bytes beyond those of the message.
    Long {
        /// How many there should be.
        needs: u64,
        /// How many there are.
        left: u64,
    },
    /// The counts of a batch come to another length than the one that it names.
    Counts {
        /// What it names.
        named: u64,
        /// What the counts come to; `None` is more than memory can hold.
        counted: Option<u64>,
    },
    /// A number that has 32 bits has more.
    Wide(u64),
    /// What fills a word up is not zero.
    Filling,
    /// A late row that the batch does not have, or that is not behind the one before it.
    LateRow(u64),
    /// Names or keys are not UTF-8, or their lengths do not come to the text.
    Text,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Mark(found) => write!(f, "it begins with {found:#018x} instead of {MARK:#018x}"),
            Damage::Short { needs, left } => write!(f, "{left} bytes where {needs} are needed"),
            Damage::Long { needs, left } => write!(f, "{left} bytes where there should be {needs}"),
            Damage::Counts { named, counted: Some(counted) } => {
                write!(f, "a batch of {named} bytes, by its counts of {counted}")
            }
            Damage::Counts { named, counted: None } => write!(f, "a batch of {named} bytes, by its counts of too many"),
            Damage::Wide(found) => write!(f, "{found} where a number of 32 bits should be"),
            Damage::Filling => f.write_str("something else than zeros between two columns"),
            Damage::LateRow(row) => write!(f, "row {row} cannot be the next that was late"),
            Damage::Text => f.write_str("texts that are not UTF-8 or have other lengths"),
        }
    }
}

impl std::error::Error for Damage {}

/// How much there is in a batch.
#[derive(Clone, Copy, Debug)]
struct Counts {
    rows: u64,
    fields: u64,
    late: u64,
    keys: u64,
    text: u64,
}

impl Counts {
    fn of(batch: &RowBatch) -> Self {
        let names = batch.fields.iter().map(|name| name.len());
        let text: usize = names.chain(batch.dictionary.iter().map(|entry| entry.key.len())).sum();
        Self {
            rows: batch.times.len() as u64,
            fields: batch.fields.len() as u64,
            late: batch.late.len() as u64,
            keys: batch.dictionary.len() as u64,
            text: text as u64,
        }
    }

    /// The length of the batch in bytes; `None` is more than a number can say.
    fn bytes(&self) -> Option<u64> {
        let times_and_values = self.rows.checked_mul(self.fields.checked_add(1)?)?;
        let late = self.late.checked_mul(3)?;
        let parts = [
            times_and_values,
            self.rows.div_ceil(2),
            late,
            self.keys.div_ceil(2),
            self.keys,
            self.fields,
            self.text.div_ceil(WORD as u64),
        ];
        parts.into_iter().try_fold(BATCH_HEADER as u64, u64::checked_add)?.checked_mul(WORD as u64)
    }
}

/// The length of a batch of this process in bytes.
fn bytes_of(batch: &RowBatch) -> u64 {
    Counts::of(batch).bytes().expect("what is in memory can be counted")
}

/// The length of the message with these batches, in bytes.
pub fn length(batches: &[RowBatch]) -> usize {
    MESSAGE_HEADER * WORD + batches.iter().map(|batch| bytes_of(batch) as usize).sum::<usize>()
}

/// Writes the message with these batches: as many bytes as [`length`] says. Panics where a batch's columns differ in length.
pub fn encode(batches: &[RowBatch], writer: &mut impl Write) -> io::Result<()> {
    let mut encoder = Encoder { writer, words: Vec::new() };
    encoder.words([MARK, length(batches) as u64, batches.len() as u64])?;
    batches.iter().try_for_each(|batch| encoder.batch(batch))
}

struct Encoder<'w, W> {
    writer: &'w mut W,
    /// Room for a column that is made to be written.
    words: Vec<u64>,
}

impl<W: Write> Encoder<'_, W> {
    fn batch(&mut self, batch: &RowBatch) -> io::Result<()> {
        let rows = batch.times.len();
        let has_even_columns = batch.keys.len() == rows
            && batch.values.len() == batch.fields.len()
            && batch.values.iter().all(|column| column.len() == rows);
        assert!(has_even_columns, "the columns of a batch have one length");
        self.header(batch)?;
        columns::write(&batch.times, self.writer)?;
        self.ids(&batch.keys)?;
        batch.values.iter().try_for_each(|column| columns::write(column, self.writer))?;
        self.words(batch.late.iter().map(|late| u64::from(late.row)))?;
        self.words(batch.late.iter().map(|late| late.late.watermark.as_millis() as u64))?;
        self.words(batch.late.iter().map(|late| late.late.refused_by.bits()))?;
        self.ids(&batch.dictionary.iter().map(|entry| entry.id).collect::<Vec<u32>>())?;
        self.words(batch.dictionary.iter().map(|entry| entry.key.len() as u64))?;
        self.words(batch.fields.iter().map(|name| name.len() as u64))?;
        self.texts(batch)
    }

    fn header(&mut self, batch: &RowBatch) -> io::Result<()> {
        let Counts { rows, fields, late, keys, text } = Counts::of(batch);
        let workers = join(batch.sender.0, batch.receiver.0);
        let generation = u64::from(batch.generation);
        self.words([bytes_of(batch), rows, fields, late, keys, text, workers, generation, batch.read_at_micros as u64])
    }

    fn words(&mut self, column: impl IntoIterator<Item = u64>) -> io::Result<()> {
        self.words.clear();
        self.words.extend(column);
        columns::write(&self.words, self.writer)
    }

    /// Two in a word.
    fn ids(&mut self, ids: &[u32]) -> io::Result<()> {
        let (pairs, last) = ids.as_chunks::<2>();
        self.words.clear();
        self.words.extend(pairs.iter().map(|[first, second]| join(*first, *second)));
        self.words.extend(last.iter().map(|id| u64::from(*id)));
        columns::write(&self.words, self.writer)
    }

    fn texts(&mut self, batch: &RowBatch) -> io::Result<()> {
        batch.fields.iter().try_for_each(|name| self.writer.write_all(name.as_bytes()))?;
        batch.dictionary.iter().try_for_each(|entry| self.writer.write_all(entry.key.as_bytes()))?;
        let filling = Counts::of(batch).text.next_multiple_of(WORD as u64) - Counts::of(batch).text;
        self.writer.write_all(&[0; WORD][..filling as usize])
    }
}

/// Two numbers in a word.
#[inline]
fn join(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
}

/// The two numbers in a word.
#[inline]
fn split(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

/// The batches of a message.
pub fn decode(bytes: &[u8]) -> Result<Vec<RowBatch>, Damage> {
    let mut message = Decoder { left: bytes };
    let [mark, named, count] = message.words()?;
    if mark != MARK {
        return Err(Damage::Mark(mark));
    }
    must_be(named, bytes)?;
    // Nothing is taken for batches that cannot be there.
    let most = message.left.len() / (BATCH_HEADER * WORD);
    let mut batches = Vec::with_capacity(most.min(usize::try_from(count).unwrap_or(usize::MAX)));
    for _ in 0..count {
        batches.push(message.batch()?);
    }
    must_be(0, message.left)?;
    Ok(batches)
}

/// What is left of a message, or of one of its batches.
struct Decoder<'a> {
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn batch(&mut self) -> Result<RowBatch, Damage> {
        let [named, rows, fields, late, keys, text, workers, generation, read_at] = self.words()?;
        let counts = Counts { rows, fields, late, keys, text };
        let counted = counts.bytes();
        if counted != Some(named) {
            return Err(Damage::Counts { named, counted });
        }
        // From here on each count is of something that is in the message.
        let mut body = Decoder { left: self.bytes(named - (BATCH_HEADER * WORD) as u64)? };
        let [sender, receiver] = split(workers).map(WorkerIndex);
        let mut batch = RowBatch {
            sender,
            receiver,
            generation: narrow(generation)?,
            times: body.column(rows)?,
            keys: body.ids(rows)?,
            values: (0..fields).map(|_| body.column(rows)).collect::<Result<_, _>>()?,
            late: body.late_rows(late, rows)?,
            read_at_micros: read_at as i64,
            ..RowBatch::default()
        };
        body.texts(counts, &mut batch)?;
        must_be(0, body.left)?;
        Ok(batch)
    }

    /// Late rows of a batch with so many rows: ascending.
    fn late_rows(&mut self, count: u64, rows: u64) -> Result<Vec<LateRow>, Damage> {
        let places: Vec<u64> = self.column(count)?;
        let watermarks: Vec<i64> = self.column(count)?;
        let refusals: Vec<u64> = self.column(count)?;
        let mut next = 0;
        let late = places.into_iter().zip(watermarks).zip(refusals).map(|((row, watermark), refused_by)| {
            if row < next || row >= rows {
                return Err(Damage::LateRow(row));
            }
            next = row + 1;
            let watermark = EventTime::from_millis(watermark);
            let late = Late { watermark, refused_by: DefinitionSet::from_bits(refused_by) };
            Ok(LateRow { row: narrow(row)?, late })
        });
        late.collect()
    }

    /// Keys and fields, with their texts.
    fn texts(&mut self, counts: Counts, batch: &mut RowBatch) -> Result<(), Damage> {
        let ids = self.ids(counts.keys)?;
        let of_keys: Vec<u64> = self.column(counts.keys)?;
        let of_fields: Vec<u64> = self.column(counts.fields)?;
        let text = self.bytes(counts.text)?;
        self.filling(counts.text)?;
        let mut text = std::str::from_utf8(text).map_err(|_| Damage::Text)?;
        let names = of_fields.into_iter().map(|length| cut(&mut text, length).map(Arc::from));
        batch.fields = names.collect::<Result<_, _>>()?;
        let entry = |(id, length)| cut(&mut text, length).map(|key| DictionaryEntry { id, key: key.to_owned() });
        batch.dictionary = ids.into_iter().zip(of_keys).map(entry).collect::<Result<_, _>>()?;
        text.is_empty().then_some(()).ok_or(Damage::Text)
    }

    /// The next bytes.
    fn bytes(&mut self, count: u64) -> Result<&'a [u8], Damage> {
        let left = self.left.len() as u64;
        let short = Damage::Short { needs: count, left };
        let (bytes, rest) =
            usize::try_from(count).ok().and_then(|count| self.left.split_at_checked(count)).ok_or(short)?;
        self.left = rest;
        Ok(bytes)
    }

    /// The next words.
    fn words<const N: usize>(&mut self) -> Result<[u64; N], Damage> {
        let bytes = self.bytes((N * WORD) as u64)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<WORD>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(words)
    }

    /// The next column.
    fn column<T: Plain>(&mut self, count: u64) -> Result<Vec<T>, Damage> {
        Ok(columns::read(self.bytes(count.saturating_mul(WORD as u64))?))
    }

    /// The next column of ids, two in a word.
    fn ids(&mut self, count: u64) -> Result<Vec<u32>, Damage> {
        let bytes = self.bytes(count.div_ceil(2).saturating_mul(WORD as u64))?;
        let (ids, filling) = bytes.as_chunks::<{ WORD / 2 }>().0.split_at(count as usize);
        let is_filled = filling.iter().all(|bytes| *bytes == [0; WORD / 2]);
        is_filled.then(|| ids.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()).ok_or(Damage::Filling)
    }

    /// What fills up the word that so many bytes end in.
    fn filling(&mut self, count: u64) -> Result<(), Damage> {
        let filling = self.bytes(count.next_multiple_of(WORD as u64) - count)?;
        filling.iter().all(|byte| *byte == 0).then_some(()).ok_or(Damage::Filling)
    }
}

/// Whether there are as many bytes as there should be.
fn must_be(needs: u64, bytes: &[u8]) -> Result<(), Damage> {
    match bytes.len() as u64 {
        left if left < needs => Err(Damage::Short { needs, left }),
        left if left > needs => Err(Damage::Long { needs, left }),
        _ => Ok(()),
    }
}

/// A number that has 32 bits.
fn narrow(word: u64) -> Result<u32, Damage> {
    u32::try_from(word).map_err(|_| Damage::Wide(word))
}

/// Cuts so many bytes off a text.
fn cut<'t>(text: &mut &'t str, length: u64) -> Result<&'t str, Damage> {
    let cut = usize::try_from(length).ok().and_then(|length| text.split_at_checked(length));
    let (first, rest) = cut.ok_or(Damage::Text)?;
    *text = rest;
    Ok(first)
}
