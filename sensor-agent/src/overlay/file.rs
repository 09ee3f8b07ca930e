//! One file of the overlay: its text to entries and back.
//!
//! Bounds: [`FILE_BYTES_MAX`], and that of the overlay itself. Each wrong line is told with its number.

use sensor_core::{
    catalogue::parse_rfc3339,
    csv,
    inventory::{Overlay, Said, Word},
    time::UnixNs,
};
use sensor_proto::json::rfc3339;

/// Largest file: each entry takes a few hundred bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;
/// Wrong lines that are told.
const PROBLEMS_MAX: usize = 20;

/// Name of the file of a word.
pub(super) const fn name(word: Word) -> &'static str {
    match word {
        Word::Accepted => "accepted.csv",
        Word::Ignored => "ignored.csv",
    }
}

/// Columns in the order in which they are written.
const fn columns(word: Word) -> &'static [&'static str] {
    match word {
        Word::Accepted => &["method", "host", "path", "owner", "note", "by", "since"],
        Word::Ignored => &["method", "host", "path", "reason", "until", "by", "since"],
    }
}

/// The file's text.
pub(super) fn write(overlay: &Overlay, word: Word) -> String {
    let about = match word {
        Word::Accepted => "# Endpoints that operators accepted (sensor-agent inventory accept).",
        Word::Ignored => "# Endpoints that operators ignore (sensor-agent inventory ignore).",
    };
    let mut text = format!("{about}\n{}\n", columns(word).join(","));
    for said in overlay.all(word) {
        let until = said.until.map(time).unwrap_or_default();
        let cells = columns(word).iter().map(|column| match *column {
            "method" => said.method.clone(),
            "host" => said.service.clone(),
            "path" => said.path_template.clone(),
            "owner" => said.owner.clone(),
            "until" => until.clone(),
            "by" => said.by.clone(),
            "since" => time(said.since),
            _ => said.text.clone(),
        });
        let cells: Vec<String> = cells.collect();
        text.push_str(&csv::join(&cells.iter().map(String::as_str).collect::<Vec<_>>()));
        text.push('\n');
    }
    text
}

fn time(at: UnixNs) -> String {
    rfc3339(at.0 / 1_000_000_000 * 1_000_000_000)
}

/// Reads a file's text into the overlay; what is wrong with it, by line.
pub(super) fn read(text: &str, word: Word, into: &mut Overlay) -> Vec<String> {
    let mut problems = Vec::new();
    let mut lines = csv::lines(text);
    let Some((number, header)) = lines.next() else { return problems };
    let separator = csv::separator(header);
    let header = csv::split(header, separator).unwrap_or_default();
    let header: Vec<String> = header.iter().map(|name| name.to_lowercase()).collect();
    if let Some(missing) =
        ["method", "host", "path"].iter().find(|name| !header.iter().any(|have| have == *name))
    {
        return vec![format!(
            "{}:{number}: there is no column `{missing}`; the first line names the columns: {}",
            name(word),
            columns(word).join(",")
        )];
    }
    for (number, line) in lines {
        let said = entry(&header, csv::split(line, separator), word)
            .and_then(|said| into.say(word, said).map_err(|error| error.to_string()));
        if let Err(problem) = said
            && problems.len() < PROBLEMS_MAX
        {
            problems.push(format!("{}:{number}: {problem}", name(word)));
        }
    }
    problems
}

fn entry(header: &[String], cells: Option<Vec<String>>, word: Word) -> Result<Said, String> {
    let cells = cells.ok_or("a quote is not closed, or something stands behind it")?;
    if cells.len() > header.len() {
        return Err(format!("{} fields, but {} columns", cells.len(), header.len()));
    }
    let cell = |column: &str| {
        let at = header.iter().position(|name| name == column);
        at.and_then(|at| cells.get(at)).cloned().unwrap_or_default()
    };
    let date = |column: &str| match &*cell(column) {
        "" => Ok(None),
        text => parse_rfc3339(text).map(Some).ok_or_else(|| {
            format!("{column} `{text}` is no time: write RFC 3339, such as 2026-06-30T12:00:00Z")
        }),
    };
    let said = Said {
        service: cell("host"),
        method: cell("method"),
        path_template: cell("path"),
        owner: cell("owner"),
        text: if word == Word::Accepted { cell("note") } else { cell("reason") },
        by: cell("by"),
        since: date("since")?.unwrap_or_default(),
        until: if word == Word::Ignored { date("until")? } else { None },
    };
    if said.service.is_empty() || said.method.is_empty() || !said.path_template.starts_with('/') {
        return Err("method, host and a path that begins with / must be there".into());
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> Said {
        Said {
            service: "shop.example:8080".into(),
            method: "GET".into(),
            path_template: "/a,b/{id}".into(),
            owner: "Team \"A\"".into(),
            text: "until it is documented, see #12".into(),
            by: "root (uid 0)".into(),
            since: UnixNs(1_767_225_600_000_000_000),
            until: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let until = Some(UnixNs(1_798_761_600_000_000_000));
        for (word, said) in [
            (Word::Accepted, said()),
            (Word::Ignored, Said { owner: String::new(), until, ..said() }),
            (Word::Ignored, Said { owner: String::new(), ..said() }),
        ] {
            let mut overlay = Overlay::default();
            overlay.say(word, said).unwrap();
            let mut again = Overlay::default();
            let problems = read(&write(&overlay, word), word, &mut again);
            assert_eq!((again, problems), (overlay, vec![]));
        }
    }

    #[test]
    fn wrong_lines_are_told_by_number_and_the_others_hold() {
        let text = "# by hand\nPath, Method ,host,until\n/a,GET,x.example,\n/b,GET,,\n/c,GET,x.example,soon\n\"/d,GET\n/e,GET,x.example,,5\n";
        let mut overlay = Overlay::default();
        let problems = read(text, Word::Ignored, &mut overlay);
        assert_eq!(overlay.all(Word::Ignored).len(), 1);
        let starts = [
            "ignored.csv:4: method, host",
            "ignored.csv:5: until `soon`",
            "ignored.csv:6: a quote",
            "ignored.csv:7: 5 fields",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        assert!(
            problems.iter().zip(starts).all(|(told, start)| told.starts_with(start)),
            "{problems:?}"
        );
        let problems = read("method,path\n", Word::Accepted, &mut overlay);
        assert!(problems[0].contains("no column `host`"), "{problems:?}");
        assert_eq!(read("", Word::Accepted, &mut overlay), Vec::<String>::new());
        let sheet = "method;host;path;owner\nGET;y.example;/a,b;Team\n";
        assert_eq!(read(sheet, Word::Accepted, &mut overlay), Vec::<String>::new());
        assert_eq!(overlay.all(Word::Accepted)[0].path_template, "/a,b");
    }
}
