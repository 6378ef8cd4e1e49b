//! What the protocol is tried with, and rules of it that can be broken, to show that the simulation would notice.

/// How starts get their generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generations {
    /// Each has one that is higher than that of all before it. Then starts from copies of the checkpoints do no harm.
    Starts,
    /// One more than that of the checkpoint that it goes on from. Nobody starts from a copy.
    Checkpoints,
    /// The same, with starts from copies, of one process each.
    CheckpointsAlone,
}

impl Generations {
    pub const ALL: [Generations; 3] = [Generations::Starts, Generations::Checkpoints, Generations::CheckpointsAlone];
}

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
    /// It matters neither who published the restored checkpoint nor what its shards had delivered then.
    IgnoreHistory,
    /// A transaction in doubt counts as aborted.
    AssumeAborted,
    /// A producer whose commit was asked for twice goes on.
    TrustLateCommit,
    /// Results are sent when they are prepared.
    DeliverBeforePublished,
    /// A checkpoint is published when one worker has reported.
    PublishEarly,
    /// A checkpoint is published when the first process alone has prepared its part.
    CommitUnprepared,
    /// Snapshots of two starts have the same place.
    SharedPlaces,
    /// Starts from copies get their generations from their checkpoints.
    SharedGenerations,
}

impl Broken {
    pub const ALL: [Broken; 14] = [
        Broken::FenceAfterReading,
        Broken::NoLookAround,
        Broken::NoBarrier,
        Broken::ReadToStable,
        Broken::IgnoreMarkers,
        Broken::IgnoreFingerprints,
        Broken::IgnoreHistory,
        Broken::AssumeAborted,
        Broken::TrustLateCommit,
        Broken::DeliverBeforePublished,
        Broken::PublishEarly,
        Broken::CommitUnprepared,
        Broken::SharedPlaces,
        Broken::SharedGenerations,
    ];
}
