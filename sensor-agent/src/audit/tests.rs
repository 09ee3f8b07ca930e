//! What was tampered with is found, what was not is not.

use std::{fs, path::Path};

use super::*;

fn change(reason: &str) -> Change {
    Change {
        reason: Some(reason.into()),
        diff: vec!["+ block bad-client".into()],
        ..Change::by_agent(Action::Add, Version { generation: 3, ..Version::default() })
    }
}

fn write(folder: &Path, count: u64) -> AuditLog {
    let mut log = AuditLog::open(folder, 1).unwrap();
    for number in 0..count {
        log.append(change(&format!("CHG-{number}")), 1_000_000_000 * number).unwrap();
    }
    log
}

fn edit(folder: &Path, edit: impl FnOnce(&mut Vec<String>)) {
    let path = folder.join("audit.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    edit(&mut lines);
    fs::write(&path, lines.concat()).unwrap();
}

#[test]
fn an_untouched_log_holds_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let head = write(folder.path(), 5).head();
    let mut log = AuditLog::open(folder.path(), 1).unwrap();
    assert_eq!((log.number(), log.head()), (5, head));
    log.append(change("later"), 9).unwrap();
    let found = verify(folder.path(), Some(head)).unwrap();
    assert!(found.holds(), "{found:?}");
    assert_eq!((found.entries, found.first, found.last), (6, 1, 6));
    let mut reasons = Vec::new();
    entries(folder.path(), |entry| reasons.extend(entry.reason)).unwrap();
    assert_eq!(reasons.last().map(String::as_str), Some("later"));
}

#[test]
fn every_tampering_inside_the_log_is_found() {
    type Tamper = fn(&mut Vec<String>);
    let tamperings: [(&str, Tamper); 7] = [
        ("changed", |lines| lines[2] = lines[2].replace("CHG-2", "CHG-9")),
        ("removed", |lines| drop(lines.remove(2))),
        ("first removed", |lines| drop(lines.remove(0))),
        ("swapped", |lines| lines.swap(1, 2)),
        ("doubled", |lines| lines.insert(2, lines[2].clone())),
        ("not an entry", |lines| lines[2] = "{}\n".into()),
        ("resealed", |lines| {
            let body = lines[2].trim_end().replace("CHG-2", "CHG-9");
            let (body, _) = body.rsplit_once(",\"hash\"").unwrap();
            lines[2] = chain::seal(&format!("{body}}}")).0;
        }),
    ];
    for (name, tamper) in tamperings {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 5);
        edit(folder.path(), tamper);
        let found = verify(folder.path(), None).unwrap();
        assert!(!found.problems.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn every_single_byte_is_covered() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 3);
    let path = folder.path().join("audit.jsonl");
    let whole = fs::read(&path).unwrap();
    // The last line's end can only be told against a head: cutting it is another test.
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = verify(folder.path(), None).unwrap();
        assert!(!found.problems.is_empty(), "byte {at} of {}", whole.len());
    }
}

#[test]
fn a_cut_tail_and_a_log_written_anew_show_against_the_head() {
    let folder = tempfile::tempdir().unwrap();
    let head = write(folder.path(), 5).head();
    edit(folder.path(), |lines| drop(lines.pop()));
    let found = verify(folder.path(), Some(head)).unwrap();
    assert!(found.problems.is_empty() && found.head_found == Some(false) && !found.holds());
    let other = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(other.path(), 1).unwrap();
    log.append(change("forged"), 1).unwrap();
    assert!(!verify(other.path(), Some(head)).unwrap().holds());
}

#[test]
fn a_torn_end_is_cut_off_and_said() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 2);
    let path = folder.path().join("audit.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"number\":3,\"ti");
    fs::write(&path, &bytes).unwrap();
    let log = AuditLog::open(folder.path(), 7).unwrap();
    assert_eq!(log.number(), 3);
    assert!(verify(folder.path(), Some(log.head())).unwrap().holds());
}

#[test]
fn rotation_is_bounded_carries_the_chain_and_says_what_it_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open_with(folder.path(), 1, 2_000).unwrap();
    for number in 0..200 {
        log.append(change(&format!("CHG-{number}")), number).unwrap();
    }
    assert!(fs::read_dir(folder.path()).unwrap().count() <= FILES_MAX);
    let found = verify(folder.path(), Some(log.head())).unwrap();
    assert!(found.holds() && found.first > 1, "{found:?}");
    // The oldest file removed by hand is another matter.
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    fs::remove_file(&files[0]).unwrap();
    assert!(!verify(folder.path(), Some(log.head())).unwrap().holds());
    let again = AuditLog::open_with(folder.path(), 1, 2_000).unwrap();
    assert_eq!((again.number(), again.head()), (log.number(), log.head()));
}

#[test]
fn a_file_that_cannot_be_begun_stops_no_entry_and_is_begun_later() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("audit.jsonl.next");
    fs::create_dir(&in_the_way).unwrap();
    let mut log = AuditLog::open_with(folder.path(), 1, 2_000).unwrap();
    for number in 0..20 {
        log.append(change(&format!("CHG-{number}")), number).unwrap();
    }
    assert!(log.failed().is_some(), "it is told");
    fs::remove_dir(&in_the_way).unwrap();
    log.append(change("there is room again"), 20).unwrap();
    assert_eq!(log.failed(), None);
    log.append(change("in the next file"), 21).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let found = verify(folder.path(), Some(log.head())).unwrap();
    assert!(found.holds() && found.entries == 22, "{found:?}");
}

#[test]
fn long_texts_are_cut_so_that_an_entry_always_fits() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = AuditLog::open(folder.path(), 1).unwrap();
    for text in ["\u{1F600}", "\u{1}", "\"", "x\n"] {
        let text = text.repeat(9_999);
        let who = Who::File { path: text.clone() };
        let change = Change { who, diff: vec![text.clone(); 9_999], ..self::change(&text) };
        let entry = log.append(change, 1).unwrap();
        assert_eq!(entry.diff.last().map(String::as_str), Some("and 9959 more"));
    }
    assert!(verify(folder.path(), None).unwrap().holds());
}
