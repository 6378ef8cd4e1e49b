//! `aggregation`: what is computed.

use crate::config::model::{AggregateKind, AggregationConfig};
use crate::config::raw::Node;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::values::{self, Problem};

/// Names that people try, and what they mean.
const OTHER_NAMES: [(&str, &str); 8] = [
    ("avg", "average"),
    ("mean", "average"),
    ("std", "stddev"),
    ("stdev", "stddev"),
    ("minimum", "min"),
    ("maximum", "max"),
    ("total", "sum"),
    ("quantile", "percentile"),
];

/// What is computed where nothing is said.
pub(super) fn defaults() -> AggregationConfig {
    AggregationConfig {
        enabled: AggregateKind::ALL.to_vec(),
        percentiles: vec![50.0, 95.0, 99.0],
        relative_error: 0.01,
    }
}

/// Reads the section `aggregation` in `parent`; what it does not say is as in `inherited`.
pub(super) fn build(reader: &mut Reader, parent: &Section<'_>, inherited: &AggregationConfig) -> AggregationConfig {
    let section = reader.section(parent, "aggregation");
    let all = inherited.enabled.clone();
    let enabled = reader.list(&section, "enabled", all, true, aggregate, |kind| kind.as_str().to_owned());
    if enabled.sound && enabled.value.is_empty() {
        reader.error(&enabled.origin, &enabled.path, Problem::expected("an empty list", all_names()));
    }
    let wanted = enabled.value.contains(&AggregateKind::Percentile) || !enabled.sound;
    let default = match inherited.percentiles.is_empty() {
        _ if !wanted => Vec::new(),
        true => defaults().percentiles,
        false => inherited.percentiles.clone(),
    };
    let percentiles = reader.list(&section, "percentiles", default, true, percentile, f64::to_string);
    if percentiles.sound && !wanted && !percentiles.value.is_empty() {
        let found = "a list, while aggregation.enabled has no percentile";
        let right = "enable percentile too, or leave the list out";
        reader.error(&percentiles.origin, &percentiles.path, Problem::new(found, right));
    } else if percentiles.sound && wanted && percentiles.value.is_empty() {
        let right = "percentiles such as [50, 95, 99], or aggregation.enabled without percentile";
        reader.error(&percentiles.origin, &percentiles.path, Problem::expected("an empty list", right));
    }
    let error = |node: &Node| values::number(node, 0.001..=0.1);
    let relative_error = reader.setting(&section, "relative_error", inherited.relative_error, error, f64::to_string);
    let mut percentiles = percentiles.value;
    percentiles.sort_by(f64::total_cmp);
    AggregationConfig { enabled: enabled.value, percentiles, relative_error: relative_error.value }
}

fn all_names() -> String {
    values::one_of(AggregateKind::ALL.iter().map(|kind| kind.as_str()))
}

fn aggregate(node: &Node) -> Result<AggregateKind, Problem> {
    let text = node.scalar().unwrap_or_default();
    if let Some((_, name)) = OTHER_NAMES.iter().find(|(other, _)| other.eq_ignore_ascii_case(text)) {
        return Err(Problem::new(
            format_args!("{node} is no aggregate"),
            format_args!("did you mean {name:?}? Expected {}", all_names()),
        ));
    }
    if text.strip_prefix('p').is_some_and(|number| number.parse::<f64>().is_ok()) {
        let right = format!("write percentile here, and {} in aggregation.percentiles", &text[1..]);
        return Err(Problem::new(format_args!("{node} is no aggregate"), right));
    }
    values::word(node, "aggregate", &AggregateKind::ALL.map(|kind| (kind.as_str(), kind)))
}

/// `99.9`, `"99.9"` or `p99.9`.
fn percentile(node: &Node) -> Result<f64, Problem> {
    let text = node.scalar().unwrap_or_default();
    let digits = text.strip_prefix('p').unwrap_or(text);
    let number = digits.starts_with(|c: char| c.is_ascii_digit()).then(|| digits.parse::<f64>().ok()).flatten();
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err(Problem::expected(node, "a percentile from 0 to 100, such as 95 or 99.9")),
    }
}
