//! Files of JSON lines as a source: plain, gzip or zstd.
//!
//! The model: each file is one partition, named by its path; a record's offset is the byte offset of its line in the unpacked
//! stream. File number i (in the order of paths) belongs to worker i modulo the number of workers. A worker announces all its
//! files at once, so that each holds the frontier until it has been read, and then always reads a chunk from the file of which
//! the smallest share has been read: files that cover the same time, whatever their sizes, advance together, and few windows
//! are open at once. At most [`OPEN_FILES`] are open at a time, in the order of paths. The choice depends on the files alone.
//!
//! A job that goes on from a checkpoint reads each file from its cut: a plain one from that byte on; of a packed one, what comes
//! before is unpacked and thrown away. A file that had been read to its end is not opened again.
//!
//! How it fails: a file that cannot be opened or read, and packed data that are damaged, end the run with an error that names
//! file and place. A line longer than 16 MiB is a bad record, not an error. A file that has become shorter than its cut, in which no
//! line begins there, that cannot be read twice (a named pipe) or that is gone is refused, see [`Resume`].

mod expand;
mod progress;
mod reader;

pub use expand::{InputFile, expand};
pub use progress::{FileProgress, draw};

use super::lines::NextLine;
use super::{Intake, NoOrigin, PartitionSlot, Polled, Resume, Source, StartAt};
use crate::error::ProcessorResult;
use crate::event::{Offset, PartitionName, WorkerIndex};
use crate::time::EventTime;
use reader::{FileReader, Reached};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// How many files a worker has open at a time.
pub const OPEN_FILES: usize = 64;

/// How many lines are read from a file before another may have its turn.
const CHUNK_LINES: usize = 1024;

/// Reads one worker's share of the files.
pub struct FileSource {
    announced: bool,
    /// Not yet announced.
    new: Vec<InputFile>,
    /// Announced, not yet open.
    waiting: VecDeque<Waiting>,
    open: Vec<OpenFile>,
    progress: Arc<FileProgress>,
    resume: Arc<Resume>,
    /// The names of all files of the job, with the worker that looks for those that are gone.
    all: Option<BTreeSet<PartitionName>>,
}

struct Waiting {
    file: InputFile,
    slot: PartitionSlot,
    start: u64,
}

struct OpenFile {
    slot: PartitionSlot,
    reader: FileReader,
    size: u64,
    lines_read: u64,
}

impl FileSource {
    /// The source of worker `worker` of `peers` for all `files` of the job, which every worker lists in the same order (see
    /// [`expand`]). What it reads is added to `progress`.
    pub fn new(files: &[InputFile], worker: WorkerIndex, peers: usize, progress: Arc<FileProgress>) -> Self {
        Self::resuming(files, worker, peers, progress, Arc::default())
    }

    /// The same, from where `resume` says.
    pub fn resuming(
        files: &[InputFile],
        worker: WorkerIndex,
        peers: usize,
        progress: Arc<FileProgress>,
        resume: Arc<Resume>,
    ) -> Self {
        let new: Vec<InputFile> = files.iter().skip(worker.0 as usize).step_by(peers.max(1)).cloned().collect();
        for file in new.iter().filter(|file| resume.start(&name_of(file)) != StartAt::Ended) {
            progress.add_file(file.size);
        }
        let all = (worker == WorkerIndex(0)).then(|| files.iter().map(name_of).collect());
        Self { announced: false, new, waiting: VecDeque::new(), open: Vec::new(), progress, resume, all }
    }

