//! Standard output and error of commands: a closed pipe ends quietly, NO_COLOR is kept, control characters
//! from the network never reach a terminal.

use std::{
    borrow::Cow,
    io::{self, IsTerminal as _, Write as _},
};

/// Writes text to standard output; a reader that went away (`| head`) is not an error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes a line to standard error: notes beside the result (where it came from, what to do next).
pub fn note(text: &str) {
    // Nothing is left to say where standard error is gone.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes a value as indented JSON and a newline.
pub fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Whether standard output takes colours: a terminal, and neither `NO_COLOR` nor `TERM=dumb`.
#[must_use]
pub fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from the network made safe for a terminal or a log: control characters become `\u{..}`.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    // Format characters turn the direction of text around (U+202E and its kin): as bad as an escape code.
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 8), |mut out, c| {
        if bad(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    }))
}

/// As [`clean`], with line breaks kept: for texts that list several things.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// A number with thin groups of three for people (`12 345`).
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    digits.char_indices().fold(
        String::with_capacity(digits.len() * 4 / 3),
        |mut out, (index, digit)| {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push(' ');
            }
            out.push(digit);
            out
        },
    )
}

/// A table in the house look: header line, no frames, columns two spaces apart, no trailing blanks.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let lines: Vec<Vec<Cow<'_, str>>> =
        std::iter::once(header.iter().map(|&name| Cow::Borrowed(name)).collect())
            .chain(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
            .collect();
    let mut widths = vec![0; header.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    lines.iter().fold(String::new(), |mut out, line| {
        let start = out.len();
        for (cell, width) in line.iter().zip(&widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        out.truncate(start + out.get(start..).map_or(0, |line| line.trim_end().len()));
        out.push('\n');
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_codes_are_shown_not_sent() {
        assert_eq!(clean("a\x1b[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
        assert!(matches!(clean("/plain/ü"), Cow::Borrowed(_)));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let text = table(&["A", "LONG"], &[vec!["xyz".into(), "y".into()]]);
        assert_eq!(text, "A    LONG\nxyz  y\n");
    }
}
