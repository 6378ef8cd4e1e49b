//! The report for people.

use super::Report;
use crate::cli::text::push_table;
use crate::metrics::{LatenessRow, group_digits, percent, share_name, short_span};
use crate::time::Span;
use crate::time::disorder::Disorder;
use std::fmt::Write;

/// Two tables and the sentences that matter.
pub(super) fn render(report: &Report, asked: &[Span]) -> String {
    let mut text = String::new();
    let since = report.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let partitions = match report.partitions.len() {
        1 => "1 partition".to_owned(),
        many => format!("{many} partitions"),
    };
    let _ = writeln!(text, "{} events in {partitions}{since}", group_digits(report.total.events));
    if report.total.events > 0 {
        text.push_str("\nlate with a max_out_of_orderness of");
        text.push_str(if report.max_out_of_orderness.is_some() { " (* is configured)\n" } else { "\n" });
        push_table(&mut text, &late_with(report));
        text.push_str("\nmax_out_of_orderness with which this share is on time\n");
        push_table(&mut text, &bounds(report));
    }
    text.push('\n');
    for sentence in report.total.sentences(report.max_out_of_orderness, asked) {
        let _ = writeln!(text, "{sentence}");
    }
    if report.total.events > 0 {
        let error = Disorder::RELATIVE_ERROR * 100.0;
        let _ = writeln!(text, "(bounds are exact or up to {error:.1}% too great; that of 100% is exact)");
    }
    text
}

/// The partitions, and all together where there are several.
fn rows(report: &Report) -> Vec<(String, &LatenessRow)> {
    let mut rows: Vec<_> = report.partitions.iter().map(|(name, row)| (name.to_string(), row)).collect();
    if rows.len() != 1 {
        rows.push(("all".to_owned(), &report.total));
    }
    rows
}

fn late_with(report: &Report) -> Vec<Vec<String>> {
    let in_force = report.max_out_of_orderness;
    let mut head = vec!["partition".to_owned(), "events".to_owned()];
    head.extend(report.total.late_with.iter().map(|(bound, _)| {
        let mark = if in_force == Some(*bound) { "*" } else { "" };
        format!("{mark}{}", short_span(*bound))
    }));
    let mut table = vec![head];
    for (name, row) in rows(report) {
        let mut cells = vec![name, group_digits(row.events)];
        cells.extend(row.late_with.iter().map(|(bound, late)| {
            // Of the bound in force the exact number is known.
            percent(if in_force == Some(*bound) { row.late } else { *late }, row.events)
        }));
        table.push(cells);
    }
    table
}

fn bounds(report: &Report) -> Vec<Vec<String>> {
    let mut head = vec!["partition".to_owned()];
    head.extend(report.total.bounds.iter().map(|(share, _)| share_name(*share)));
    let mut table = vec![head];
    for (name, row) in rows(report) {
        let mut cells = vec![name];
        cells.extend(row.bounds.iter().map(|(_, bound)| short_span(*bound)));
        table.push(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::page::Page;
    use super::*;
    use crate::event::PartitionName;

    #[test]
    fn a_report_reads_as_people_want_it() {
        let partition = |number: i32, far: u64| {
            let mut disorder = Disorder::default();
            for event in 0..1_000 {
                let behind = if event < far { 12_500 } else { 40 };
                disorder.record(Span::from_millis(behind), behind > 10_000);
            }
            (PartitionName { topic: "feedback".into(), partition: number }, disorder)
        };
        let page = Page {
            since: "2026-09-21T14:00:00.000Z".into(),
            max_out_of_orderness: Some(Span::from_secs(10)),
            partitions: vec![partition(0, 0), partition(1, 20)],
        };
        let report = Report::new(vec![page], &[Span::from_secs(3)]);
        assert_eq!(
            render(&report, &[Span::from_secs(3)]),
            "\
2,000 events in 2 partitions since 2026-09-21T14:00:00.000Z

late with a max_out_of_orderness of (* is configured)
  partition    events     0    1s    2s    3s    5s  *10s  30s  1m  5m
  feedback[0]   1,000  100%    0%    0%    0%    0%    0%   0%  0%  0%
  feedback[1]   1,000  100%  2.0%  2.0%  2.0%  2.0%  2.0%   0%  0%  0%
  all           2,000  100%  1.0%  1.0%  1.0%  1.0%  1.0%   0%  0%  0%

max_out_of_orderness with which this share is on time
  partition      99%  99.9%  99.99%   100%
  feedback[0]   40ms   40ms    40ms   40ms
  feedback[1]  12.5s  12.5s   12.5s  12.5s
  all           40ms  12.5s   12.5s  12.5s

with max_out_of_orderness 10s, as configured, 1.0% of the events so far were late (20 of 2,000)
with max_out_of_orderness 3s, 1.0% of the events so far would have been late
the bound for 99.9% is 12.5s; the event furthest behind was 12.5s behind
(bounds are exact or up to 3.1% too great; that of 100% is exact)
"
        );
        let nothing = Report::new(vec![], &[]);
        assert_eq!(render(&nothing, &[]), "0 events in 0 partitions\n\nno event has come yet\n");
    }
}
