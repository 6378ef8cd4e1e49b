//! Results as JSON lines in a file; see [`super::lines`] for how they get there.

use super::encode::encode_result;
use super::lines::LineFile;
use super::{ResultRow, ResultSink};
use crate::config::FileMode;
use crate::error::ProcessorResult;
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
}

impl FileResults {
    pub fn open(path: &Path, mode: FileMode) -> ProcessorResult<Self> {
        Ok(FileResults { lines: LineFile::open(path, mode)? })
    }
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
        let mut sink = FileResults::open(&path, FileMode::Append).unwrap();
        sink.write(&[documented_row(), documented_row()]).unwrap();
        sink.close().unwrap();
        let mut line = Vec::new();
        encode_result(&documented_row(), &mut line);
        line.push(b'\n');
        assert_eq!(std::fs::read(&path).unwrap(), line.repeat(2));
    }

    #[test]
    fn an_empty_run_makes_an_empty_atomic_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.jsonl");
        let mut sink = FileResults::open(&path, FileMode::Atomic).unwrap();
        assert!(!path.exists());
        sink.close().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
