//! Results as JSON lines in a file; see [`super::lines`] for how they get there.
//!
//! The model of exactly once: lines appear as windows fire, and a checkpoint holds the file's length. Whoever goes on from it cuts
//! the file back to that, and the lines behind are written again, as they were or as they ought to have been. So the file is
//! right from checkpoint to checkpoint and at the end; a reader that follows it sees lines that may come again after a crash.
//! Files of processes that are no more are cut back too, and so are files that were moved or copied with their folder (see
//! [`super::relocation`]). At least once nothing is cut: lines since the last checkpoint are there twice after a crash.

use super::encode::encode_result;
use super::lines::LineFile;
use super::relocation::Relocation;
use super::{Prepared, ResultRow, ResultSink, SinkRecovery};
use crate::config::{Delivery, FileMode};
use crate::error::{ProcessorError, ProcessorResult};
use crate::time::Epoch;
use std::path::{Path, PathBuf};

/// Which of the processes of a job this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// From 0.
    pub index: usize,
    /// How many there are; at least 1.
    pub count: usize,
}

impl ProcessIdentity {
    /// The only process of its job.
    pub const ALONE: ProcessIdentity = ProcessIdentity { index: 0, count: 1 };

    /// The path that this process writes: `{process}` becomes its index. Without it, every process but the first puts its index
    /// before the extension, so that no two write the same file: `results.jsonl`, `results.1.jsonl`, ...
    pub fn path(self, configured: &Path) -> PathBuf {
        if let Some(text) = configured.to_str().filter(|text| text.contains("{process}")) {
            return text.replace("{process}", &self.index.to_string()).into();
        }
        if self.index == 0 {
            return configured.to_owned();
        }
        match configured.extension() {
            Some(extension) => configured.with_extension(format!("{}.{}", self.index, extension.to_string_lossy())),
            None => {
                let mut path = configured.as_os_str().to_owned();
                path.push(format!(".{}", self.index));
                path.into()
            }
        }
    }
}

/// Writes results to one file.
pub(super) struct FileResults {
    lines: LineFile,
    delivery: Delivery,
}

impl FileResults {
    pub fn open(path: &Path, mode: FileMode, delivery: Delivery) -> ProcessorResult<Self> {
        let lines = LineFile::open(path, mode)?;
        if delivery == Delivery::ExactlyOnce && (mode != FileMode::Append || !lines.is_regular()) {
            return Err(ProcessorError::Config(format!(
                "{}: delivery exactly_once needs a file that lines are appended to and that can be cut; write another path, \
                 mode: append, or delivery: at_least_once",
                path.display()
            )));
        }
        Ok(FileResults { lines, delivery })
    }

    /// Cuts back a file that this run does not write: of a process that is no more, or from before the path was changed. Where it is
    /// gone there is nothing that could be there twice.
    fn cut_other(path: &Path, length: u64) -> ProcessorResult<()> {
        if !path.exists() {
            tracing::warn!(
                target: "sink", path = %path.display(), length,
                "a file of results that the checkpoint knows is not there; it is not written any more"
            );
            return Ok(());
        }
        LineFile::open(path, FileMode::Append)?.cut_to(length, "Restore it, or move it away.")
    }
}

fn absolute(path: &Path) -> ProcessorResult<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| ProcessorError::io(format!("finding the directory of {}", path.display()), error))
}

impl ResultSink for FileResults {
    fn name(&self) -> &str {
        "file"
    }

    fn write(&mut self, rows: &[ResultRow]) -> ProcessorResult<()> {
        self.lines.append(|out| {
            for row in rows {
                encode_result(row, out);
                out.push(b'\n');
            }
        })
    }

    fn flush(&mut self) -> ProcessorResult<()> {
        self.lines.flush()
    }

    fn close(&mut self) -> ProcessorResult<()> {
        self.lines.finish()
    }

