//! Results and side records in Kafka.
//!
//! The model: [`Delivery`] owns a producer of one topic and keeps every record until all of a flush are acknowledged by the
//! broker; [`KafkaResults`] and [`KafkaSide`] turn results and side records into its records. [`TransactionalResults`] keeps results
//! back until their checkpoint is published, and then delivers them in transactions.
//!
//! How it fails: a broker that is away is no failure. librdkafka keeps the records without a time limit and sends them in order
//! when the broker is back; meanwhile the flush waits, the trouble shows in [`super::SinkContext`], and back-pressure holds the
//! sources. The retry policy is for what a broker refuses (a record that is too large, a missing permission): then the refused
//! record and all after it are sent again, so that a key's last revision stays the last one, until the policy gives up. A
//! topic that does not exist, and that the broker does not make, is an error at the start.

mod config;
mod delivery;
mod results;
mod side;
mod topic;
mod transactional;

pub use config::producer_config;
pub(super) use results::KafkaResults;
pub(super) use side::KafkaSide;
pub use topic::TopicWriter;
pub(super) use transactional::TransactionalResults;

#[cfg(test)]
mod tests;
