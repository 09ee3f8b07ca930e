//! Lines of comma-separated values to fields and back, for lists of endpoints and for what operators said of them.
//!
//! Fields are quoted as in RFC 4180, within a line. Comma, semicolon or tab, as the header has them. Empty lines and those that begin
//! with `#` do not count. No bound of its own: who reads a file has one.

/// Lines that count, with their numbers from 1.
pub fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    })
}

/// What stands between the fields, by the line that names the columns.
#[must_use]
pub fn separator(header: &str) -> char {
    [',', ';', '\t'].into_iter().find(|c| header.contains(*c)).unwrap_or(',')
}

/// Fields of a line, trimmed unless they are quoted; `None` where a quote is not closed or something stands behind it.
#[must_use]
pub fn split(line: &str, separator: char) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, behind) = match rest.trim_start_matches(' ').strip_prefix('"') {
            None => {
                let end = rest.find(separator).unwrap_or(rest.len());
                let (field, behind) = rest.split_at_checked(end)?;
                (field.trim().to_owned(), behind)
            }
            Some(quoted) => {
                let (field, behind) = unquote(quoted)?;
                (field, behind.trim_start_matches(' '))
            }
        };
        fields.push(field);
        match behind.strip_prefix(separator) {
            Some(next) => rest = next,
            None => return behind.is_empty().then_some(fields),
        }
    }
}

/// Joins fields to a line, by commas; quotes where it must.
#[must_use]
pub fn join(fields: &[&str]) -> String {
    let quoted = |field: &&str| {
        if field.contains([',', '"', '#', ';', '\t']) || *field != field.trim() {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            (*field).to_owned()
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

/// What stands before the closing quote, and what behind it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = rest.split_once('"')?;
        field.push_str(before);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for fields in [
            &["GET", "shop.example", "/a", ""][..],
            &["a,b", "say \"hi\"", " blank ", "# no comment"],
            &["", "", ""],
        ] {
            assert_eq!(split(&join(fields), ',').unwrap(), fields);
        }
    }

    #[test]
    fn broken_lines_are_told() {
        assert_eq!(split("a , \"b\" ,c", ',').unwrap(), ["a", "b", "c"]);
        assert_eq!(split("\"open", ','), None);
        assert_eq!(split("\"a\"b,c", ','), None);
    }

    #[test]
    fn the_header_says_what_stands_between() {
        for (header, separator_expected) in
            [("a,b;c", ','), ("a;b", ';'), ("a\tb", '\t'), ("a", ',')]
        {
            assert_eq!(separator(header), separator_expected, "{header}");
        }
        assert_eq!(split("\t\"b\"\tc", '\t').unwrap(), ["", "b", "c"]);
        assert_eq!(split(";a,b", ';').unwrap(), ["", "a,b"]);
    }

    #[test]
    fn comments_and_empty_lines_keep_the_numbers() {
        let numbers: Vec<u64> =
            lines("# a\n\n b\r\n\t\n #c\nd").map(|(number, _)| number).collect();
        assert_eq!(numbers, [3, 6]);
    }
}
