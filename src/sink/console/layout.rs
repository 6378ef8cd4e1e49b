//! Cells into aligned lines that fit a width.
//!
//! The model: columns of text are left-aligned, columns of numbers right-aligned, two spaces between them. Where the width does
//! not suffice, long text is shortened first (never below [`LEAST_TEXT`]), then columns are left out from the right, and an
//! ellipsis says so. Numbers are never shortened: half a number is a wrong number.

use unicode_width::UnicodeWidthStr;

/// Columns of text are not made narrower than this.
const LEAST_TEXT: usize = 8;
const GAP: usize = 2;
const ELLIPSIS: &str = "…";

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub title: String,
    pub numeric: bool,
    pub cells: Vec<String>,
}

/// The lines of a table: the titles, then one line a row. None is wider than `width`, unless a single column is.
pub(super) fn lines(columns: &[Column], width: usize) -> Vec<String> {
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let (widths, cut) = fit(columns, width);
    let line = |cell: &dyn Fn(&Column) -> String| {
        let mut text = String::new();
        for (index, (column, width)) in columns.iter().zip(&widths).enumerate() {
            if index > 0 {
                text.push_str(&" ".repeat(GAP));
            }
            text.push_str(&aligned(&cell(column), *width, column.numeric));
        }
        if cut {
            text.push_str(" …");
        }
        text.trim_end().to_owned()
    };
    let titles = line(&|column| column.title.clone());
    let rows = (0..rows).map(|row| line(&|column| column.cells.get(row).cloned().unwrap_or_default()));
    std::iter::once(titles).chain(rows).collect()
}

/// The widths of the columns that are shown, and whether some are left out.
fn fit(columns: &[Column], width: usize) -> (Vec<usize>, bool) {
    let mut widths: Vec<usize> = columns
        .iter()
        .map(|column| column.cells.iter().chain([&column.title]).map(|cell| cell.width()).max().unwrap_or(0))
        .collect();
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    while total(&widths) > width {
        let widest_text = (0..widths.len()).filter(|index| !columns[*index].numeric).max_by_key(|index| widths[*index]);
        match widest_text {
            Some(index) if widths[index] > LEAST_TEXT => widths[index] -= 1,
            _ => break,
        }
    }
    if total(&widths) <= width {
        return (widths, false);
    }
    // The ellipsis needs room as well.
    while widths.len() > 1 && total(&widths) + 2 > width {
        widths.pop();
    }
    (widths, true)
}

/// `text` in exactly `width` characters, shortened or padded.
fn aligned(text: &str, width: usize, right: bool) -> String {
    let text = shortened(text, width);
    let padding = " ".repeat(width.saturating_sub(text.width()));
    if right { padding + &text } else { text + &padding }
}

/// `text`, with an ellipsis for what does not fit.
pub(super) fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        let longer = format!("{short}{character}");
        if longer.width() + ELLIPSIS.width() > width {
            break;
        }
        short = longer;
    }
    if width > 0 { short + ELLIPSIS } else { short }
}

/// `text` without what a terminal would take as a command: keys come from events, and anyone may write events.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{b7}' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(title: &str, numeric: bool, cells: &[&str]) -> Column {
        Column { title: title.to_owned(), numeric, cells: cells.iter().map(|cell| (*cell).to_owned()).collect() }
    }

    #[test]
    fn text_is_left_and_numbers_are_right() {
        let table = [column("model", false, &["opus", "a"]), column("count", true, &["1", "1000"])];
        assert_eq!(lines(&table, 80), ["model  count", "opus       1", "a       1000"]);
    }

    #[test]
    fn long_text_is_shortened_before_columns_go() {
        let table = [column("model", false, &["claude-3-opus-of-the-north"]), column("count", true, &["1000"])];
        assert_eq!(lines(&table, 20), ["model          count", "claude-3-opu…   1000"]);
        let table = [table[0].clone(), table[1].clone(), column("sum", true, &["123456789"])];
        assert_eq!(lines(&table, 20), ["model     count …", "claude-…   1000 …"]);
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let cells = ["日本語のモデル", "short", "a very long name of a model"];
        let table: Vec<_> = (0..6)
            .flat_map(|_| [column("wide", false, &cells), column("number", true, &["1", "22", "-333.25"])])
            .collect();
        for width in 20..200 {
            for line in lines(&table, width) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn wide_characters_keep_the_columns_straight() {
        let table = [column("k", false, &["日本", "ab"]), column("n", true, &["1", "2"])];
        assert_eq!(lines(&table, 80), ["k     n", "日本  1", "ab    2"]);
    }

    #[test]
    fn commands_to_the_terminal_are_taken_out() {
        assert_eq!(printable("a\x1b[2Jb\r\nc\u{9b}d"), "a·[2Jb··c·d");
    }
}
