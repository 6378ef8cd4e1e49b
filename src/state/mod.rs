//! Where programs that use the library keep state: a key-value store with namespaces and checkpoints.
//!
//! The model: a [`StateBackend`] maps a namespace and a key (bytes) to a value (bytes). Keys are ordered as bytes, so that a scan
//! of a prefix gives them in order. A checkpoint is a copy of all namespaces at one moment, known by its [`CheckpointId`];
//! restoring it brings back exactly that copy. [`MemoryStateBackend`] lives as long as the process, [`RocksDBStateBackend`] on
//! disk. A [`WindowStateManager`] keeps one accumulator a window in one namespace of a backend.
//!
//! # Keys
//! A backend that has one space of keys for everything, as both of this library have, stores
//!
//! | part | bytes |
//! |---|---|
//! | namespace | its UTF-8 text, without NUL |
//! | separator | one byte 0 |
//! | key | as given |
//!
//! so that namespaces are apart and in the order of their names. The key of a window is
//!
//! | part | bytes |
//! |---|---|
//! | start | seconds since 1970 as 8 bytes, big-endian, the sign bit flipped; then nanoseconds as 4 bytes, big-endian |
//! | end | the same |
//! | group | nothing where the window has no key; else one byte 1 and the key's canonical JSON text |
//!
//! so that windows are in the order of their starts, then their ends, then the texts of their keys.
//!
//! # How it fails
//! Everything that goes wrong is a [`ProcessorError::State`](crate::ProcessorError::State) (or `Io`) that names the namespace,
//! the checkpoint or the directory. A value that cannot be read back names its window. Nothing here blocks an asynchronous
//! runtime: what waits for the disk runs on threads for blocking work.

mod backend;
pub(crate) mod directory;
mod key;
mod manager;
mod memory;
mod rocksdb;

pub use backend::{CheckpointId, Entry, PipelineDirectories, StateBackend, StateChange};
pub use manager::WindowStateManager;
pub use memory::MemoryStateBackend;
pub use rocksdb::RocksDBStateBackend;
