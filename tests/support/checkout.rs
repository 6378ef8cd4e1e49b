//! Where the checkout is.

use std::path::PathBuf;
use std::sync::LazyLock;

/// The checkout's root, read when the tests run and not when they are
/// compiled: checkouts may share a target folder, and then a test that was
/// compiled for another checkout would look for its files there. Cargo sets
/// the variable for every test that it runs; a test started by hand runs with
/// the checkout as its working directory.
pub static ROOT: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os("CARGO_MANIFEST_DIR") {
    Some(root) => PathBuf::from(root),
    None => std::env::current_dir().expect("a working directory"),
});
