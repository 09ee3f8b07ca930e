//! Lines of comma-separated values, as RFC 4180 has them within one line; `#` begins a comment, the first line names the columns.

/// Fields of a line, trimmed; `None` where a quote is not closed or something stands behind it.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line.trim();
    loop {
        let (field, behind) = match rest.trim_start().strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at_checked(end)?;
                (field.trim().to_owned(), behind)
            }
            Some(quoted) => {
                let (field, behind) = unquote(quoted)?;
                (field, behind.trim_start())
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(next) => rest = next,
            None => return behind.is_empty().then_some(fields),
        }
    }
}

/// Joins fields to a line; quotes where it must.
pub(super) fn join(fields: &[&str]) -> String {
    let quoted = |field: &&str| {
        if field.contains([',', '"', '#', ';', '\t']) || *field != field.trim() {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            (*field).to_owned()
        }
    };
    fields.iter().map(quoted).collect::<Vec<_>>().join(",")
}

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
            assert_eq!(split(&join(fields)).unwrap(), fields);
        }
    }

    #[test]
    fn broken_lines_are_told() {
        assert_eq!(split("a , \"b\" ,c").unwrap(), ["a", "b", "c"]);
        assert_eq!(split("\"open"), None);
        assert_eq!(split("\"a\"b,c"), None);
    }
}
