//! List files as they are found in the world, and hostile ones.

use super::*;

const CHANGED: UnixNs = UnixNs(1_000_000_000_000);

fn name(format: ListFormat, on_error: OnError) -> ListRef {
    ListRef { path: "l.txt".into(), format, on_error, line: 0 }
}

fn read(
    text: &[u8],
    format: ListFormat,
    on_error: OnError,
    chunk: usize,
) -> Result<List, PolicyErrors> {
    let mut reader = ListReader::new(&name(format, on_error), "l.txt", CHANGED);
    for chunk in text.chunks(chunk) {
        reader.read(chunk)?;
    }
    reader.finish()
}

fn lines(numbers: std::ops::Range<usize>, line: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    text.extend(numbers.map(line));
    text
}

fn shown_entries(list: &List) -> Vec<String> {
    list.entries()
        .map(|(net, expires)| match expires {
            None => net.to_string(),
            Some(at) => format!("{net} {}", at.0 / 1_000_000_000),
        })
        .collect()
}

#[test]
fn lists_of_others_are_read_whatever_the_chunks() {
    let text = "\u{feff}; Spamhaus DROP List 2026/11/23 - (c) 2026\r\n1.10.16.0/20 ; SBL256894\r\n\r\n# FireHOL netset\n  5.8.37.0/24\n192.0.2.7\n2001:db8::/32;x\n192.0.2.7 # again\n5.188.10.0/23";
    for chunk in [1, 2, 3, 7, 1000] {
        let list = read(text.as_bytes(), ListFormat::Plain, OnError::Refuse, chunk).unwrap();
        let expected =
            ["1.10.16.0/20", "5.8.37.0/24", "5.188.10.0/23", "192.0.2.7/32", "2001:db8::/32"];
        assert_eq!(shown_entries(&list), expected, "{chunk}");
        assert_eq!((list.about.lines, list.about.entries, list.about.skipped), (9, 5, 0));
        assert_eq!(
            list.about.digest,
            read(text.as_bytes(), ListFormat::Plain, OnError::Refuse, 1000).unwrap().about.digest
        );
    }
}

#[test]
fn a_csv_file_has_times() {
    let text = "ip,ttl,comment\n192.0.2.1,60,x\n\"192.0.2.2\", \"2h\"\n192.0.2.3,1970-01-02\n192.0.2.4\n192.0.2.5,,y\n";
    let list = read(text.as_bytes(), ListFormat::Csv, OnError::Refuse, 9).unwrap();
    let expected = [
        "192.0.2.1/32 1060",
        "192.0.2.2/32 8200",
        "192.0.2.3/32 86400",
        "192.0.2.4/32",
        "192.0.2.5/32",
    ];
    assert_eq!(shown_entries(&list), expected);
}

#[test]
fn a_bad_line_is_told_with_its_number_and_skipped_only_where_asked() {
    let bytes = b"192.0.2.1\n10.0.0.5/8\n\n192.0.2.2 192.0.2.3\n\xff\nany\n300.1.1.1\n192.0.2.9\n";
    let errors = read(bytes, ListFormat::Plain, OnError::Refuse, 5).unwrap_err().to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert!(
        lines[0].starts_with("l.txt:2: `10.0.0.5/8` has bits set beyond its prefix"),
        "{errors}"
    );
    assert!(errors.contains("l.txt:4: `192.0.2.2 192.0.2.3` is not an address"), "{errors}");
    assert!(
        lines.last().unwrap().starts_with(
            "l.txt: 5 of 8 lines cannot be read; mend them, or use the rest with on_error: skip"
        ),
        "{errors}"
    );
    let list = read(bytes, ListFormat::Plain, OnError::Skip, 5).unwrap();
    assert_eq!(shown_entries(&list), ["192.0.2.1/32", "192.0.2.9/32"]);
    assert_eq!(list.about.skipped, 5);
    assert_eq!(list.about.first_skipped.as_ref().map(|(line, _)| *line), Some(2));
}

#[test]
fn long_lines_cost_no_memory_and_long_comments_are_comments() {
    let long = "a".repeat(3_000_000);
    let text = format!("192.0.2.1 # {long}\n{long}\n192.0.2.2");
    let list = read(text.as_bytes(), ListFormat::Plain, OnError::Skip, 4096).unwrap();
    assert_eq!((list.len(), list.about.skipped), (2, 1));
    let errors =
        read(text.as_bytes(), ListFormat::Plain, OnError::Refuse, 4096).unwrap_err().to_string();
    assert!(errors.starts_with("l.txt:2: longer than 512 bytes"), "{errors}");
}

#[test]
fn too_many_times_are_refused() {
    let text: String =
        lines(1..EXPIRIES_MAX + 2, |n| format!("10.{}.{}.1,{n}\n", n / 256, n % 256));
    let errors =
        read(text.as_bytes(), ListFormat::Csv, OnError::Refuse, 4096).unwrap_err().to_string();
    assert!(errors.contains("different times; round them to minutes"), "{errors}");
}

#[test]
fn ten_million_lines_are_read_or_refused_with_bounded_memory() {
    // A hundred thousand addresses a hundred times: read, because only what differs counts.
    let mut reader = ListReader::new(&name(ListFormat::Plain, OnError::Refuse), "l.txt", CHANGED);
    let block: String =
        lines(0..100_000, |n| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255));
    for _ in 0..100 {
        reader.read(block.as_bytes()).unwrap();
    }
    let list = reader.finish().unwrap();
    assert_eq!((list.about.lines, list.len()), (10_000_000, 100_000));
    // As many different ones: refused with the figure.
    let mut reader = ListReader::new(&name(ListFormat::Plain, OnError::Refuse), "l.txt", CHANGED);
    let refused = (0..100_u32).find_map(|high| {
        let block: String = lines(0..100_000, |n| {
            format!("{}.{}.{}.{}\n", 11 + high, n >> 16, n >> 8 & 255, n & 255)
        });
        reader.read(block.as_bytes()).err()
    });
    let refused = refused.unwrap().to_string();
    assert!(
        refused.contains(&format!("are over the limit of {LIST_ENTRIES_MAX} for a list file")),
        "{refused}"
    );
}
