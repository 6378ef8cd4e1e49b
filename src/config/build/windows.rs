//! `windows` and `watermark`.

use super::millis;
use crate::config::model::{WatermarkConfig, WatermarkStrategy};
use crate::config::raw::{Node, Origin};
use crate::config::reader::{Reader, Setting};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use crate::config::{LatePolicy, TriggerConfig, WindowConfig, WindowKind};
use crate::time::Span;
use crate::window::{TimeZone, is_calendar_size};
use std::num::NonZeroU64;

/// How many partitions must be past a window's end for an early result of it, where nothing is said.
const HALF: f64 = 0.5;

/// A kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tumbling,
    Sliding,
    Session,
}

pub(super) const KINDS: [(&str, Kind); 3] =
    [("tumbling", Kind::Tumbling), ("sliding", Kind::Sliding), ("session", Kind::Session)];

const POLICIES: [(&str, LatePolicy); 3] =
    [("refine", LatePolicy::Refine), ("final_only", LatePolicy::FinalOnly), ("drop", LatePolicy::Drop)];

const STRATEGIES: [(&str, WatermarkStrategy); 2] =
    [("bounded_out_of_orderness", WatermarkStrategy::BoundedOutOfOrderness), ("periodic", WatermarkStrategy::Periodic)];

/// The windows where nothing is said of them.
pub(super) fn default() -> WindowConfig {
    WindowConfig::of(WindowKind::tumbling(Span::from_secs(300)))
}

/// Reads `windows` of one kind. Sections of kinds that are not in use are checked as well: they may be tomorrow.
pub(super) fn windows(reader: &mut Reader, section: &Section<'_>) -> WindowConfig {
    let kind = kind(reader, section);
    let late_policy = late_policy(reader, section, LatePolicy::Refine);
    let trigger = trigger(reader, section, TriggerConfig::NONE);
    let mut chosen = None;
    for (name, of_kind) in KINDS {
        let in_use = of_kind == kind;
        if in_use || section.node(name).is_some() {
            let section = reader.section(section, name);
            let window = window(reader, &section, of_kind);
            if in_use {
                check_policy(reader, &late_policy, &window.lateness);
                chosen = Some(configured(window, late_policy.value, trigger));
            }
        }
    }
    chosen.unwrap_or_else(default)
}

/// Reads the windows of a definition, whose keys are beside each other; what it does not say of policy and triggers is inherited.
pub(super) fn of_kind(
    reader: &mut Reader,
    section: &Section<'_>,
    kind: Kind,
    (policy, triggers): (LatePolicy, TriggerConfig),
) -> WindowConfig {
    let late_policy = late_policy(reader, section, policy);
    let window = window(reader, section, kind);
    check_policy(reader, &late_policy, &window.lateness);
    let trigger = trigger(reader, section, triggers);
    configured(window, late_policy.value, trigger)
}

/// Reads `trigger`; what it does not say is as in `inherited`.
pub(super) fn trigger(reader: &mut Reader, section: &Section<'_>, inherited: TriggerConfig) -> TriggerConfig {
    let section = reader.section(section, "trigger");
    let whole = |node: &Node| values::whole(node, 1..=u64::MAX);
    let every_events = inherited.every_events.map(NonZeroU64::get);
    let every_events = reader.optional(&section, "every_events", every_events, whole, u64::to_string);
    let every = inherited.every.map(|every| every.as_millis() as i64);
    let every = reader.optional_duration(&section, "every", Unit::Seconds, every);
    let early = reader.flag(&section, "early", inherited.complete.is_some());
    let default = inherited.complete.or(Some(HALF)).filter(|_| early.value);
    let share = |node: &Node| values::number(node, 0.0..=1.0);
    let complete = reader.optional(&section, "complete", default, share, f64::to_string);
    if early.sound && !early.value && complete.written() && complete.value.is_some() {
        let problem = Problem::new(
            format_args!("written, while {} is false", early.path),
            "write early: true too, or leave it out",
        );
        reader.error(&complete.origin, &complete.path, problem);
    }
    TriggerConfig {
        every_events: every_events.value.and_then(NonZeroU64::new),
        every: every.value.map(millis),
        complete: complete.value.filter(|_| early.value),
    }
}

/// Reads the policy for late events.
pub(super) fn late_policy(reader: &mut Reader, section: &Section<'_>, default: LatePolicy) -> Setting<LatePolicy> {
    reader.word(section, "late_policy", "policy for late events", default, &POLICIES)
}

fn configured(window: Window, late_policy: LatePolicy, trigger: TriggerConfig) -> WindowConfig {
    WindowConfig { kind: window.kind, allowed_lateness: span(&window.lateness), late_policy, trigger }
}

/// Late events that are dropped have no use for a lateness that is allowed.
fn check_policy(reader: &mut Reader, policy: &Setting<LatePolicy>, lateness: &Setting<i64>) {
    if policy.value == LatePolicy::Drop && lateness.sound && lateness.value > 0 {
        let found = format!("drop, while {} is {} s", lateness.path, values::in_unit(lateness.value, Unit::Seconds));
        let right = "write refine or final_only to accept late events, or leave the lateness out";
        reader.error(&policy.origin, &policy.path, Problem::new(found, right));
    }
}

