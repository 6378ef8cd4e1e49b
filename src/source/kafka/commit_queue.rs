//! Committing offsets and learning what came of it. rdkafka's own asynchronous commit tells nobody the outcome unless a callback
//! is set before the client is made, so this speaks to librdkafka's C interface.
//!
//! How it fails: a commit that cannot be sent is an error at once; what the broker says comes as an answer.

use super::context::Client;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

/// Where the answers to commits arrive.
pub(super) struct CommitQueue {
    queue: *mut sys::rd_kafka_queue_t,
    // Last, so that it is dropped last: the queue must go before its client.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from every thread.
unsafe impl Send for CommitQueue {}

impl CommitQueue {
    pub(super) fn new(client: Arc<Client>) -> Self {
        // SAFETY: the client's pointer is valid while `client` is held. `rd_kafka_queue_new` never returns null.
        let queue = unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) };
        Self { queue, client }
    }

    /// Sends a commit without waiting for it. The error is a reason for people.
    pub(super) fn send(&self, offsets: &TopicPartitionList) -> Result<(), String> {
        // SAFETY: client, list and queue are valid while they are borrowed; the list is copied. With a queue the call does not
        // wait, and without a callback nothing of ours is kept.
        let error = unsafe {
            sys::rd_kafka_commit_queue(
                self.client.client().native_ptr(),
                offsets.ptr(),
                self.queue,
                None,
                ptr::null_mut(),
            )
        };
        text_of(error).map_or(Ok(()), Err)
    }

    /// The answer to a commit, if one has arrived.
    pub(super) fn answer(&self) -> Option<Result<(), String>> {
        // SAFETY: the queue is valid while `self` is borrowed; the event is ours and destroyed below, after its last use.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, 0);
            if event.is_null() {
                return None;
            }
            let whole = text_of(sys::rd_kafka_event_error(event));
            let failed = whole.or_else(|| first_failure(sys::rd_kafka_event_topic_partition_list(event)));
            sys::rd_kafka_event_destroy(event);
            Some(failed.map_or(Ok(()), Err))
        }
    }
}

impl Drop for CommitQueue {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and used for the last time.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) }
    }
}

/// A commit may succeed as a whole and fail for a partition.
///
/// # Safety
/// `list` is null or a valid list.
unsafe fn first_failure(list: *mut sys::rd_kafka_topic_partition_list_t) -> Option<String> {
    if list.is_null() {
        return None;
    }
    // SAFETY: the caller's promise; `cnt` elements follow `elems`.
    let elements = unsafe { (0..usize::try_from((*list).cnt).unwrap_or(0)).map(|index| (*list).elems.add(index)) };
    for element in elements {
        // SAFETY: the element is one of the list's, and its topic is a C string.
        unsafe {
            if let Some(reason) = text_of((*element).err) {
                let topic = CStr::from_ptr((*element).topic).to_string_lossy();
                return Some(format!("{topic}[{}]: {reason}", (*element).partition));
            }
        }
    }
    None
}

/// librdkafka's words for an error; `None` for none.
fn text_of(error: sys::rd_kafka_resp_err_t) -> Option<String> {
    let code = rdkafka::error::RDKafkaErrorCode::from(error);
    (code != rdkafka::error::RDKafkaErrorCode::NoError).then(|| code.to_string())
}
