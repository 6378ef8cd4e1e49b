//! The files of one worker's snapshot: their list, and whether they still are what they were.
//!
//! The model: a file is known by its name, its length and the CRC-32 of its bytes, all taken when the snapshot was made. RocksDB
//! never changes a table file (`.sst`) and never uses its name again, so one that is in the snapshot before, as the same file on disk,
//! need not be read again: making the list costs what is new.

use super::direct_io;
use super::fault::{Crc32, Fault, FaultKind};
use crate::error::{ProcessorError, ProcessorResult};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes that are read at once.
const READ: usize = 256 << 10;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Its name in the snapshot's directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The checksum of its content.
    pub crc32: Crc32,
    /// Its name in the object store, where the checkpoint is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// The files of a snapshot, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotFiles(pub Vec<SnapshotFile>);

/// The files of the snapshot before, which need not be read again.
#[derive(Debug, Default)]
pub struct KnownFiles(HashMap<String, Known>);

#[derive(Clone, Copy, Debug)]
struct Known {
    device: u64,
    inode: u64,
    bytes: u64,
    crc32: Crc32,
}

impl SnapshotFiles {
    /// Their length together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.bytes).sum()
    }

    /// Whether each file is there and as long as it was. This reads no file.
    pub fn check_lengths(&self, directory: &Path) -> Vec<Fault> {
        self.check(directory, |path, file| {
            let found = fs::metadata(path).map_err(|error| Fault::io(path, &error))?.len();
            file.expect_length(path, found)
        })
    }

    /// Whether each file has the content that it had. This reads all of them.
    pub fn check_contents(&self, directory: &Path) -> Vec<Fault> {
        self.check_contents_with(directory, &|_| {})
    }

    /// The same; `read` is told how many bytes more were read.
    pub(crate) fn check_contents_with(&self, directory: &Path, read: &dyn Fn(u64)) -> Vec<Fault> {
        self.check(directory, |path, file| {
            let mut open = File::open(path).map_err(|error| Fault::io(path, &error))?;
            let (found, crc32) = checksum(&mut open, read).map_err(|error| Fault::io(path, &error))?;
            file.expect_length(path, found)?;
            let kind = FaultKind::Checksum { expected: file.crc32, found: crc32 };
            if crc32 == file.crc32 { Ok(()) } else { Err(Fault::new(path, kind)) }
        })
    }

    fn check(&self, directory: &Path, one: impl Fn(&Path, &SnapshotFile) -> Result<(), Fault>) -> Vec<Fault> {
        self.0.iter().filter_map(|file| one(&directory.join(&file.name), file).err()).collect()
    }

    /// Lists the files of a directory that no one writes to, and makes them and their names survive the machine's crash.
    pub(crate) fn settle(directory: &Path, known: &mut KnownFiles) -> ProcessorResult<Self> {
        let refused =
            |path: &Path, error| ProcessorError::io(format!("cannot read the snapshot's {}", path.display()), error);
        let (mut files, mut seen) = (Vec::new(), HashMap::new());
        for entry in fs::read_dir(directory).map_err(|error| refused(directory, error))? {
            let path = entry.map_err(|error| refused(directory, error))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            let found = settle_one(&path, known.0.get(&name)).map_err(|error| refused(&path, error))?;
            files.push(SnapshotFile { name: name.clone(), bytes: found.bytes, crc32: found.crc32, object: None });
            seen.insert(name, found);
        }
        File::open(directory).and_then(|open| open.sync_all()).map_err(|error| refused(directory, error))?;
        files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        known.0 = seen;
        Ok(Self(files))
    }
}

impl SnapshotFile {
    fn expect_length(&self, path: &Path, found: u64) -> Result<(), Fault> {
        let kind = FaultKind::Length { expected: self.bytes, found };
        if found == self.bytes { Ok(()) } else { Err(Fault::new(path, kind)) }
    }
}

fn settle_one(path: &Path, known: Option<&Known>) -> std::io::Result<Known> {
    let found = fs::metadata(path)?;
    let (device, inode, bytes) = (found.dev(), found.ino(), found.len());
    let is_table = path.extension().is_some_and(|extension| extension == "sst");
    let same = |known: &&Known| is_table && (known.device, known.inode, known.bytes) == (device, inode, bytes);
    if let Some(known) = known.filter(same) {
        return Ok(*known);
    }
    let mut open = File::open(path)?;
    let (bytes, crc32) = match is_table.then(|| table_checksum(path, bytes)) {
        Some(Ok(crc32)) => (bytes, crc32),
        _ => checksum(&mut open, &|_| {})?,
    };
    open.sync_all()?;
    Ok(Known { device, inode, bytes, crc32 })
}

/// The checksum of a file of this length, which nobody reads soon again.
fn table_checksum(path: &Path, bytes: u64) -> std::io::Result<Crc32> {
    let mut hasher = crc32fast::Hasher::new();
    direct_io::read(path, bytes, |read| hasher.update(read))?;
    Ok(Crc32(hasher.finalize()))
}

/// The length and the checksum of what is left of a file.
fn checksum(open: &mut File, told: &dyn Fn(u64)) -> std::io::Result<(u64, Crc32)> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; READ];
    let mut bytes = 0;
    loop {
        match open.read(&mut buffer) {
            Ok(0) => return Ok((bytes, Crc32(hasher.finalize()))),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
                told(read as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a file that survives the machine's crash; its name does when its directory is synced.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
