//! Reading records in batches, without an allocation per record: the one place of the reader that speaks to librdkafka's C
//! interface.
//!
//! The model: the partitions' own queues are forwarded to one [`FetchQueue`], which the worker drains with
//! [`BatchReader::fetch`]. librdkafka's other events (log lines, errors, commits) stay on the consumer's queue, which the helper
//! thread serves through rdkafka's safe interface. A [`Batch`] lends its records and destroys them; payload, key and headers
//! are slices of librdkafka's memory.
//!
//! How it fails: a partition's queue that librdkafka does not give is an error; nothing else here can fail.

use super::context::Client;
use crate::error::{ProcessorError, ProcessorResult};
use crate::source::RecordOrigin;
use rdkafka::bindings as sys;
use rdkafka::consumer::Consumer;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

/// Called when records arrive in an empty queue. It runs on librdkafka's thread with a lock held: it must be quick, and must
/// not call the reader.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The queue in which all partitions of one worker meet.
pub(super) struct FetchQueue {
    queue: *mut sys::rd_kafka_queue_t,
    // Boxed so that it has an address for as long as librdkafka knows it.
    _waker: Box<Waker>,
    // Last, so that it is dropped last: the queue must go before its client.
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from every thread at the same time; the waker is only called, and is Send and Sync.
unsafe impl Send for FetchQueue {}
// SAFETY: as above; nothing behind a shared reference is written without librdkafka's own locks.
unsafe impl Sync for FetchQueue {}

unsafe extern "C" fn wake(_client: *mut sys::rd_kafka_t, waker: *mut c_void) {
    // SAFETY: `waker` is the address of the `Waker` in `FetchQueue::_waker`, which lives until after the callback is disabled.
    let waker = unsafe { &*waker.cast::<Waker>() };
    // A panic must not unwind into C. A waker that panics wakes nobody, which its owner's time-outs make good.
    let _ = catch_unwind(AssertUnwindSafe(|| waker()));
}

impl FetchQueue {
    /// An empty queue that calls `waker` each time it becomes non-empty.
    pub(super) fn new(client: Arc<Client>, waker: Waker) -> Self {
        let waker = Box::new(waker);
        // SAFETY: the client's pointer is valid while `client` is held. `rd_kafka_queue_new` never returns null (it aborts when
        // out of memory).
        let queue = unsafe { sys::rd_kafka_queue_new(client.client().native_ptr()) };
        // SAFETY: `queue` was just made; the opaque pointer stays valid until `drop` disables the callback.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(queue, Some(wake), ptr::from_ref::<Waker>(&waker).cast_mut().cast());
        }
        Self { queue, _waker: waker, client }
    }

    /// Leads the records of a partition here. To be called before the partition is assigned.
    pub(super) fn forward(&self, topic: &str, partition: i32) -> ProcessorResult<()> {
        let name = topic_name(topic)?;
        // SAFETY: the client's pointer is valid while `self.client` is held, the name is a C string that outlives the call.
        let source =
            unsafe { sys::rd_kafka_queue_get_partition(self.client.client().native_ptr(), name.as_ptr(), partition) };
        if source.is_null() {
            return Err(ProcessorError::Kafka(format!("{topic}[{partition}]: librdkafka has no queue for it")));
        }
        // SAFETY: both queues are valid; the reference that `get_partition` gave is given back once, after its last use.
        unsafe {
            sys::rd_kafka_queue_forward(source, self.queue);
            sys::rd_kafka_queue_destroy(source);
        }
        Ok(())
    }

