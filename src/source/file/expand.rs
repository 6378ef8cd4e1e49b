//! From the configured paths and globs to the list of files.

use crate::error::{ProcessorError, ProcessorResult};
use std::path::{Path, PathBuf};

/// A file to read, with its size when it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes as it is stored; 0 for what has none, such as a named pipe.
    pub size: u64,
}

/// The files that `patterns` (paths and globs) name, sorted by path, none twice.
///
/// A text that is the path of an existing file is that file, even if it could be read as a glob. Every pattern must match a
/// file; a glob passes over directories.
pub fn expand(patterns: &[String]) -> ProcessorResult<Vec<InputFile>> {
    let mut files = Vec::new();
    for pattern in patterns {
        if Path::new(pattern).exists() || !is_glob(pattern) {
            files.push(literal(pattern)?);
        } else {
            matches(pattern, &mut files)?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

fn literal(path: &str) -> ProcessorResult<InputFile> {
    let metadata = std::fs::metadata(path)
        .map_err(|error| ProcessorError::Source(format!("cannot read the file {path}: {error}")))?;
    if metadata.is_dir() {
        let example = Path::new(path).join("*.jsonl");
        return Err(ProcessorError::Source(format!(
            "{path} is a directory; name the files in it with a glob such as {}",
            example.display()
        )));
    }
    Ok(InputFile { path: path.into(), size: metadata.len() })
}

fn matches(pattern: &str, files: &mut Vec<InputFile>) -> ProcessorResult<()> {
    let before = files.len();
    let paths = glob::glob(pattern).map_err(|error| {
        ProcessorError::Source(format!("{pattern} is not a valid glob: {} at character {}", error.msg, error.pos))
    })?;
    for path in paths {
        let path = path.map_err(|error| ProcessorError::Source(format!("cannot look through {pattern}: {error}")))?;
        let metadata = std::fs::metadata(&path)
            .map_err(|error| ProcessorError::Source(format!("cannot read the file {}: {error}", path.display())))?;
        if !metadata.is_dir() {
            files.push(InputFile { size: metadata.len(), path });
        }
    }
    if files.len() == before {
        return Err(ProcessorError::Source(format!("no file matches {pattern}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[InputFile]) -> Vec<String> {
        files.iter().map(|file| file.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn globs_are_sorted_and_overlaps_count_once() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.jsonl", "a.jsonl", "c.jsonl.gz", "[x].jsonl"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        std::fs::create_dir(directory.path().join("d.jsonl")).unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let files = expand(&[at("*.jsonl"), at("a*"), at("c.jsonl.gz"), at("[x].jsonl")]).unwrap();
        assert_eq!(names(&files), ["[x].jsonl", "a.jsonl", "b.jsonl", "c.jsonl.gz"]);
        assert_eq!(files[1].size, 7);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let message = |pattern: String| expand(&[pattern]).unwrap_err().to_string();
        assert_eq!(message(at("*.jsonl")), format!("source: no file matches {}", at("*.jsonl")));
        assert!(message(at("none")).starts_with(&format!("source: cannot read the file {}: No such file", at("none"))));
        assert!(message(at("")).contains("is a directory; name the files in it with a glob such as"));
        assert!(message(at("[")).contains("is not a valid glob"));
    }
}
