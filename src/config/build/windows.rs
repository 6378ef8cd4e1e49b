//! `windows` and `watermark`.

use super::millis;
use crate::config::model::{WatermarkConfig, WatermarkStrategy, WindowConfig, WindowKind};
use crate::config::raw::Origin;
use crate::config::reader::{Reader, Setting};
use crate::config::section::Section;
use crate::config::values::{self, Problem, Unit};
use crate::time::Span;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tumbling,
    Sliding,
    Session,
}

const KINDS: [(&str, Kind); 3] = [("tumbling", Kind::Tumbling), ("sliding", Kind::Sliding), ("session", Kind::Session)];

const STRATEGIES: [(&str, WatermarkStrategy); 2] =
    [("bounded_out_of_orderness", WatermarkStrategy::BoundedOutOfOrderness), ("periodic", WatermarkStrategy::Periodic)];

/// Reads `windows`. Sections of kinds that are not in use are checked as well: they may be tomorrow.
pub(super) fn windows(reader: &mut Reader, root: &Section<'_>) -> WindowConfig {
    let section = reader.section(root, "windows");
    let kind = kind(reader, &section);
    let mut chosen = None;
    for (name, of_kind) in KINDS {
        let in_use = of_kind == kind;
        if in_use || section.node(name).is_some() {
            let window = window(reader, &section, name, of_kind);
            if in_use {
                chosen = Some(window);
            }
        }
    }
    chosen.unwrap_or(WindowConfig {
        kind: WindowKind::Tumbling { size: Span::from_secs(300) },
        allowed_lateness: Span::ZERO,
    })
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

fn window(reader: &mut Reader, parent: &Section<'_>, name: &str, kind: Kind) -> WindowConfig {
    let section = reader.section(parent, name);
    let kind = match kind {
        Kind::Tumbling => {
            let size = reader.duration(&section, "size", Unit::Seconds, 300_000, 1);
            WindowKind::Tumbling { size: span(&size) }
        }
        Kind::Sliding => sliding(reader, &section),
        Kind::Session => {
            let gap = reader.duration(&section, "gap", Unit::Seconds, 300_000, 1);
            WindowKind::Session { gap: span(&gap) }
        }
    };
    let allowed_lateness = reader.duration(&section, "allowed_lateness", Unit::Seconds, 0, 0);
    WindowConfig { kind, allowed_lateness: span(&allowed_lateness) }
}

fn sliding(reader: &mut Reader, section: &Section<'_>) -> WindowKind {
    let size = reader.duration(section, "size", Unit::Seconds, 600_000, 1);
    let slide = reader.duration(section, "slide", Unit::Seconds, 60_000, 1);
    if size.sound && slide.sound && slide.value > size.value {
        let (at, other) = if slide.written() { (&slide, &size) } else { (&size, &slide) };
        let found = format!(
            "{} s, with {} at {} s: events between two windows would be in none",
            values::in_unit(at.value, Unit::Seconds),
            other.path,
            values::in_unit(other.value, Unit::Seconds)
        );
        reader.error(&at.origin, &at.path, Problem::new(found, "expected a slide of at most the size"));
    }
    WindowKind::Sliding { size: span(&size), slide: span(&slide) }
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
