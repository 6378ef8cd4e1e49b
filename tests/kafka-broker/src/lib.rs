//! A real Apache Kafka for tests and benches: one KRaft node on loopback, started from the jars that
//! `scripts/maven-jars.sh` fetches.
//!
//! The model: a [`Broker`] is one Java process with ports and a data folder of its own, which it keeps when it is stopped and
//! started again. It is ended by its process id when it is dropped, and by the kernel when the test process ends in whatever
//! way, because the shared one is never dropped. Ports lie below the range from which the kernel takes ports for outgoing
//! connections: a client that tries to reach a stopped broker could otherwise connect to itself.
//!
//! How it fails: with a panic that says what to install, or shows the end of the broker's log.
#![warn(missing_docs)]

mod broker;
mod install;
mod maven;
pub mod process;
mod records;

pub use broker::{Broker, Security, fresh};
pub use maven::jars;
pub use records::{ReadRecord, TestRecord};
