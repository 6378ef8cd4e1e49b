//! Everything that needs a real Apache Kafka, in one binary, so that the tests share one broker: those that stop or stall a
//! broker start their own.

mod cluster_crashes;
mod commits;
mod crashes;
mod events;
mod failpoints;
mod idleness;
mod outages;
mod pipeline;
mod poison;
mod pressure;
mod program;
mod reader;
mod records;
mod recovery;
mod resume;
mod secured;
mod settings;
mod sink;
mod source;
mod stopping;
mod takeover;
mod transactions;
mod views;
mod windows;
mod workers;
