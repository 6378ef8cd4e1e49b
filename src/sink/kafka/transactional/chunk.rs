//! A chunk of the outbox: records as they will be in Kafka, ready to be sent after any number of restarts.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | number of records, little-endian |
//! | 8, 8 | generation and run of the start that made it, little-endian |
//! | 1 | whether the shard had delivered anything when its epoch was prepared: 0 or 1 |
//! | 8, 4, 8, 8 | what its last marker said then: epoch, number of chunks, fingerprint of the outbox, generation, little-endian; or 0 |
//! | text | topic |
//! | number | number of headers, the same for all records |
//! | text, option | of each header: name and value |
//! | text, option | of each record: key and value; without a value it is a tombstone |
//!
//! A number is a LEB128 of at most five bytes; a text is its length and its bytes; an option is a number, 0 for nothing and the length
//! plus one otherwise, and the bytes. The chunk names its topic: what an epoch made is delivered where that epoch's
//! configuration had it. It names the start that made it, so that no two starts have the same outbox: an epoch without results has
//! a chunk without records.

use super::super::delivery::RecordHeader;
use crate::checkpoint::protocol::{Delivered, OutboxFingerprint, RunId};
use crate::sink::Generation;
use crate::time::Epoch;

const VERSION: u8 = 1;
/// A chunk is one transaction, whose results become visible at once and which is written twice: bounded, so that neither takes long.
pub(super) const MOST_RECORDS: u32 = 5_000;
/// The same in bytes; a larger record has a chunk of its own.
pub(super) const MOST_BYTES: usize = 4 << 20;
/// Where the number of records is.
const COUNT_AT: usize = 1;
/// Where the origin is.
const ORIGIN_AT: usize = 5;
const ORIGIN_BYTES: usize = 45;

/// What a chunk says of its making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sink::kafka) struct Origin {
    pub generation: Generation,
    pub run: RunId,
    /// What the shard had delivered when the chunk's epoch was prepared.
    pub after: Option<Delivered>,
}

/// Gathers records.
#[derive(Clone, Debug)]
pub(super) struct ChunkWriter {
    bytes: Vec<u8>,
    records: u32,
}

impl ChunkWriter {
    pub fn new(topic: &str, headers: &[RecordHeader]) -> Self {
        let mut bytes = vec![0; ORIGIN_AT + ORIGIN_BYTES];
        bytes[0] = VERSION;
        push_text(&mut bytes, topic.as_bytes());
        push_number(&mut bytes, headers.len());
        for (name, value) in headers {
            push_text(&mut bytes, name.as_bytes());
            push_option(&mut bytes, value.as_deref());
        }
        ChunkWriter { bytes, records: 0 }
    }

    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        push_text(&mut self.bytes, key);
        push_option(&mut self.bytes, value);
        self.records += 1;
    }

    /// Whether a record of `more` bytes would make it too large.
    pub fn is_full_for(&self, more: usize) -> bool {
        self.records >= MOST_RECORDS || (self.records > 0 && self.bytes.len() + more > MOST_BYTES)
    }

    /// Its bytes, but for the origin.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[COUNT_AT..COUNT_AT + 4].copy_from_slice(&self.records.to_le_bytes());
        self.bytes
    }
}

impl Origin {
    /// Writes it into a chunk.
    pub fn put_into(self, chunk: &mut [u8]) {
        let mut bytes = Vec::with_capacity(ORIGIN_BYTES);
        bytes.extend(self.generation.0.to_le_bytes());
        bytes.extend(self.run.0.to_le_bytes());
        if let Some(Delivered { epoch, chunks, outbox, by }) = self.after {
            bytes.push(1);
            bytes.extend(epoch.number().to_le_bytes());
            bytes.extend(chunks.to_le_bytes());
            bytes.extend(outbox.0.to_le_bytes());
            bytes.extend(by.0.to_le_bytes());
        }
        bytes.resize(ORIGIN_BYTES, 0);
        chunk[ORIGIN_AT..ORIGIN_AT + ORIGIN_BYTES].copy_from_slice(&bytes);
    }
}

