//! Where a source was at the end of an epoch.

use crate::event::{Offset, PartitionName};
use crate::time::EventTime;
use crate::time::disorder::Disorder;

/// One partition at the end of an epoch: everything that the next record is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCut {
    /// Which.
    pub name: PartitionName,
    /// The first record of the next epoch.
    pub next: Offset,
    /// The latest event time seen; [`EventTime::MIN`] before the first event. With `max_out_of_orderness` it is the watermark.
    pub max_seen: EventTime,
    /// Read to its end, and silent.
    pub idle: bool,
    /// It was idle, and the frontier may be ahead of its watermark since.
    pub returned: bool,
    /// It has ended.
    pub closed: bool,
    /// Records taken, of any kind, since the job began.
    pub records: u64,
    /// How far its events were behind the latest ones before them.
    pub disorder: Disorder,
}
