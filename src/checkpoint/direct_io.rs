//! Files past the page cache.
//!
//! The model: what a checkpoint writes and reads is large and not read again soon. In the page cache it would take the place of other
//! memory, and where memory is short, or a virtual machine's, every thread of the machine waits for that, the workers too. So tables
//! are written and read past it where the file system takes that.
//!
//! How it fails: some file systems refuse to open a file that way, some to write or read it. Whatever the reason, whoever asks falls back
//! to the page cache, and sees there whether the file itself is at fault.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::Path;

/// The name of the file that is written and removed.
const PROBE: &str = "direct-io";
/// What the address, the place and the length of a request are multiples of, on disks of any kind.
const ALIGNMENT: usize = 4096;
/// Bytes that are read at once.
const READ: usize = 1 << 20;

/// Whether files in this directory can be written past the page cache.
pub fn is_supported(directory: &Path) -> bool {
    let path = directory.join(PROBE);
    let written = open(OpenOptions::new().write(true).create(true).truncate(true), &path)
        .and_then(|mut file| file.write_all(Block::new(ALIGNMENT).get()));
    if let Err(error) = &written {
        tracing::debug!(target: "checkpoint", "{} is written through the page cache: {error}", directory.display());
    }
    // Where it could not be made there is none.
    let _ = std::fs::remove_file(&path);
    written.is_ok()
}

/// Reads a file of this length past the page cache. Every error may be one of the way alone: read it in another then.
pub fn read(path: &Path, length: u64, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut file = open(OpenOptions::new().read(true), path)?;
    let (mut block, mut left) = (Block::new(READ), length);
    while left > 0 {
        let bytes = block.get();
        let read = file.read(bytes)?;
        let is_whole = read == bytes.len() || read as u64 == left;
        left = left.checked_sub(read as u64).filter(|_| is_whole).ok_or(Error::from(ErrorKind::UnexpectedEof))?;
        take(&bytes[..read]);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn open(options: &mut OpenOptions, path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(libc::O_DIRECT).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(_options: &mut OpenOptions, _path: &Path) -> Result<File> {
    Err(Error::from(ErrorKind::Unsupported))
}

/// Memory at an aligned address.
struct Block {
    room: Vec<u8>,
    begin: usize,
}

impl Block {
    /// Of so many bytes, all 0.
    fn new(length: usize) -> Self {
        let room = vec![0; length + ALIGNMENT];
        let begin = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { room, begin }
    }

    fn get(&mut self) -> &mut [u8] {
        let end = self.begin + self.room.len() - ALIGNMENT;
        &mut self.room[self.begin..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_is_gone_and_a_directory_that_takes_none_is_no_failure() {
        let directory = tempfile::tempdir().unwrap();
        // Of the answer nothing is known here: it is the file system's.
        let _ = is_supported(directory.path());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(!is_supported(&directory.path().join("missing")));
        assert!(!is_supported(Path::new("/proc/self")));
    }

    #[test]
    fn files_of_any_length_are_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table");
        let is_supported = is_supported(directory.path());
        for length in [0, 1, ALIGNMENT - 1, ALIGNMENT, READ - 1, READ, READ + 1, 3 * READ + 5_000] {
            let content: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let mut found = Vec::new();
            let read_all = read(&path, length as u64, |bytes| found.extend_from_slice(bytes));
            assert_eq!(read_all.is_ok(), is_supported, "{length}");
            assert!(!is_supported || found == content, "{length}");
            assert!(read(&path, length as u64 + 1, |_| {}).is_err(), "{length}: it is shorter");
        }
        assert!(read(&directory.path().join("missing"), 0, |_| {}).is_err());
    }
}
