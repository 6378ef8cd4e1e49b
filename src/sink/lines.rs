//! A file of lines that never shows half a line for long and never a line twice.
//!
//! The model: lines are gathered in memory and written at a remembered position, the end of the last line known to be whole. A
//! write that fails half-way is undone by cutting the file back to that position, and what was gathered is still there for the
//! next attempt. A file that a killed process left with half a line at its end is cut back when it is opened.
//!
//! Two ways to appear: [`FileMode::Append`] shows lines as they are written and continues what is there; [`FileMode::Atomic`]
//! writes a hidden file beside the target and renames it at the end, so that the target is complete or absent.
//!
//! A file that is part of a checkpoint tells its length when all of it is durable ([`LineFile::settle`]), and is cut back to it
//! when the job goes on from that checkpoint ([`LineFile::cut_to`]): what comes behind will be written again.
//!
//! How it fails: a failed synchronisation is final, because the kernel may have thrown away what it could not write and would
//! report success the next time. A second writer of the same file is refused by a lock.

use crate::config::FileMode;
use crate::error::{ProcessorError, ProcessorResult};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Gathered bytes beyond which they are written.
const WRITE_AT: usize = 256 * 1024;
/// How far back the end of the last whole line is searched at a time.
const TAIL_STEP: u64 = 64 * 1024;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct LineFile {
    target: PathBuf,
    /// Where an atomic file is until it is complete.
    temporary: Option<PathBuf>,
    file: File,
    /// A regular file can be cut and synchronised; a pipe or a device cannot.
    regular: bool,
    /// The end of the last line known to be whole, in a regular file.
    good_length: u64,
    gathered: Vec<u8>,
    unsynced: bool,
    sync_failure: Option<String>,
    /// Whether the directory is known to have the file.
    listed: bool,
}