    /// The end of a partition as of its last fetch: one after its newest record. No network.
    pub(super) fn known_end(&self, topic: &TopicHandle, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the client's pointer is valid while `self.client` is held; name and both results outlive the call.
        let error = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.client.client().native_ptr(),
                topic.name.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for FetchQueue {
    fn drop(&mut self) {
        // SAFETY: `queue` is ours and used for the last time. The callback runs under the queue's lock, which disabling takes
        // too: when it returns no call is under way, and none will come, so the waker may go.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

fn topic_name(topic: &str) -> ProcessorResult<CString> {
    CString::new(topic).map_err(|_| {
        ProcessorError::Config(format!("the topic name {topic:?} has a zero byte in it; Kafka allows none"))
    })
}

/// Keeps a topic's identity in this client alive, so that records can be told by an address instead of a name.
pub(super) struct TopicHandle {
    handle: *mut sys::rd_kafka_topic_t,
    name: CString,
    // Last, so that it is dropped last: the handle must go before its client.
    _client: Arc<Client>,
}

impl TopicHandle {
    /// Of a topic, whether or not it exists.
    pub(super) fn new(client: Arc<Client>, topic: &str) -> ProcessorResult<Self> {
        let name = topic_name(topic)?;
        // SAFETY: the client's pointer is valid while `client` is held; the name outlives the call; no configuration is passed.
        let handle = unsafe { sys::rd_kafka_topic_new(client.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        if handle.is_null() {
            return Err(ProcessorError::Kafka(format!("librdkafka refuses the topic name {topic:?}")));
        }
        Ok(Self { handle, name, _client: client })
    }

    /// Its identity; equal to [`Record::topic`] of the topic's records.
    pub(super) fn id(&self) -> TopicId {
        TopicId(self.handle)
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, from `rd_kafka_topic_new`, and given back once, before the client.
        unsafe { sys::rd_kafka_topic_destroy(self.handle) }
    }
}

/// Which topic a record is of. Compared, never followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TopicId(*mut sys::rd_kafka_topic_t);

/// Drains a [`FetchQueue`] into an array that is used again and again.
pub(super) struct BatchReader {
    messages: Box<[*mut sys::rd_kafka_message_t]>,
    queue: Arc<FetchQueue>,
}

impl BatchReader {
    /// A reader of at most `capacity` records at a time.
    pub(super) fn new(queue: Arc<FetchQueue>, capacity: usize) -> Self {
        Self { messages: vec![ptr::null_mut(); capacity].into_boxed_slice(), queue }
    }

    /// Takes what has arrived, at most `max` records, without waiting.
    pub(super) fn fetch(&mut self, max: usize) -> Batch<'_> {
        let max = max.min(self.messages.len());
        // SAFETY: the queue is valid while `self.queue` is held; the array has room for `max` pointers. Each pointer that is
        // written is a message that is ours to destroy, which `Batch` does exactly once.
        let count = unsafe { sys::rd_kafka_consume_batch_queue(self.queue.queue, 0, self.messages.as_mut_ptr(), max) };
        // -1 is said where the queue is no consumer's, which a queue of a consumer's client never is.
        let count = usize::try_from(count).unwrap_or(0);
        Batch { messages: &self.messages[..count], lent: 0, destroyed: 0 }
    }
}

/// Records that were taken, in order. What is not read is destroyed with it.
pub(super) struct Batch<'a> {
    messages: &'a [*mut sys::rd_kafka_message_t],
    /// How many were lent.
    lent: usize,
    /// How many were destroyed; all of them before the one that is lent now.
    destroyed: usize,
}

impl Batch<'_> {
    /// How many records and events were taken.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The next record or event. The one before is destroyed.
    pub(super) fn advance(&mut self) -> Option<Record<'_>> {
        self.destroy_up_to(self.lent);
        let message = *self.messages.get(self.lent)?;
        self.lent += 1;
        Some(Record { message, _batch: std::marker::PhantomData })
    }

    fn destroy_up_to(&mut self, end: usize) {
        while self.destroyed < end {
            let message = self.messages[self.destroyed];
            self.destroyed += 1;
            // SAFETY: the message is valid, and `destroyed` only grows, so this is the one time. Nobody borrows it: a record
            // borrows the batch mutably, and this is called with the batch in hand.
            unsafe { sys::rd_kafka_message_destroy(message) }
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.destroy_up_to(self.messages.len());
    }
}

/// A record, or an event about a partition. It lives as long as it is the batch's current one.
pub(super) struct Record<'b> {
    message: *mut sys::rd_kafka_message_t,
    _batch: std::marker::PhantomData<&'b ()>,
}

/// What librdkafka has put into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// A record.
    Data,
    /// The end of the partition was reached; the offset is that of the next record.
    End,
    /// Reading the partition met an error.
    Error,
}

impl<'b> Record<'b> {
    /// What it is.
    #[inline]
    pub(super) fn kind(&self) -> RecordKind {
        const NONE: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as i32;
        const END: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32;
        match self.code() {
            NONE => RecordKind::Data,
            END => RecordKind::End,
            _ => RecordKind::Error,
        }
    }

    #[inline]
    fn code(&self) -> i32 {
        // SAFETY: the message is valid while the batch lends it. The field is read as the integer that it is in C, because a
        // broker may send codes that the Rust enumeration does not list.
        unsafe { ptr::addr_of!((*self.message).err).cast::<i32>().read() }
    }

