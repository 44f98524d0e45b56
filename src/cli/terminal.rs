//! What a terminal is shown: nothing in it that a terminal obeys, in columns.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

/// What stands between two columns.
const GAP: &str = "  ";

/// Whether a character does something to the text around it in place of being seen:
/// it moves, deletes or colours, turns what follows around, or hides.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text of somebody else's on one line, with whatever a terminal would obey as
/// `\u{202e}`.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) { plain.extend(c.escape_unicode()) } else { plain.push(c) }
    }
    Cow::Owned(plain)
}

/// JSON on one line that says the same to a program, and of which a terminal obeys
/// nothing.
pub(super) fn json(value: &impl Serialize) -> String {
    // Nothing that is printed fails to be text.
    let text = serde_json::to_string(value).unwrap_or_default();
    let mut line = String::with_capacity(text.len());
    // All that is not ASCII stands in strings, and there may be escaped.
    for c in text.chars() {
        if is_obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line
}

/// Prints a line of the result. Whether anybody still reads.
pub(super) fn put(line: impl Display) -> io::Result<bool> {
    match writeln!(io::stdout().lock(), "{line}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot print: {error}"))),
    }
}

/// Standard output: at a terminal, nothing that it would obey; elsewhere as it is.
#[derive(Default)]
pub(super) struct Printed {
    /// The end of what came, if it is the beginning of a character.
    rest: Vec<u8>,
}

impl io::Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut out = io::stdout().lock();
        if !out.is_terminal() {
            return out.write(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let whole = match str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        out.write_all(shown(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// Lines of somebody else's text, with whatever a terminal would obey but their ends
/// as `\u{202e}`.
fn shown(text: &str) -> String {
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(plain).collect();
    lines.join("\n")
}

/// Rows under their headings, each column as wide as it must be.
pub(super) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let heading: Vec<String> = heading.iter().map(|&title| title.to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|i| all().filter_map(|row| row.get(i)).map(|cell| cell.width()).max().unwrap_or(0))
        .collect();
    let lines: Vec<String> = all().map(|row| line(row, &widths)).collect();
    lines.join("\n")
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line += cell;
        line += &" ".repeat(width.saturating_sub(cell.width()));
        line += GAP;
    }
    line.truncate(line.trim_end().len());
    line
}

/// Names and values below each other. A value of several lines goes on below itself,
/// so that none of its lines can be taken for a name.
pub(super) fn list(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut list = String::new();
    for (name, value) in pairs {
        for (i, part) in value.lines().enumerate() {
            let name = if i == 0 { name } else { "" };
            let _ = writeln!(list, "{GAP}{name:<width$}{GAP}{part}");
        }
    }
    list.truncate(list.trim_end().len());
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_done() {
        assert_eq!(plain("Maya ✨ 👩‍🚀 é"), "Maya ✨ 👩‍🚀 é");
        assert_eq!(plain("a\u{1b}[31mb\r\nc"), "a\\u{1b}[31mb\\u{d}\\u{a}c");
        assert_eq!(plain("user\u{202e}gnp.exe\u{2066}\u{9b}2J"), "user\\u{202e}gnp.exe\\u{2066}\\u{9b}2J");
        assert_eq!(plain("\u{e0041}\u{feff}"), "\\u{e0041}\\u{feff}");
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(shown("a\u{1b}b\nc\u{202e}\n"), "a\\u{1b}b\nc\\u{202e}\n");
    }

    #[test]
    fn json_is_the_same_to_a_program() {
        let value = json!({ "name": "a\u{9b}2J\u{202e}b\u{e0041}\n\"ü✨" });
        let line = json(&value);
        assert!(!line.chars().any(is_obeyed), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_seen() {
        let rows = [["日本", "x"], ["ab", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&["A", "B"], &rows), "A     B\n日本  x\nab    y");
        let listed = list(&[("name", "Maya".to_owned()), ("biography", "one\ntwo".to_owned())]);
        assert_eq!(listed, "  name       Maya\n  biography  one\n             two");
    }
}
