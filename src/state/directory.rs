//! What a database's directory is made, copied and replaced with. Errors name the directory or the file.

use crate::error::{ProcessorError, ProcessorResult};
use std::fs::{self, File};
use std::io;
use std::path::Path;

fn refused<'p>(what: &'p str, path: &'p Path) -> impl FnOnce(io::Error) -> ProcessorError + 'p {
    move |error| ProcessorError::io(format!("cannot {what} {}", path.display()), error)
}

/// Makes a directory and those above it; nothing happens where it is there.
pub(crate) fn create_directory(path: &Path) -> ProcessorResult<()> {
    fs::create_dir_all(path).map_err(refused("make the directory", path))
}

/// Removes a directory with all that is in it; nothing happens where it is not there.
pub(crate) fn remove_directory(path: &Path) -> ProcessorResult<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused("remove the directory", path)(error)),
        _ => Ok(()),
    }
}

/// Gives a directory another name.
pub(crate) fn rename_directory(from: &Path, to: &Path) -> ProcessorResult<()> {
    fs::rename(from, to)
        .map_err(|error| ProcessorError::io(format!("cannot rename {} to {}", from.display(), to.display()), error))
}

/// Makes the names in a directory, and the contents of the files there, survive the machine's crash.
pub(crate) fn sync_directory(path: &Path) -> ProcessorResult<()> {
    for entry in fs::read_dir(path).map_err(refused("list", path))? {
        let entry = entry.map_err(refused("list", path))?;
        let file = entry.path();
        if entry.file_type().map_err(refused("look at", &file))?.is_file() {
            File::open(&file).and_then(|open| open.sync_all()).map_err(refused("sync", &file))?;
        }
    }
    sync_names(path)
}

/// Makes the names in a directory survive the machine's crash.
pub(crate) fn sync_names(path: &Path) -> ProcessorResult<()> {
    File::open(path).and_then(|open| open.sync_all()).map_err(refused("sync", path))
}

/// Makes the directory `to` with the files of `from`. Files that RocksDB never changes are linked where the file system can do
/// that; the others are copied, so that `from` stays as it is.
pub(crate) fn clone_directory(from: &Path, to: &Path) -> ProcessorResult<()> {
    create_directory(to)?;
    for entry in fs::read_dir(from).map_err(refused("list", from))? {
        let source = entry.map_err(refused("list", from))?.path();
        let Some(name) = source.file_name().filter(|_| source.is_file()) else { continue };
        let target = to.join(name);
        let immutable = source.extension().is_some_and(|extension| extension == "sst" || extension == "blob");
        if !(immutable && fs::hard_link(&source, &target).is_ok()) {
            fs::copy(&source, &target).map_err(refused("copy", &source))?;
        }
    }
    Ok(())
}
