//! Checkpoints on disk: what is written comes back, and what is damaged is found and named.

mod contents;
mod damage;
mod disk_full;
#[path = "../support/checkpoints.rs"]
mod sample;
mod snapshots;
mod store;