    fn recover(&mut self, recovery: SinkRecovery) -> ProcessorResult<()> {
        if self.delivery == Delivery::AtLeastOnce {
            return Ok(());
        }
        let own = absolute(self.lines.target())?;
        let known: Vec<(PathBuf, u64)> =
            recovery.prepared.into_iter().filter_map(|(_, prepared)| prepared.file).collect();
        let relocation = Relocation::find(&known, &own)?;
        for (path, length) in known {
            let path = match &relocation {
                Some(relocation) => relocation.of(path),
                None => path,
            };
            match path == own {
                true => self.lines.cut_to(length, "Restore it, or give the sink another path.")?,
                false => Self::cut_other(&path, length)?,
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _: Epoch) -> ProcessorResult<Prepared> {
        let length = self.lines.settle()?;
        let path = absolute(self.lines.target())?;
        Ok(Prepared { file: length.map(|length| (path, length)), outbox: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::tests::documented_row;

    #[test]
    fn processes_never_share_a_file() {
        let path = |index, configured: &str| {
            ProcessIdentity { index, count: 3 }.path(Path::new(configured)).display().to_string()
        };
        assert_eq!(path(0, "out/results.jsonl"), "out/results.jsonl");
        assert_eq!(path(1, "out/results.jsonl"), "out/results.1.jsonl");
        assert_eq!(path(2, "out.d/results"), "out.d/results.2");
        assert_eq!(path(0, "p{process}/r.jsonl"), "p0/r.jsonl");
        assert_eq!(path(2, "p{process}/r-{process}.jsonl"), "p2/r-2.jsonl");
        assert_eq!(ProcessIdentity::ALONE.path(Path::new("r.jsonl")), Path::new("r.jsonl"));
    }

    #[test]
    fn each_result_is_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.jsonl");
        let mut sink = open(&path, Delivery::AtLeastOnce);
        sink.write(&[documented_row(), documented_row()]).unwrap();
        sink.close().unwrap();
        let mut line = Vec::new();
        encode_result(&documented_row(), &mut line);
        line.push(b'\n');
        assert_eq!(std::fs::read(&path).unwrap(), line.repeat(2));
    }

    use crate::sink::Shard;

    fn open(path: &Path, delivery: Delivery) -> FileResults {
        FileResults::open(path, FileMode::Append, delivery).unwrap()
    }

    fn line() -> Vec<u8> {
        let mut line = Vec::new();
        encode_result(&documented_row(), &mut line);
        line.push(b'\n');
        line
    }

    fn recovery(prepared: impl IntoIterator<Item = Prepared>) -> SinkRecovery {
        let prepared = prepared.into_iter().zip(0..).map(|(of, process)| (Shard { sink: 0, process }, of));
        SinkRecovery { restored: Some(Epoch::new(7)), prepared: prepared.collect(), ..SinkRecovery::default() }
    }

    #[test]
    fn what_was_written_since_the_checkpoint_is_there_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.jsonl");
        std::fs::write(&path, "from before the job\n").unwrap();
        for (delivery, expected) in [(Delivery::ExactlyOnce, 3), (Delivery::AtLeastOnce, 5)] {
            std::fs::write(&path, "from before the job\n").unwrap();
            let mut sink = open(&path, delivery);
            sink.recover(SinkRecovery::default()).unwrap();
            sink.write(&[documented_row()]).unwrap();
            let prepared = sink.prepare(Epoch::new(7)).unwrap();
            assert_eq!(prepared.file, Some((path.clone(), 20 + line().len() as u64)));
            sink.write(&[documented_row(), documented_row()]).unwrap();
            sink.flush().unwrap();
            drop(sink);

            let mut sink = open(&path, delivery);
            sink.recover(recovery([prepared])).unwrap();
            sink.write(&[documented_row(), documented_row()]).unwrap();
            sink.close().unwrap();
            let expected = [&b"from before the job\n"[..], &line().repeat(expected)].concat();
            assert!(std::fs::read(&path).unwrap() == expected, "{delivery:?}");
        }
    }

    #[test]
    fn files_that_are_not_written_any_more_are_cut_back_too() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("results.jsonl"), "a\nb\n").unwrap();
        std::fs::write(at("results.1.jsonl"), "c\nd\ne\n").unwrap();
        let of = |name: &str, length| Prepared { file: Some((at(name), length)), outbox: Vec::new() };
        let mut sink = open(&at("results.jsonl"), Delivery::ExactlyOnce);
        sink.recover(recovery([of("results.jsonl", 4), of("results.1.jsonl", 2), of("results.2.jsonl", 9)])).unwrap();
        assert_eq!(std::fs::read(at("results.jsonl")).unwrap(), b"a\nb\n");
        assert_eq!(std::fs::read(at("results.1.jsonl")).unwrap(), b"c\n");
        assert!(!at("results.2.jsonl").exists());
        for name in ["results.jsonl", "results.1.jsonl"] {
            let refused = sink.recover(recovery([of(name, 99)])).unwrap_err();
            assert!(matches!(refused, ProcessorError::Refused(_)), "{refused}");
            assert!(refused.to_string().contains("the checkpoint has it at 99 bytes, and it has"), "{refused}");
        }
    }

    #[test]
    fn a_file_that_was_moved_with_its_folder_is_cut_back() {
        let directory = tempfile::tempdir().unwrap();
        let (before, now) = (directory.path().join("before"), directory.path().join("now"));
        std::fs::create_dir(&now).unwrap();
        let of = |name: &str, length| Prepared { file: Some((before.join(name), length)), outbox: Vec::new() };
        std::fs::write(now.join("results.jsonl"), "a\nb\n").unwrap();
        let mut sink = open(&now.join("results.jsonl"), Delivery::ExactlyOnce);
        sink.recover(recovery([of("results.1.jsonl", 3), of("results.jsonl", 2)])).unwrap();
        assert_eq!(std::fs::read(now.join("results.jsonl")).unwrap(), b"a\n");
        let refused = sink.recover(recovery([of("results.jsonl", 99)])).unwrap_err();
        assert!(refused.to_string().contains("the checkpoint has it at 99 bytes"), "{refused}");
        drop(sink);
        // An empty one is a new one, and where the old one still is and has something else in it, the path was changed.
        let mut sink = open(&now.join("new.jsonl"), Delivery::ExactlyOnce);
        sink.recover(recovery([of("new.jsonl", 99)])).unwrap();
        std::fs::create_dir(&before).unwrap();
        std::fs::write(before.join("results.jsonl"), "x\nb\nc\n").unwrap();
        let mut sink = open(&now.join("results.jsonl"), Delivery::ExactlyOnce);
        sink.recover(recovery([of("results.jsonl", 4)])).unwrap();
        assert_eq!(std::fs::read(now.join("results.jsonl")).unwrap(), b"a\n");
        assert_eq!(std::fs::read(before.join("results.jsonl")).unwrap(), b"x\nb\n");
    }

    #[test]
    fn a_copy_is_cut_back_and_the_original_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (original, copy) = (directory.path().join("original"), directory.path().join("copy"));
        for folder in [&original, &copy] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("results.jsonl"), "a\nb\n").unwrap();
            // Of a process that is no more.
            std::fs::write(folder.join("results.1.jsonl"), "c\nd\n").unwrap();
        }
        let of = |name: &str, length| Prepared { file: Some((original.join(name), length)), outbox: Vec::new() };
        let mut sink = open(&copy.join("results.jsonl"), Delivery::ExactlyOnce);
        sink.recover(recovery([of("results.jsonl", 2), of("results.1.jsonl", 2), of("results.2.jsonl", 2)])).unwrap();
        let read = |folder: &Path, name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read(&copy, "results.jsonl"), read(&copy, "results.1.jsonl")), ("a\n".into(), "c\n".into()));
        assert_eq!(
            (read(&original, "results.jsonl"), read(&original, "results.1.jsonl")),
            ("a\nb\n".into(), "c\nd\n".into())
        );
        drop(sink);
        // One that was copied in the midst of a line, or before the lines were there, lacks what the checkpoint counts on.
        std::fs::write(copy.join("results.jsonl"), "a\n").unwrap();
        let mut sink = open(&copy.join("results.jsonl"), Delivery::ExactlyOnce);
        let refused = sink.recover(recovery([of("results.jsonl", 4)])).unwrap_err();
        assert!(refused.to_string().contains("the checkpoint has it at 4 bytes, and it has 2"), "{refused}");
        assert_eq!(read(&original, "results.jsonl"), "a\nb\n");
    }

    #[test]
    fn what_cannot_be_cut_is_not_written_exactly_once() {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &Path, mode| FileResults::open(path, mode, Delivery::ExactlyOnce).map(drop).unwrap_err();
        let (device, atomic) = (Path::new("/dev/null"), directory.path().join("a"));
        for error in [open(device, FileMode::Append), open(&atomic, FileMode::Atomic)] {
            assert!(matches!(&error, ProcessorError::Config(text) if text.contains("exactly_once")), "{error}");
        }
    }

    #[test]
    fn an_empty_run_makes_an_empty_atomic_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.jsonl");
        let mut sink = FileResults::open(&path, FileMode::Atomic, Delivery::AtLeastOnce).unwrap();
        assert!(!path.exists());
        sink.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
