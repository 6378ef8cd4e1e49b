//! Checkpoints on disk: what is written comes back, and what is damaged is found and named.

mod damage;
mod disk_full;
mod sample;
mod snapshots;
mod store;
