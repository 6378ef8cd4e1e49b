//! Where the files of results are that a checkpoint knows, when somebody has moved or copied the job's folder.
//!
//! The model: a checkpoint has absolute paths. Where it does not know the file that is written now, but one of the same name, the two
//! are compared: when that is gone, or begins with the same bytes, the folder was moved or copied, and all that the checkpoint
//! knows below the old one is looked for below the new one; what is still in the old one belongs to another job from now on. Else
//! the path was changed, and the checkpoint's are right.
//!
//! How it fails: a file that was moved and one that was never there look alike when both are gone; the caller tells that. Two files of one
//! name that begin alike up to the checkpoint's length are taken for copies whatever they are; only lines after that length are cut.

use crate::error::{ProcessorError, ProcessorResult};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// A folder that is another now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relocation {
    from: PathBuf,
    to: PathBuf,
}

impl Relocation {
    /// What became of the folder of the files that a checkpoint knows, each with its length, when this run writes `own`; all paths are
    /// absolute. `None`: it is where it was.
    pub fn find(known: &[(PathBuf, u64)], own: &Path) -> ProcessorResult<Option<Self>> {
        if known.iter().any(|(path, _)| path == own) || is_empty(own) {
            return Ok(None);
        }
        let most_alike = known.iter().max_by_key(|(path, _)| common_end(path, own));
        let Some((path, length)) = most_alike.filter(|(path, _)| common_end(path, own) > 0) else { return Ok(None) };
        if path.exists() && !begin_alike(path, own, *length)? {
            return Ok(None);
        }
        tracing::warn!(
            target: "sink", from = %path.display(), to = %own.display(), old_is_there = path.exists(),
            "the checkpoint knows this file of results by another path: its folder was moved or copied, so this one is cut back and \
             what is at the other path is left alone"
        );
        let common = common_end(path, own);
        Ok(Some(Self { from: without_end(path, common), to: without_end(own, common) }))
    }

    /// Where such a file is now.
    pub fn of(&self, path: PathBuf) -> PathBuf {
        match path.strip_prefix(&self.from) {
            Ok(rest) => self.to.join(rest),
            Err(_) => path,
        }
    }
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() == 0)
}

/// How many names at their ends are the same.
fn common_end(one: &Path, other: &Path) -> usize {
    let pairs = one.components().rev().zip(other.components().rev());
    pairs.take_while(|(one, other)| one == other && matches!(one, Component::Normal(_))).count()
}

/// The path without so many names at its end.
fn without_end(path: &Path, names: usize) -> PathBuf {
    path.ancestors().nth(names).unwrap_or(Path::new("/")).to_owned()
}

/// Whether two files have something and are the same as far as both go, up to a length; a length of 0 says nothing about a file, so that
/// it stands for all of both.
fn begin_alike(one: &Path, other: &Path, length: u64) -> ProcessorResult<bool> {
    let length = if length == 0 { u64::MAX } else { length };
    let failed = |path: &Path, error| ProcessorError::io(format!("reading {} to compare it", path.display()), error);
    let open = |path: &Path| File::open(path).map(|file| BufReader::new(file).take(length).bytes());
    let mut bytes_of_one = open(one).map_err(|error| failed(one, error))?;
    let mut bytes_of_other = open(other).map_err(|error| failed(other, error))?;
    let mut compared = 0_u64;
    loop {
        let left = bytes_of_one.next().transpose().map_err(|error| failed(one, error))?;
        let right = bytes_of_other.next().transpose().map_err(|error| failed(other, error))?;
        match (left, right) {
            (Some(left), Some(right)) if left != right => return Ok(false),
            (Some(_), Some(_)) => compared += 1,
            _ => return Ok(compared > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files of these names and contents.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        directory
    }

    /// What became of the folder `old` of the files that are known by these names and lengths, when `own` is written.
    fn found(folder: &tempfile::TempDir, known: &[(&str, u64)], own: &str) -> Option<(String, String)> {
        let known: Vec<(PathBuf, u64)> =
            known.iter().map(|(name, length)| (folder.path().join(name), *length)).collect();
        let relocation = Relocation::find(&known, &folder.path().join(own)).unwrap()?;
        let name = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
        Some((name(relocation.from), name(relocation.to)))
    }

    fn from_to(from: &str, to: &str) -> Option<(String, String)> {
        Some((from.to_owned(), to.to_owned()))
    }

    #[test]
    fn a_folder_that_is_gone_was_moved() {
        let folder = folder(&[("new/out/r.jsonl", "a\nb\n")]);
        assert_eq!(found(&folder, &[("old/out/r.jsonl", 2)], "new/out/r.jsonl"), from_to("old", "new"));
        assert_eq!(found(&folder, &[("old/out/s.jsonl", 2)], "new/out/r.jsonl"), None, "another name");
        assert_eq!(found(&folder, &[], "new/out/r.jsonl"), None);
    }

    #[test]
    fn one_that_begins_with_the_same_was_copied() {
        let files = [("old/r.jsonl", "a\nb\nc\n"), ("new/r.jsonl", "a\nb\nx\ny\n"), ("torn/r.jsonl", "a\n")];
        let folder = folder(&files);
        assert_eq!(found(&folder, &[("old/r.jsonl", 4)], "new/r.jsonl"), from_to("old", "new"));
        assert_eq!(found(&folder, &[("old/r.jsonl", 4)], "torn/r.jsonl"), from_to("old", "torn"));
        assert_eq!(found(&folder, &[("old/r.jsonl", 5)], "new/r.jsonl"), None, "the fifth byte is another");
        assert_eq!(found(&folder, &[("old/r.jsonl", 0)], "new/r.jsonl"), None, "a length of 0 is no likeness");
        assert_eq!(found(&folder, &[("old/r.jsonl", 0)], "torn/r.jsonl"), from_to("old", "torn"));
    }

    #[test]
    fn a_file_that_is_known_or_new_was_neither() {
        let folder = folder(&[("old/r.jsonl", "a\n"), ("new/r.jsonl", "")]);
        assert_eq!(found(&folder, &[("old/r.jsonl", 2)], "old/r.jsonl"), None);
        assert_eq!(found(&folder, &[("old/r.jsonl", 2)], "new/r.jsonl"), None);
    }

    #[test]
    fn the_file_of_the_same_process_tells() {
        let folder = folder(&[("new/p1/r.jsonl", "a\n")]);
        let known = [("old/p0/r.jsonl", 2), ("old/p1/r.jsonl", 2), ("old/p2/r.jsonl", 2)];
        assert_eq!(found(&folder, &known, "new/p1/r.jsonl"), from_to("old", "new"));
    }

    #[test]
    fn files_below_the_old_folder_are_below_the_new_one() {
        let relocation = Relocation { from: "/old".into(), to: "/else/new".into() };
        assert_eq!(relocation.of("/old/out/r.1.jsonl".into()), Path::new("/else/new/out/r.1.jsonl"));
        assert_eq!(relocation.of("/older/r.jsonl".into()), Path::new("/older/r.jsonl"));
    }
}