/// A chunk that was read and is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sink::kafka) struct Chunk<'a> {
    pub origin: Origin,
    pub topic: &'a str,
    pub headers: Vec<RecordHeader>,
    /// Keys and values.
    pub records: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Chunk<'a> {
    /// The error says what is wrong with it.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = Rest(bytes);
        match rest.take(1)? {
            [VERSION] => {}
            other => return Err(format!("its version is {}, and this program reads version {VERSION}", other[0])),
        }
        let count = rest.u32()?;
        let origin = rest.origin()?;
        let topic = std::str::from_utf8(rest.text()?).map_err(|_| "its topic is not UTF-8".to_owned())?;
        let mut headers = Vec::new();
        for _ in 0..rest.number()? {
            let name = std::str::from_utf8(rest.text()?).map_err(|_| "a header's name is not UTF-8".to_owned())?;
            headers.push((name.to_owned(), rest.option()?.map(<[u8]>::to_vec)));
        }
        // The smallest record has two bytes: a wrong count asks for no memory.
        let mut records = Vec::with_capacity((count as usize).min(rest.0.len() / 2));
        for _ in 0..count {
            records.push((rest.text()?, rest.option()?));
        }
        match rest.0.len() {
            0 => Ok(Chunk { origin, topic, headers, records }),
            more => Err(format!("{more} bytes follow its {count} records")),
        }
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        if count > self.0.len() {
            return Err(format!("it ends where {count} more bytes were to come"));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    fn origin(&mut self) -> Result<Origin, String> {
        let (generation, run) = (Generation(self.u64()?), RunId(self.u64()?));
        let has_delivered = self.take(1)?[0];
        let (epoch, chunks) = (Epoch::new(self.u64()?), self.u32()?);
        let delivered =
            Delivered { epoch, chunks, outbox: OutboxFingerprint(self.u64()?), by: Generation(self.u64()?) };
        let after = match has_delivered {
            0 => None,
            1 => Some(delivered),
            other => return Err(format!("it says {other} where 0 or 1 is right")),
        };
        Ok(Origin { generation, run, after })
    }

    fn number(&mut self) -> Result<usize, String> {
        let mut number = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(number).map_err(|_| "a length is too large".to_owned());
            }
        }
        Err("a length has more than five bytes".to_owned())
    }

    fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.number()?;
        self.take(length)
    }

    fn option(&mut self) -> Result<Option<&'a [u8]>, String> {
        match self.number()? {
            0 => Ok(None),
            length => self.take(length - 1).map(Some),
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: usize) {
    let mut left = number;
    while left >= 0x80 {
        out.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_number(out, text.len());
    out.extend_from_slice(text);
}

fn push_option(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.push(0),
        Some(value) => {
            push_number(out, value.len() + 1);
            out.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ORIGIN: Origin = Origin { generation: Generation(258), run: RunId(3), after: None };

    type Record = (Vec<u8>, Option<Vec<u8>>);

    fn write(topic: &str, headers: &[RecordHeader], records: &[Record]) -> Vec<u8> {
        let mut chunk = ChunkWriter::new(topic, headers);
        records.iter().for_each(|(key, value)| chunk.push(key, value.as_deref()));
        let mut bytes = chunk.finish();
        ORIGIN.put_into(&mut bytes);
        bytes
    }

    #[test]
    fn its_bytes_are_these() {
        let headers = [("h".to_owned(), Some(b"1".to_vec())), ("n".to_owned(), None)];
        let bytes = write("to", &headers, &[(b"k".to_vec(), Some(b"vv".to_vec())), (b"k".to_vec(), None)]);
        let origin = b"\x01\x02\0\0\0\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0";
        assert_eq!((&bytes[..22], &bytes[22..50]), (&origin[..], &[0; 28][..]));
        assert_eq!(bytes[50..], *b"\x02to\x02\x01h\x021\x01n\0\x01k\x03vv\x01k\0");
    }

    #[test]
    fn it_says_where_it_comes_from() {
        let after =
            Delivered { epoch: Epoch::new(0x11), chunks: 0x22, outbox: OutboxFingerprint(0x33), by: Generation(0x44) };
        let origin = Origin { after: Some(after), ..ORIGIN };
        let mut bytes = ChunkWriter::new("", &[]).finish();
        origin.put_into(&mut bytes);
        assert_eq!(Chunk::read(&bytes).unwrap().origin, origin);
        assert_eq!(bytes[21..30], [1, 0x11, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[30..34], [0x22, 0, 0, 0]);
        bytes[21] = 2;
        assert!(Chunk::read(&bytes).is_err());
    }

    #[test]
    fn it_is_bounded_in_records_and_bytes() {
        let mut chunk = ChunkWriter::new("to", &[]);
        assert!(!chunk.is_full_for(2 * MOST_BYTES), "a large record has a chunk of its own");
        chunk.push(&[0; 100], None);
        assert!(chunk.is_full_for(MOST_BYTES - 100) && !chunk.is_full_for(MOST_BYTES - 200));
        (1..MOST_RECORDS).for_each(|_| chunk.push(b"k", None));
        assert!(chunk.is_full_for(1));
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..300);
        prop::collection::vec((bytes(), prop::option::of(bytes())), 0..20)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(topic in "\\PC{0,20}", name in "\\PC{0,9}", records in records()) {
            let headers = vec![(name, Some(topic.clone().into_bytes())), (String::new(), None)];
            let bytes = write(&topic, &headers, &records);
            let borrowed = records.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
            prop_assert_eq!(Chunk::read(&bytes), Ok(Chunk { origin: ORIGIN, topic: &topic, headers, records: borrowed }));
        }

        /// Neither what is cut off, nor what is changed, makes it panic; what is cut off is noticed.
        #[test]
        fn damage_is_an_error(records in records(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = write("topic", &[], &records);
            let at = at.index(bytes.len());
            prop_assert!(Chunk::read(&bytes[..at]).is_err());
            bytes[at] ^= flip;
            let _ = Chunk::read(&bytes);
            bytes[at] ^= flip;
            bytes.push(flip);
            prop_assert!(Chunk::read(&bytes).is_err());
        }
    }
}
