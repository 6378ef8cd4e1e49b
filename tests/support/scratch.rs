//! Room for the files of many short runs.

use tempfile::TempDir;

/// A directory for a while: in memory where the system has a file system there, because runs wait until what they write is durable.
/// For files that fit into some megabytes.
pub fn scratch() -> TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    directory.expect("a temporary directory")
}
