//! Rules of the protocol that the simulation can break, to show that it would notice.

/// One rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The markers are read before the shards are fenced, and not after.
    FenceAfterReading,
    /// Nobody looks whether other starts have written first markers.
    NoLookAround,
    /// A process that has recovered does not wait for the others.
    NoBarrier,
    /// The markers are read up to the first open transaction.
    ReadToStable,
    /// Markers do not keep chunks from being sent again.
    IgnoreMarkers,
    /// A chunk's number is taken for that of a chunk of any other checkpoint of the epoch.
    IgnoreFingerprints,
    /// It does not matter who published the restored checkpoint.
    IgnorePublisher,
    /// A transaction in doubt counts as aborted.
    AssumeAborted,
    /// A producer whose commit was asked for twice goes on.
    TrustLateCommit,
    /// Results are sent when they are prepared.
    DeliverBeforePublished,
    /// A checkpoint is published when one worker has reported.
    PublishEarly,
    /// Snapshots of two starts have the same place.
    SharedPlaces,
}

impl Broken {
    pub const ALL: [Broken; 12] = [
        Broken::FenceAfterReading,
        Broken::NoLookAround,
        Broken::NoBarrier,
        Broken::ReadToStable,
        Broken::IgnoreMarkers,
        Broken::IgnoreFingerprints,
        Broken::IgnorePublisher,
        Broken::AssumeAborted,
        Broken::TrustLateCommit,
        Broken::DeliverBeforePublished,
        Broken::PublishEarly,
        Broken::SharedPlaces,
    ];
}