    fn announce(&mut self, intake: &mut Intake) -> ProcessorResult<()> {
        if std::mem::replace(&mut self.announced, true) {
            return Ok(());
        }
        for file in std::mem::take(&mut self.new) {
            let name = name_of(&file);
            let start = self.resume.start(&name);
            let slot = intake.open_partition(name, EventTime::MIN);
            match start {
                StartAt::New => self.waiting.push_back(Waiting { file, slot, start: 0 }),
                StartAt::Record(next) => self.waiting.push_back(Waiting { file, slot, start: next.0.unsigned_abs() }),
                StartAt::Ended => {}
            }
        }
        if let Some(all) = self.all.take() {
            for ended in self.resume.vanished(|name| all.contains(name))? {
                intake.open_partition(ended, EventTime::MIN);
            }
        }
        intake.set_ready();
        Ok(())
    }

    fn open_waiting(&mut self) -> ProcessorResult<()> {
        while self.open.len() < OPEN_FILES
            && let Some(Waiting { file, slot, start }) = self.waiting.pop_front()
        {
            let (reader, reached) = FileReader::open(&file, &self.progress, start)?;
            self.check(&file, start, reached)?;
            self.open.push(OpenFile { slot, reader, size: file.size, lines_read: 0 });
        }
        Ok(())
    }

    /// Refuses a file that cannot go on from its cut. Where that is accepted, what there is is read.
    fn check(&self, file: &InputFile, start: u64, reached: Reached) -> ProcessorResult<()> {
        let reason = match reached {
            Reached::Record => return Ok(()),
            Reached::End(length) => format!(
                "the checkpoint goes on at byte {start}, and the file has {length}: it was cut off, or it is another file"
            ),
            Reached::InsideALine => format!(
                "the checkpoint goes on at byte {start}, and no line of the file begins there: it was changed, or it is another file"
            ),
            Reached::NoWayBack => {
                format!("the checkpoint goes on at byte {start}, and what was read of a pipe cannot be read again")
            }
        };
        self.resume.lose(&name_of(file), None, || reason)
    }

    /// The open file that is least far.
    fn next_file(&self) -> Option<usize> {
        (0..self.open.len()).min_by(|a, b| {
            let (a, b) = (&self.open[*a], &self.open[*b]);
            a.share_read().total_cmp(&b.share_read()).then(a.lines_read.cmp(&b.lines_read))
        })
    }
}

fn name_of(file: &InputFile) -> PartitionName {
    PartitionName { topic: file.path.to_string_lossy().into(), partition: 0 }
}

impl OpenFile {
    /// What share of the file has been read; what has no size, such as a pipe, counts as large.
    fn share_read(&self) -> f64 {
        let size = if self.size == 0 { 1 << 40 } else { self.size };
        self.reader.position() as f64 / size as f64
    }

    fn read(&mut self, intake: &mut Intake, max: usize) -> ProcessorResult<(usize, bool)> {
        let slot = self.slot;
        let (count, more) = self.reader.read_lines(max, |line| match line {
            NextLine::Line { offset, bytes } => intake.record(slot, offset, bytes, &NoOrigin),
            NextLine::TooLong { offset, first_bytes, size } => intake.too_large(slot, offset, &first_bytes, size),
            NextLine::NeedMore | NextLine::End => Ok(()),
        })?;
        self.lines_read += count as u64;
        intake.set_next(slot, Offset(self.reader.next_line() as i64));
        Ok((count, more))
    }
}

impl Source for FileSource {
    fn poll(&mut self, intake: &mut Intake, max_records: usize) -> ProcessorResult<Polled> {
        self.announce(intake)?;
        let mut handed = 0;
        while handed < max_records {
            self.open_waiting()?;
            let Some(index) = self.next_file() else {
                return Ok(if handed > 0 { Polled::Records(handed) } else { Polled::Finished });
            };
            let file = &mut self.open[index];
            let (count, more) = file.read(intake, CHUNK_LINES.min(max_records - handed))?;
            handed += count;
            self.progress.add_events(count as u64);
            if !more {
                intake.close_partition(file.slot);
                self.progress.close_file();
                // Not swapped: ties go to the first, and the order must be that of the paths.
                self.open.remove(index);
            }
        }
        Ok(Polled::Records(handed))
    }
}
