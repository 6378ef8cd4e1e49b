//! Checkpoints on disk: what is written comes back, and what is damaged is found and named.

#[path = "../support/checkout.rs"]
mod checkout;
mod contents;
mod damage;
mod disk_full;
mod fixture;
#[path = "../support/checkpoints.rs"]
mod sample;
mod snapshots;
mod store;
