//! What a crash leaves beside the objects of a directory.
//!
//! The model: a directory that counts as a store has each object written to `<object>#<number>` first and renamed then. Whoever dies
//! in between leaves such a file, which no listing of the store shows. Stores with servers have nothing of the kind.
//!
//! How it fails: a file that goes while this looks, as the rename of its writer does it, is none; what cannot be read is an error, and
//! looked at again after the next checkpoint.

use super::client::Object;
use crate::config::ObjectUrl;
use crate::error::{ProcessorError, ProcessorResult};
use chrono::{DateTime, Utc};
use std::fs::{self, DirEntry};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A file that was to become an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Where it is.
    pub path: PathBuf,
    /// What it was to become, with what it has of that.
    pub object: Object,
}

/// All files under a URL that were to become objects; none where it is not that of a directory.
///
/// # Errors
/// [`ProcessorError::Io`] with the directory.
pub fn staged(url: &ObjectUrl) -> ProcessorResult<Vec<Staged>> {
    let root = match url.url().scheme() {
        "file" => url.url().to_file_path().ok(),
        _ => None,
    };
    let mut found = Vec::new();
    if let Some(root) = root {
        look(&root, &root, &mut found)
            .map_err(|error| ProcessorError::io(format!("cannot list {}", root.display()), error))?;
    }
    Ok(found)
}

/// Removes these, and the directories that are empty without them. What is gone already is no failure.
///
/// # Errors
/// [`ProcessorError::Io`] with the first file that stays; the others go all the same.
pub fn remove(url: &ObjectUrl, files: &[Staged]) -> ProcessorResult<()> {
    let root = url.url().to_file_path().unwrap_or_default();
    let mut failed = Ok(());
    for file in files {
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let why = format!("cannot remove {}", file.path.display());
                failed = failed.and(Err(ProcessorError::io(why, error)));
            }
            _ => remove_empty(&root, &file.path),
        }
    }
    failed
}

/// Removes the directories above a file up to the first that is not empty.
fn remove_empty(root: &Path, file: &Path) {
    let above = file.ancestors().skip(1).take_while(|directory| *directory != root && directory.starts_with(root));
    for directory in above {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

fn look(root: &Path, directory: &Path, found: &mut Vec<Staged>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let seen = match entry.file_type() {
            Ok(kind) if kind.is_dir() => look(root, &entry.path(), found),
            Ok(kind) if kind.is_file() => staged_file(root, &entry).map(|file| found.extend(file)),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match seen {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            seen => seen?,
        }
    }
    Ok(())
}

fn staged_file(root: &Path, entry: &DirEntry) -> io::Result<Option<Staged>> {
    let path = entry.path();
    let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str).and_then(destination) else { return Ok(None) };
    let of = entry.metadata()?;
    let modified = DateTime::<Utc>::from(of.modified()?);
    Ok(Some(Staged { object: Object { key: key.to_owned(), bytes: of.len(), modified }, path }))
}

/// The key of the object that a file was to become.
fn destination(name: &str) -> Option<&str> {
    let (key, number) = name.rsplit_once('#')?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_were_to_become_objects_are_found_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("3/run/worker-0")).unwrap();
        for name in ["3/run/worker-0/CURRENT#1", "3/manifest.json#12", "3/manifest.json", "notes#", "notes#1a", "#7x"] {
            fs::write(root.join(name), name).unwrap();
        }
        let url = ObjectUrl::parse(&format!("file://{}", root.display())).unwrap().unwrap();
        let mut found = staged(&url).unwrap();
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let keys: Vec<&str> = found.iter().map(|file| file.object.key.as_str()).collect();
        assert_eq!(keys, ["3/manifest.json", "3/run/worker-0/CURRENT"]);
        assert_eq!(found[0].path, root.join("3/manifest.json#12"));
        assert_eq!(found[0].object.bytes, 18);
        remove(&url, &[found[1].clone(), found[1].clone()]).unwrap();
        assert!(!root.join("3/run").exists() && root.join("3/manifest.json").exists());
        assert_eq!(staged(&url).unwrap(), found[..1]);
        let elsewhere = ObjectUrl::parse("memory:///3").unwrap().unwrap();
        assert_eq!(staged(&elsewhere).unwrap(), []);
        fs::remove_dir_all(root).unwrap();
        assert!(staged(&url).unwrap_err().to_string().contains(&root.display().to_string()));
    }
}
