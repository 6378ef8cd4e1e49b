//! Windows as the program uses them: kinds, lateness, triggers, definitions.

use super::model::AggregationConfig;
use crate::time::Span;
use crate::window::TimeZone;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

/// Which windows.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowConfig {
    /// The kind with its sizes.
    pub kind: WindowKind,
    /// How long after a window's end its state is kept for late events.
    pub allowed_lateness: Span,
    /// What becomes of late events.
    pub late_policy: LatePolicy,
    /// When windows emit before their end.
    pub trigger: TriggerConfig,
}

impl WindowConfig {
    /// Windows that take no late events and emit at their end alone.
    pub const fn of(kind: WindowKind) -> Self {
        Self { kind, allowed_lateness: Span::ZERO, late_policy: LatePolicy::Refine, trigger: TriggerConfig::NONE }
    }
}

/// When windows emit before their end; each that is given, in any combination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TriggerConfig {
    /// After so many events of a window and key.
    pub every_events: Option<NonZeroU64>,
    /// After so much time on the wall clock, where there are new events.
    pub every: Option<Duration>,
    /// When this share of partitions, 0 to 1, is past the window's end.
    pub complete: Option<f64>,
}

impl TriggerConfig {
    /// Windows emit at their end alone.
    pub const NONE: Self = TriggerConfig { every_events: None, every: None, complete: None };
}

/// One of the windows over a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowDefinition {
    /// What results call it; `None` where it is the only one.
    pub name: Option<Arc<str>>,
    /// The windows.
    pub windows: WindowConfig,
    /// What is computed.
    pub aggregation: AggregationConfig,
    /// The places in [`ProcessorConfig::sinks`] of the sinks that take its results; `None` is all.
    pub sinks: Option<Vec<usize>>,
}

/// A kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// Fixed, not overlapping.
    Tumbling {
        /// Length, positive.
        size: Span,
        /// How much later than at the multiples of the size windows begin.
        offset: Span,
        /// Whose clocks say when days and hours begin; `None` is UTC's, for any size.
        time_zone: Option<TimeZone>,
    },
    /// Fixed, overlapping.
    Sliding {
        /// Length, positive.
        size: Span,
        /// Distance of starts, positive. Where it is longer than the size, events between two windows are in none.
        slide: Span,
        /// How much later than at the multiples of the slide windows begin.
        offset: Span,
    },
    /// Activity with gaps.
    Session {
        /// Silence that ends a session, positive.
        gap: Span,
        /// How far from a session's first event its last must be less; `None` is any.
        max_length: Option<Span>,
    },
}

impl WindowKind {
    /// Tumbling windows of this size that begin at its multiples.
    pub const fn tumbling(size: Span) -> Self {
        WindowKind::Tumbling { size, offset: Span::ZERO, time_zone: None }
    }

    /// Sliding windows that begin at the multiples of the slide.
    pub const fn sliding(size: Span, slide: Span) -> Self {
        WindowKind::Sliding { size, slide, offset: Span::ZERO }
    }

    /// Sessions of any length.
    pub const fn session(gap: Span) -> Self {
        WindowKind::Session { gap, max_length: None }
    }
}

/// What becomes of late events: those behind their partition's watermark by no more than the allowed lateness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatePolicy {
    /// A window that has fired emits its result again, with the next revision.
    Refine,
    /// A window emits once, when it can no longer change: at its end plus the allowed lateness.
    FinalOnly,
    /// They are dropped to the late side output.
    Drop,
}
