//! Reading and writing the values of records, byte by byte and checked.
//!
//! The model: a value begins with the version of its grammar. Numbers are varints: groups of seven bits, the least significant
//! first, in the shortest form; signed ones are zigzagged. Whatever cannot have been written is an error that names the record and
//! the byte; nothing here panics on any bytes.

use crate::error::{ProcessorError, ProcessorResult};

/// Appends a number in groups of seven bits.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: 0, -1, 1, -2 are 0, 1, 2, 3.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads one value from front to back.
pub(crate) struct ValueReader<'a> {
    /// What kind of record it is, for messages.
    what: &'static str,
    key: &'a [u8],
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ValueReader<'a> {
    pub(crate) fn new(what: &'static str, key: &'a [u8], bytes: &'a [u8]) -> Self {
        Self { what, key, bytes, at: 0 }
    }

    /// The error that says where reading stopped and why.
    pub(crate) fn error(&self, why: impl std::fmt::Display) -> ProcessorError {
        ProcessorError::State(format!(
            "{} with the key {} cannot be read, at byte {} of {}: {why}",
            self.what,
            self.key.escape_ascii(),
            self.at,
            self.bytes.len()
        ))
    }

    /// Reads the version, which must be this one.
    pub(crate) fn version(&mut self, known: u8) -> ProcessorResult<()> {
        match self.byte()? {
            version if version == known => Ok(()),
            version => Err(self.error(format_args!("its version is {version}, and this program knows {known}"))),
        }
    }

    pub(crate) fn byte(&mut self) -> ProcessorResult<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("it ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> ProcessorResult<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return match byte == 0 && shift > 0 {
                    true => Err(self.error("a number longer than it need be")),
                    false => Ok(value),
                };
            }
        }
        Err(self.error("a number beyond 64 bits"))
    }

    pub(crate) fn signed(&mut self) -> ProcessorResult<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Fails unless everything was read.
    pub(crate) fn finish(self) -> ProcessorResult<()> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            rest => Err(self.error(format_args!("{rest} bytes too many"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(unsigned in any::<u64>(), bits in 0u32..64, signed in any::<i64>()) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, unsigned >> bits);
            put_signed(&mut bytes, signed >> bits);
            let mut reader = ValueReader::new("a test", b"", &bytes);
            prop_assert_eq!(reader.varint().unwrap(), unsigned >> bits);
            prop_assert_eq!(reader.signed().unwrap(), signed >> bits);
            reader.finish().unwrap();
        }

        /// Every number has one encoding: what can be read is what is written.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = ValueReader::new("a test", b"", &bytes);
            if let Ok(value) = reader.varint() {
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert!(bytes.starts_with(&again));
                prop_assert_eq!(reader.at, again.len());
            }
        }
    }
}