/// The kind that is named; else the kind of the only section there is; else tumbling.
fn kind(reader: &mut Reader, section: &Section<'_>) -> Kind {
    let written: Vec<_> = KINDS.iter().filter(|(name, _)| section.node(name).is_some()).collect();
    if section.node("default_type").is_none()
        && !written.is_empty()
        && written.iter().all(|(_, kind)| *kind != Kind::Tumbling)
    {
        if let [(name, kind)] = written.as_slice() {
            let origin = section.node(name).map_or(Origin::Default, |node| node.origin.clone());
            reader.show(section, "default_type", (*name).to_owned(), &origin);
            return *kind;
        }
        let problem = Problem::new("absent, with the sections sliding and session", "write sliding or session");
        reader.error(&section.origin, &section.path_of("default_type"), problem);
    }
    reader.word(section, "default_type", "kind of window", Kind::Tumbling, &KINDS).value
}

/// What a section of one kind says.
struct Window {
    kind: WindowKind,
    lateness: Setting<i64>,
}

fn window(reader: &mut Reader, section: &Section<'_>, kind: Kind) -> Window {
    let kind = match kind {
        Kind::Tumbling => tumbling(reader, section),
        Kind::Sliding => sliding(reader, section),
        Kind::Session => {
            let gap = reader.duration(section, "gap", Unit::Seconds, 300_000, 1);
            let max_length = reader.optional_duration(section, "max_length", Unit::Seconds, None);
            WindowKind::Session { gap: span(&gap), max_length: max_length.value.map(Span::from_millis) }
        }
    };
    Window { kind, lateness: reader.duration(section, "allowed_lateness", Unit::Seconds, 0, 0) }
}

fn tumbling(reader: &mut Reader, section: &Section<'_>) -> WindowKind {
    let size = reader.duration(section, "size", Unit::Seconds, 300_000, 1);
    let offset = reader.duration(section, "offset", Unit::Seconds, 0, 0);
    let zone = reader.optional(section, "time_zone", None, time_zone, |zone: &TimeZone| zone.name().to_owned());
    if zone.value.is_some() && size.sound && !is_calendar_size(span(&size)) {
        let found = format!("{} s, with a time zone", values::in_unit(size.value, Unit::Seconds));
        let right = "expected whole days, or whole hours that divide a day: 1h, 2h, 3h, 4h, 6h, 8h, 12h, 24h, 48h, ...";
        reader.error(&size.origin, &size.path, Problem::new(found, right));
    }
    WindowKind::Tumbling { size: span(&size), offset: span(&offset), time_zone: zone.value }
}

/// A slide that is longer than the size leaves gaps. Who writes it wants them; who does not has not thought of the default.
fn sliding(reader: &mut Reader, section: &Section<'_>) -> WindowKind {
    let size = reader.duration(section, "size", Unit::Seconds, 600_000, 1);
    let slide = reader.duration(section, "slide", Unit::Seconds, 60_000, 1);
    let offset = reader.duration(section, "offset", Unit::Seconds, 0, 0);
    if size.sound && !slide.written() && slide.value > size.value {
        let found = format!(
            "{} s, with {} at {} s: events between two windows would be in none",
            values::in_unit(size.value, Unit::Seconds),
            slide.path,
            values::in_unit(slide.value, Unit::Seconds)
        );
        reader.error(&size.origin, &size.path, Problem::new(found, "write the slide too"));
    }
    WindowKind::Sliding { size: span(&size), slide: span(&slide), offset: span(&offset) }
}

fn time_zone(node: &Node) -> Result<TimeZone, Problem> {
    let name = values::text(node)?;
    name.parse().map_err(|_| {
        Problem::new(
            format_args!("{node} is no time zone"),
            "expected a name of the IANA database, such as Europe/Berlin, America/New_York or UTC",
        )
    })
}

/// Reads `watermark`.
pub(super) fn watermark(reader: &mut Reader, root: &Section<'_>) -> WatermarkConfig {
    let section = reader.section(root, "watermark");
    let default = WatermarkStrategy::BoundedOutOfOrderness;
    let strategy = reader.word(&section, "strategy", "watermark strategy", default, &STRATEGIES);
    let max_out_of_orderness = reader.duration(&section, "max_out_of_orderness", Unit::Seconds, 30_000, 0);
    let emit_interval = reader.optional_duration(&section, "emit_interval", Unit::Seconds, None);
    if strategy.value == WatermarkStrategy::Periodic && emit_interval.value.is_none() && emit_interval.sound {
        let problem = Problem::new(
            "periodic without watermark.emit_interval_secs",
            "write watermark.emit_interval_secs too, or bounded_out_of_orderness",
        );
        reader.error(&strategy.origin, &strategy.path, problem);
    }
    let max_future_skew = reader.duration(&section, "max_future_skew", Unit::Seconds, 3_600_000, 0);
    let idle_timeout = reader.optional_duration(&section, "idle_timeout", Unit::Seconds, Some(60_000));
    let close_idle_after = reader.optional_duration(&section, "close_idle_after", Unit::Seconds, None);
    if idle_timeout.sound && idle_timeout.value.is_none() && close_idle_after.value.is_some() {
        let problem = Problem::new(
            "set, while watermark.idle_timeout_secs is null: no partition ever becomes idle",
            "set watermark.idle_timeout_secs too, or leave this out",
        );
        reader.error(&close_idle_after.origin, &close_idle_after.path, problem);
    }
    WatermarkConfig {
        strategy: strategy.value,
        max_out_of_orderness: span(&max_out_of_orderness),
        emit_interval: emit_interval.value.map(millis),
        max_future_skew: span(&max_future_skew),
        idle_timeout: idle_timeout.value.map(millis),
        close_idle_after: close_idle_after.value.map(millis),
    }
}

fn span(setting: &Setting<i64>) -> Span {
    Span::from_millis(setting.value)
}
