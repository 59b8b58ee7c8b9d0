//! Tables and lists of fields for people. Every cell is foreign text and is escaped here.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::telemetry::redact::escape;

/// Longest cell; the whole text stands in `--json`.
const CELL_CHARS_MAX: usize = 160;

/// Rows below a header; `empty` when there are none.
pub(super) fn rows<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    empty: &str,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| self::cell(&cell)));
    }
    if table.row_count() == 0 {
        return format!("{empty}\n");
    }
    lines(&table)
}

/// Names and their values, one a line; what has no value is left away.
pub(super) fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Option<String>)>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for (name, value) in fields {
        if let Some(value) = value {
            table.add_row([format!("{name}:"), escape(&value)]);
        }
    }
    lines(&table)
}

/// Lines below a title, each indented; nothing when there are none.
pub(super) fn list(title: &str, items: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for item in items {
        if text.is_empty() {
            text = format!("{title}:\n");
        }
        text.push_str("  ");
        text.push_str(&escape(&item));
        text.push('\n');
    }
    text
}

/// A field that was not given is left out of [`fields`].
pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Names in one cell.
pub(super) fn joined(names: &[String]) -> String {
    names.join(", ")
}

/// A length of time to come or gone, in whole units.
pub(super) fn seconds(seconds: u64) -> String {
    crate::model::time::duration_text(std::time::Duration::from_secs(seconds))
}

/// A number of bytes as people read it.
#[expect(
    clippy::cast_precision_loss,
    reason = "one digit behind the point is shown"
)]
pub(super) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

fn cell(text: &str) -> String {
    let text = escape(text);
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

fn lines(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        // Each cell has room to its left; the first needs none.
        text.push_str(line.strip_prefix(' ').unwrap_or(&line).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_break_out_of_its_line() {
        let text = rows(
            ["A", "B"],
            [["x\n\u{1b}[2J".to_owned(), "y".repeat(500)]],
            "",
        );
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}'));
        assert!(text.contains('…'));
    }

    #[test]
    fn no_rows_say_so() {
        assert_eq!(rows(["A"], [], "nothing waits"), "nothing waits\n");
    }

    #[test]
    fn bytes_are_short() {
        for (count, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
        ] {
            assert_eq!(bytes(count), want);
        }
    }
}
