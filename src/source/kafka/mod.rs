//! Reading Kafka topics.
//!
//! # Model
//!
//! Each worker has a client of its own and reads the partitions that fall to it by number (partition modulo workers); no group
//! is joined and nothing is rebalanced. All its partitions' records meet in one queue of librdkafka's, which
//! [`KafkaSource`] drains in batches: a record's payload goes to the [`Intake`](crate::source::Intake) as a slice of
//! librdkafka's memory. When the queue was empty and a record arrives a waker is called, so a worker with nothing to do sleeps
//! and yet begins within a fraction of a millisecond. Everything that may wait for a broker (finding topics and partitions,
//! committed offsets, commits) is done by a helper thread, one a worker.
//!
//! Reading begins at the offset that the group has committed, else where `auto_offset_reset` says. A partition that appears
//! while running is read from its beginning. What [`Settled`](crate::source::Settled) says is committed, about once a second
//! and at the end: the offset of the first record that is still needed and, as the commit's metadata, the time before which all
//! windows were complete and written. At the next start the latest such time of all partitions is given to the intake. Records
//! after a committed offset may belong to windows that were complete (another partition's records were still needed, or they
//! came mixed): reading them again must not open those windows again.
//! To read everything again use another `group_id`, or reset the group's offsets with Kafka's tools, which drops the metadata.
//!
//! A job that goes on from a checkpoint begins at its cuts instead, whatever the group has committed; a partition that the
//! checkpoint does not know was added meanwhile and is read from its beginning. What a checkpoint has cut is committed when it is
//! published, for programs that show lag. Such an offset is marked: a run that does not restore the checkpoint begins where
//! `auto_offset_reset` says, since windows that were open at the cut would lack the events before it. A partition that was idle
//! at the cut is idle still only if a broker says that nothing has come since.
//!
//! A partition is idle only on evidence: it was read to its end, was silent for `idle_timeout`, and after that a broker said
//! that the end is still the same. While it is idle a broker has to say so again and again; see `idleness.rs`.
//!
//! What librdkafka reads ahead is bounded by `buffer_size`; see `client_config.rs`.
//!
//! # How it fails
//!
//! - Brokers that do not answer, at start or later, are tried again for as long as it takes: logged as a warning, shown in the
//!   status, and no error. The position is kept, so nothing is lost and nothing comes twice in a run. Refused authentication
//!   and failed TLS count as this too, with their reason, since credentials may be put right meanwhile.
//! - A topic that does not exist when the job starts, or a topic or group that the user may not read, is the error of the run;
//!   with `wait_for_topics` a missing topic is waited for.
//! - A committed offset that is not there (deleted by retention; the topic was made anew) is a warning with the range that is,
//!   and `auto_offset_reset` decides. The same while running, where librdkafka does it.
//! - A cut whose record is not there any more, or a partition that is gone, is refused with the range that is there; with
//!   `--accept-loss` reading goes on at what is nearest, see [`Resume`](crate::source::Resume).
//! - A batch whose checksum is wrong ends the run: going on would leave its records out of the results without a trace.
//! - A commit that fails is a warning and is tried again; the last one, at the end, for five seconds.
//! - A panic of the helper thread ends the run with its reason.

mod assignment;
mod batch;
mod brokers;
mod client_config;
mod commit_metadata;
mod commit_queue;
mod commits;
mod context;
mod helper;
mod idleness;
mod observer;
mod partitions;
mod reach;
mod reader;
mod receiver;

pub use batch::Waker;
pub use client_config::consumer_config;
pub use observer::{NoObserver, SourceObserver};
pub use reader::{KafkaSource, KafkaSourceOptions};
pub use receiver::RecordReceiver;