    /// Its topic.
    #[inline]
    pub(super) fn topic(&self) -> TopicId {
        // SAFETY: the message is valid while the batch lends it.
        TopicId(unsafe { ptr::addr_of!((*self.message).rkt).read() })
    }

    /// Its partition's number.
    #[inline]
    pub(super) fn partition(&self) -> i32 {
        // SAFETY: the message is valid while the batch lends it.
        unsafe { ptr::addr_of!((*self.message).partition).read() }
    }

    /// Its offset.
    #[inline]
    pub(super) fn offset(&self) -> i64 {
        // SAFETY: the message is valid while the batch lends it.
        unsafe { ptr::addr_of!((*self.message).offset).read() }
    }

    /// Its value; `None` for a tombstone.
    #[inline]
    pub(super) fn payload(&self) -> Option<&'b [u8]> {
        // SAFETY: payload and len of a valid message describe memory that it keeps until it is destroyed, and `'b` ends before.
        unsafe {
            let (data, len) =
                (ptr::addr_of!((*self.message).payload).read(), ptr::addr_of!((*self.message).len).read());
            bytes(data, len)
        }
    }

    fn key_bytes(&self) -> Option<&'b [u8]> {
        // SAFETY: as for the payload.
        unsafe {
            let (data, len) =
                (ptr::addr_of!((*self.message).key).read(), ptr::addr_of!((*self.message).key_len).read());
            bytes(data, len)
        }
    }

    /// Whether the error stands for records that are passed over: their checksum is wrong, or they cannot be unpacked.
    pub(super) fn is_skipped_batch(&self) -> bool {
        const BAD: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__BAD_MSG as i32;
        const UNKNOWN_CODEC: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED as i32;
        const CODEC_FAILED: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__BAD_COMPRESSION as i32;
        matches!(self.code(), BAD | UNKNOWN_CODEC | CODEC_FAILED)
    }

    /// The reason, of an error.
    pub(super) fn error_text(&self) -> String {
        // SAFETY: the message is valid while the batch lends it; librdkafka answers with a C string that lives as long as the
        // message, or with null where there is no text.
        unsafe {
            let text = sys::rd_kafka_message_errstr(self.message);
            if text.is_null() {
                String::from("no reason given")
            } else {
                CStr::from_ptr(text).to_string_lossy().into_owned()
            }
        }
    }

    fn for_each_header(&self, mut take: impl FnMut(String, Option<Vec<u8>>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid while the batch lends it. Where the answer is no error, `headers` belongs to the message
        // and lives as long as it.
        let error = unsafe { sys::rd_kafka_message_headers(self.message, &mut headers) };
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        for index in 0.. {
            let (mut name, mut value, mut len): (*const c_char, *const c_void, usize) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `headers` is valid (above); the three results outlive the call.
            let error = unsafe { sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut len) };
            if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            // SAFETY: where the answer is no error the name is a C string, and value and len describe memory (or value is
            // null), all of them the message's.
            let (name, value) = unsafe { (CStr::from_ptr(name).to_string_lossy().into_owned(), bytes(value, len)) };
            take(name, value.map(<[u8]>::to_vec));
        }
    }
}

/// # Safety
/// `data` is null, or `len` bytes from it can be read for `'b`.
unsafe fn bytes<'b>(data: *const c_void, len: usize) -> Option<&'b [u8]> {
    // SAFETY: the caller's promise.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

impl RecordOrigin for Record<'_> {
    fn key(&self) -> Option<Vec<u8>> {
        self.key_bytes().map(<[u8]>::to_vec)
    }

    fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut headers = Vec::new();
        self.for_each_header(|name, value| headers.push((name, value)));
        headers
    }
}

/// The metadata that stands beside a committed offset. rdkafka's own way to it panics where it is not UTF-8, and other programs
/// may have written it.
pub(super) fn metadata_of(list: &rdkafka::TopicPartitionList, topic: &str, partition: i32) -> Option<Vec<u8>> {
    let name = CString::new(topic).ok()?;
    // SAFETY: the list is valid while it is borrowed, and so is the element that is found; its metadata is null or
    // `metadata_size` bytes of the list's.
    unsafe {
        let element = sys::rd_kafka_topic_partition_list_find(list.ptr(), name.as_ptr(), partition);
        if element.is_null() {
            return None;
        }
        let (data, len) = (ptr::addr_of!((*element).metadata).read(), ptr::addr_of!((*element).metadata_size).read());
        bytes(data, len).map(<[u8]>::to_vec)
    }
}
