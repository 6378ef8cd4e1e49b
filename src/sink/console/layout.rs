//! Cells into aligned lines that fit a width.
//!
//! The model: columns of text are left-aligned, columns of numbers right-aligned, two spaces between them. Where the width does
//! not suffice, long text is shortened to [`READABLE_TEXT`], then the columns that are dispensable are left out, the most
//! dispensable first, and an ellipsis says so; if that is not enough, text is shortened to [`LEAST_TEXT`] and columns go
//! from the right. Numbers are never shortened: half a number is a wrong number.

use unicode_width::UnicodeWidthStr;

/// Columns of text are not made narrower than this while there are columns to leave out: enough to tell names apart.
const READABLE_TEXT: usize = 16;
/// Columns of text are not made narrower than this.
const LEAST_TEXT: usize = 8;
const GAP: usize = 2;
const ELLIPSIS: &str = "…";

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub title: String,
    pub numeric: bool,
    /// The higher, the sooner it is left out; 0 is what the table is about.
    pub dispensable: u8,
    pub cells: Vec<String>,
}

/// The lines of a table: the titles, then one line a row. None is wider than `width`, unless a single column is.
pub(super) fn lines(columns: &[Column], width: usize) -> Vec<String> {
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let shown = fit(columns, width);
    let cut = shown.len() < columns.len();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let mut text = String::new();
        for (place, (index, width)) in shown.iter().enumerate() {
            let column = &columns[*index];
            if place > 0 {
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

/// The columns that are shown, with their widths.
fn fit(columns: &[Column], width: usize) -> Vec<(usize, usize)> {
    let mut shown: Vec<(usize, usize)> = (0..columns.len()).map(|index| (index, 0)).collect();
    for least in [READABLE_TEXT, LEAST_TEXT] {
        if shorten_text(columns, &mut shown, width, least) {
            return shown;
        }
        // The least dispensable stay; among equals, those further left.
        while let Some(place) = (0..shown.len())
            .max_by_key(|place| columns[shown[*place].0].dispensable)
            .filter(|place| columns[shown[*place].0].dispensable > 0)
        {
            shown.remove(place);
            if shorten_text(columns, &mut shown, width, least) {
                return shown;
            }
        }
    }
    while shown.len() > 1 && room_needed(columns, &shown) > width {
        shown.pop();
    }
    shown
}

/// Gives each column the width it wants, and narrows the widest text until all fits, but not below `least`. Returns whether all
/// fits.
fn shorten_text(columns: &[Column], shown: &mut [(usize, usize)], width: usize, least: usize) -> bool {
    for (index, wanted) in shown.iter_mut() {
        let column = &columns[*index];
        *wanted = column.cells.iter().chain([&column.title]).map(|cell| cell.width()).max().unwrap_or(0);
    }
    while room_needed(columns, shown) > width {
        let texts = shown.iter_mut().filter(|(index, _)| !columns[*index].numeric);
        match texts.max_by_key(|(_, width)| *width) {
            Some((_, text)) if *text > least => *text -= 1,
            _ => return false,
        }
    }
    true
}

/// The width of a line; the ellipsis for columns that are left out needs room as well.
fn room_needed(columns: &[Column], shown: &[(usize, usize)]) -> usize {
    let ellipsis = if shown.len() < columns.len() { 2 } else { 0 };
    shown.iter().map(|(_, width)| width).sum::<usize>() + GAP * shown.len().saturating_sub(1) + ellipsis
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
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        Column { title: title.to_owned(), numeric, dispensable: u8::from(numeric), cells }
    }

    #[test]
    fn text_is_left_and_numbers_are_right() {
        let table = [column("model", false, &["opus", "a"]), column("count", true, &["1", "1000"])];
        assert_eq!(lines(&table, 80), ["model  count", "opus       1", "a       1000"]);
    }

    #[test]
    fn long_text_is_shortened_before_columns_go() {
        let north = column("model", false, &["claude-3-opus-of-the-north"]);
        let table = [north.clone(), column("count", true, &["1000"])];
        assert_eq!(lines(&table, 26), ["model                count", "claude-3-opus-of-t…   1000"]);
        assert_eq!(lines(&table, 20), ["model              …", "claude-3-opus-of-… …"]);
        let table = [north, column("sum", true, &["123456789"]), Column { dispensable: 0, ..table[1].clone() }];
        assert_eq!(lines(&table, 26), ["model              count …", "claude-3-opus-of…   1000 …"]);
        assert_eq!(lines(&table, 20), ["model        count …", "claude-3-o…   1000 …"]);
    }

    #[test]
    fn the_most_dispensable_column_goes_first() {
        let mut table = ["a", "b", "c", "d"].map(|title| column(title, true, &["123"]));
        for (column, dispensable) in table.iter_mut().zip([0, 3, 1, 3]) {
            column.dispensable = dispensable;
        }
        assert_eq!(lines(&table, 18)[0], "  a    b    c    d");
        assert_eq!(lines(&table, 17)[0], "  a    b    c …");
        assert_eq!(lines(&table, 14)[0], "  a    c …");
        assert_eq!(lines(&table, 9)[0], "  a …");
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
