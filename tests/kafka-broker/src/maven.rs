//! Jars of servers that tests run, as `scripts/maven-jars.sh` fetches them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The folder of the jars of a server, `kafka` or `s3`, fetched where they are missing.
///
/// # Panics
///
/// Where they cannot be had; the script says why.
pub fn jars(server: &str) -> PathBuf {
    let script = checkout().join("scripts/maven-jars.sh");
    let output = Command::new(&script).arg(server).stderr(Stdio::inherit()).output();
    let output = output.expect("scripts/maven-jars.sh can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let folder = said.lines().last().unwrap_or_default();
    let has_them = output.status.success() && !folder.is_empty();
    assert!(has_them, "no jars: scripts/maven-jars.sh {server} says above why");
    PathBuf::from(folder)
}

/// The checkout in which cargo runs this. Checkouts that share a target folder share this crate's code, so it cannot
/// know it from where it was compiled.
fn checkout() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs the tests and benches, and says where");
    let package = PathBuf::from(package);
    let root = package.ancestors().find(|folder| folder.join("scripts/maven-jars.sh").exists());
    root.unwrap_or_else(|| panic!("no scripts/maven-jars.sh in {} or above it", package.display())).to_owned()
}