impl LineFile {
    /// Opens `target`, and makes its directory where it is missing.
    pub fn open(target: &Path, mode: FileMode) -> ProcessorResult<LineFile> {
        if let Some(directory) = target.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|error| ProcessorError::io(format!("making the directory {}", directory.display()), error))?;
        }
        if target.is_dir() {
            return Err(ProcessorError::Sink(format!("{} is a directory; a file is needed", target.display())));
        }
        let temporary = match mode {
            FileMode::Append => None,
            FileMode::Atomic => Some(temporary_path(target)?),
        };
        let path = temporary.as_deref().unwrap_or(target);
        // Without O_APPEND, so that writes go to the remembered position.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .or_else(|error| match write_only(path) {
                Some(file) => Ok(file),
                None => Err(error),
            })
            .map_err(|error| ProcessorError::io(format!("opening {} for writing", path.display()), error))?;
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut lines = LineFile {
            target: target.to_owned(),
            temporary,
            file,
            regular,
            good_length: 0,
            gathered: Vec::new(),
            unsynced: false,
            sync_failure: None,
            listed: false,
        };
        if lines.regular {
            lines.lock()?;
            lines.continue_existing()?;
        }
        Ok(lines)
    }

    /// Appends what `encode` puts after the lines gathered so far: whole lines, each with its end. When this fails, `encode` has
    /// not been called, so that the same lines may be given again.
    pub fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> ProcessorResult<()> {
        if self.gathered.len() >= WRITE_AT {
            self.write_gathered()?;
        }
        encode(&mut self.gathered);
        Ok(())
    }

    /// Writes what is gathered; in append mode it is on the disk when this returns.
    pub fn flush(&mut self) -> ProcessorResult<()> {
        self.write_gathered()?;
        if self.temporary.is_none() { self.sync() } else { Ok(()) }
    }

    /// Flushes, and gives an atomic file its name.
    pub fn finish(&mut self) -> ProcessorResult<()> {
        self.write_gathered()?;
        self.sync()?;
        let Some(temporary) = &self.temporary else { return Ok(()) };
        std::fs::rename(temporary, &self.target).map_err(|error| {
            ProcessorError::io(format!("renaming {} to {}", temporary.display(), self.target.display()), error)
        })?;
        self.temporary = None;
        self.sync_directory()
    }

    fn sync_directory(&self) -> ProcessorResult<()> {
        let directory = self.target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| ProcessorError::io(format!("synchronising the directory {}", directory.display()), error))
    }

    /// Makes everything durable, the file's name too, and says how long it is; `None` for what has no length: a pipe or a device,
    /// and an atomic file, which is not there yet.
    pub fn settle(&mut self) -> ProcessorResult<Option<u64>> {
        self.flush()?;
        if !self.regular || self.temporary.is_some() {
            return Ok(None);
        }
        if !self.listed {
            self.sync_directory()?;
            self.listed = true;
        }
        Ok(Some(self.good_length))
    }

    /// Cuts a file in append mode back to a length that [`LineFile::settle`] has told. One that is shorter has lost what was durable:
    /// that is refused, and `remedy` says what to do.
    pub fn cut_to(&mut self, length: u64, remedy: &str) -> ProcessorResult<()> {
        let has = self.length()?;
        if !self.regular || self.good_length < length {
            return Err(ProcessorError::Refused(format!(
                "{}: the checkpoint has it at {length} bytes, and it has {has}: lines that were written are gone. {remedy}",
                self.target.display()
            )));
        }
        if self.good_length > length {
            tracing::info!(
                target: "sink", path = %self.target.display(), bytes = has - length,
                "cut back to what the checkpoint holds; the rest is written again"
            );
            self.good_length = length;
            self.cut()?;
            self.unsynced = true;
            self.sync()?;
        }
        Ok(())
    }

    /// Whether it is a file, and no pipe or device.
    pub fn is_regular(&self) -> bool {
        self.regular
    }

    /// Where it is, or will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    fn lock(&self) -> ProcessorResult<()> {
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(ProcessorError::Sink(format!(
                "{} is being written by another process or another output of this one; give each a file of its own",
                self.path().display()
            ))),
            // A file system without locks: two writers are then the user's to avoid.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(target: "sink", path = %self.path().display(), "cannot lock: {error}");
                Ok(())
            }
        }
    }

    /// Finds the place to go on from; half a line at the end is cut off. A temporary file is begun anew.
    fn continue_existing(&mut self) -> ProcessorResult<()> {
        let length = self.length()?;
        if self.temporary.is_none() {
            self.good_length = whole_lines(&mut self.file, length)
                .map_err(|error| ProcessorError::io(format!("reading the end of {}", self.target.display()), error))?;
        }
        if self.good_length < length {
            if self.temporary.is_none() {
                tracing::warn!(
                    target: "sink", path = %self.target.display(), bytes = length - self.good_length,
                    "the file ends in half a line, left by a run that was cut short; it is cut off"
                );
            }
            self.cut()?;
        }
        Ok(())
    }

    fn length(&self) -> ProcessorResult<u64> {
        let metadata = self.file.metadata();
        Ok(metadata
            .map_err(|error| ProcessorError::io(format!("asking for the size of {}", self.path().display()), error))?
            .len())
    }

    fn cut(&self) -> ProcessorResult<()> {
        self.file.set_len(self.good_length).map_err(|error| {
            let path = self.path().display();
            ProcessorError::io(format!("cutting {path} back to {} bytes", self.good_length), error)
        })
    }

    fn write_gathered(&mut self) -> ProcessorResult<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let written = if self.regular {
            self.file.write_all_at(&self.gathered, self.good_length)
        } else {
            write_some(&mut self.file, &mut self.gathered)
        };
        match written {
            Ok(()) => {
                self.good_length += self.gathered.len() as u64;
                self.gathered.clear();
                self.unsynced = true;
                Ok(())
            }
            Err(error) => {
                let error = ProcessorError::io(format!("writing {}", self.path().display()), error);
                if self.regular {
                    // Where this fails too, the next attempt writes over the same place.
                    let _ = self.cut();
                }
                Err(error)
            }
        }
    }

    fn sync(&mut self) -> ProcessorResult<()> {
        if let Some(reason) = &self.sync_failure {
            return Err(ProcessorError::Sink(reason.clone()));
        }
        if !self.unsynced || !self.regular {
            return Ok(());
        }
        if let Err(error) = self.file.sync_data() {
            let path = self.path().display().to_string();
            self.sync_failure = Some(format!("synchronising {path} failed, lines may be lost: {error}"));
            return Err(ProcessorError::io(format!("synchronising {path}"), error));
        }
        self.unsynced = false;
        Ok(())
    }

    fn path(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.target)
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// A hidden file in the same directory, so that renaming it does not copy.
fn temporary_path(target: &Path) -> ProcessorResult<PathBuf> {
    let name =
        target.file_name().ok_or_else(|| ProcessorError::Sink(format!("`{}` names no file", target.display())))?;
    Ok(target.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id())))
}

/// A pipe or device that may be written but not read.
fn write_only(path: &Path) -> Option<File> {
    let metadata = std::fs::metadata(path).ok()?;
    if metadata.is_file() { None } else { OpenOptions::new().write(true).open(path).ok() }
}

