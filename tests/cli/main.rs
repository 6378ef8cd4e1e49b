//! The program as its users meet it: the real binary, its arguments, files, pipes, signals, pages and terminals.

#[path = "../support/checkout.rs"]
mod checkout;
mod checkpoints;
mod cluster;
mod cluster_checkpoints;
mod cluster_hostfile;
mod cluster_memory;
mod cluster_network;
mod deploy;
mod disk_full;
mod exit_codes;
mod generate;
mod interrupted;
mod late_report;
mod launch;
mod memory;
mod object_store;
mod own_directories;
mod pages;
mod panics;
mod program;
mod readme;
mod recovery;
mod runs;
mod s3;
#[path = "../support/checkpoints.rs"]
mod sample;
mod stopping;
mod terminal;
mod validate;
mod views;
mod views_fixture;