/// Writes `bytes` and takes away what went out, so that a later attempt goes on where this one stopped.
fn write_some(file: &mut File, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut written = 0;
    let result = loop {
        if written == bytes.len() {
            break Ok(());
        }
        match file.write(&bytes[written..]) {
            Ok(0) => break Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    bytes.drain(..written);
    result
}

/// How many of the first `length` bytes are whole lines.
fn whole_lines(file: &mut File, length: u64) -> std::io::Result<u64> {
    let mut end = length;
    let mut bytes = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(TAIL_STEP);
        file.seek(SeekFrom::Start(begin))?;
        bytes.clear();
        Read::by_ref(file).take(end - begin).read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(begin + at as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(file: &mut LineFile, text: &str) {
        file.append(|out| out.extend_from_slice(format!("{text}\n").as_bytes())).unwrap();
    }

    fn content(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn appended_lines_continue_an_existing_file_in_a_new_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/lines.jsonl");
        for text in ["one", "two"] {
            let mut file = LineFile::open(&path, FileMode::Append).unwrap();
            line(&mut file, text);
            file.flush().unwrap();
        }
        assert_eq!(content(&path), "one\ntwo\n");
    }

    #[test]
    fn half_a_line_at_the_end_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let long = "x".repeat(3 * TAIL_STEP as usize);
        for (before, after) in [
            ("whole\nhal".to_owned(), "whole\nnew\n".to_owned()),
            (format!("whole\n{long}"), "whole\nnew\n".to_owned()),
            (format!("{long}\nhal"), format!("{long}\nnew\n")),
            (long.clone(), "new\n".to_owned()),
            ("hal".to_owned(), "new\n".to_owned()),
            (String::new(), "new\n".to_owned()),
        ] {
            std::fs::write(&path, before).unwrap();
            let mut file = LineFile::open(&path, FileMode::Append).unwrap();
            line(&mut file, "new");
            file.flush().unwrap();
            assert_eq!(content(&path), after);
        }
    }

    #[test]
    fn an_atomic_file_appears_complete_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, "the last run's\n").unwrap();
        let mut file = LineFile::open(&path, FileMode::Atomic).unwrap();
        line(&mut file, "one");
        file.flush().unwrap();
        line(&mut file, "two");
        assert_eq!(content(&path), "the last run's\n");
        file.finish().unwrap();
        assert_eq!(content(&path), "one\ntwo\n");
        drop(file);

        let mut file = LineFile::open(&path, FileMode::Atomic).unwrap();
        line(&mut file, "never complete");
        file.flush().unwrap();
        drop(file);
        assert_eq!(content(&path), "one\ntwo\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_failed_write_leaves_whole_lines_and_no_line_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let mut file = LineFile::open(&path, FileMode::Append).unwrap();
        line(&mut file, "first");
        file.flush().unwrap();
        // A descriptor that cannot be written stands for a full disk.
        let writable = std::mem::replace(&mut file.file, File::open(&path).unwrap());
        let big = "y".repeat(WRITE_AT);
        line(&mut file, &big);
        let mut encoded = false;
        let refused = file.append(|_| encoded = true);
        assert!(refused.unwrap_err().to_string().contains("writing "), "names what it did");
        assert!(!encoded, "a batch that is given again must not have been taken");
        assert!(file.flush().is_err());
        assert_eq!(content(&path), "first\n");
        // What an interrupted write may have left behind.
        writable.write_all_at(b"yyy", 6).unwrap();
        file.file = writable;
        line(&mut file, "last");
        file.flush().unwrap();
        assert_eq!(content(&path), format!("first\n{big}\nlast\n"));
    }

    #[test]
    fn a_file_is_cut_back_to_the_length_that_it_has_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let mut file = LineFile::open(&path, FileMode::Append).unwrap();
        assert_eq!(file.settle().unwrap(), Some(0));
        line(&mut file, "kept");
        let length = file.settle().unwrap().unwrap();
        assert_eq!(length, 5);
        line(&mut file, "written again");
        file.flush().unwrap();
        drop(file);

        let mut file = LineFile::open(&path, FileMode::Append).unwrap();
        file.cut_to(length, "").unwrap();
        assert_eq!(content(&path), "kept\n");
        line(&mut file, "new");
        assert_eq!(file.settle().unwrap(), Some(9));
        assert_eq!(content(&path), "kept\nnew\n");
        file.cut_to(9, "").unwrap();
        let refused = file.cut_to(10, "Restore it.").unwrap_err();
        assert!(matches!(refused, ProcessorError::Refused(_)));
        assert!(refused.to_string().ends_with(
            "lines: the checkpoint has it at 10 bytes, and it has 9: lines that were written are gone. Restore it."
        ));
        assert_eq!(content(&path), "kept\nnew\n");
    }

    #[test]
    fn what_is_no_file_has_no_length() {
        let mut device = LineFile::open(Path::new("/dev/null"), FileMode::Append).unwrap();
        assert_eq!(device.settle().unwrap(), None);
        assert!(device.cut_to(0, "").is_err());
        let directory = tempfile::tempdir().unwrap();
        let mut atomic = LineFile::open(&directory.path().join("lines"), FileMode::Atomic).unwrap();
        assert_eq!(atomic.settle().unwrap(), None);
    }

    #[test]
    fn a_second_writer_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        let _first = LineFile::open(&path, FileMode::Append).unwrap();
        let error = LineFile::open(&path, FileMode::Append).unwrap_err().to_string();
        assert!(error.contains("being written by another") && error.contains("lines"), "{error}");
    }

    #[test]
    fn a_device_is_written_as_it_is() {
        let mut file = LineFile::open(Path::new("/dev/null"), FileMode::Append).unwrap();
        line(&mut file, "gone");
        file.flush().unwrap();
        file.finish().unwrap();
        let mut full = LineFile::open(Path::new("/dev/full"), FileMode::Append).unwrap();
        line(&mut full, "no room");
        assert!(full.flush().unwrap_err().to_string().contains("/dev/full"));
    }

    #[test]
    fn a_directory_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let error = LineFile::open(directory.path(), FileMode::Append).unwrap_err().to_string();
        assert!(error.contains("is a directory"), "{error}");
    }
}
