//! A collector writes each event once, whatever comes twice and whenever it is killed.

use std::{fs, path::Path};

use sensor_proto::v1::{Event, EventBatch};

use super::*;
use crate::sink::{FileFormat, Rotation, Writer};

fn open(path: &Path, rotate: u64) -> Collector {
    let writer =
        Writer::file(path, FileFormat::Jsonl, Rotation { bytes: rotate, keep: 99 }).unwrap();
    Collector::new(writer, Marks::beside(path).unwrap(), Durability::Written).unwrap()
}

fn batch(boot: &str, first: u64, events: usize) -> EventBatch {
    EventBatch {
        sensor_id: "s".into(),
        boot_id: boot.into(),
        first_sequence: first,
        events: vec![Event { time_unix_nano: 1, body: None }; events],
        ..EventBatch::default()
    }
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[test]
fn what_comes_twice_is_written_once_and_a_new_run_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let collector = open(&path, 0);
    assert_eq!(collector.take(&batch("a", 1, 10)).unwrap(), 10);
    assert_eq!(collector.take(&batch("a", 1, 10)).unwrap(), 10);
    assert_eq!(collector.take(&batch("a", 6, 10)).unwrap(), 15);
    assert_eq!(collector.take(&batch("a", 3, 2)).unwrap(), 15);
    assert_eq!(collector.take(&batch("b", 1, 5)).unwrap(), 5);
    assert_eq!(collector.take(&batch("a", 21, 1)).unwrap(), 21);
    let expected = CollectorCounts { batches: 6, written: 21, duplicates: 17, missing: 5 };
    assert_eq!((lines(&path), collector.counts()), (21, expected));
}

#[test]
fn a_restart_goes_on_and_cuts_off_what_was_not_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    open(&path, 0).take(&batch("a", 1, 10)).unwrap();
    // Killed after writing, before the mark: half a batch lies there.
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(b"{\"sensor_id\":\"s\",\"boot_id\":\"a\",\"sequence\":11}\n{\"sens");
    fs::write(&path, text).unwrap();
    let collector = open(&path, 0);
    assert_eq!(lines(&path), 10);
    assert_eq!(collector.take(&batch("a", 9, 4)).unwrap(), 12);
    assert_eq!(lines(&path), 12);
}

#[test]
fn a_rotation_loses_nothing_and_marks_follow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    for round in 0..20 {
        open(&path, 1_000).take(&batch("a", 1 + round * 5, 5)).unwrap();
    }
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let total: usize = files
        .filter(|path| path.extension().is_none_or(|end| end != "json"))
        .map(|path| lines(&path))
        .sum();
    assert_eq!(total, 100);
    assert!(folder.path().join("out.1").exists());
}

#[test]
fn hostile_batches_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let collector = open(&folder.path().join("out"), 0);
    for bad in [
        batch("", 1, 1),
        batch("a\0b", 1, 1),
        batch(&"x".repeat(200), 1, 1),
        batch("a", 0, 1),
        batch("a", u64::MAX, 2),
    ] {
        assert!(collector.take(&bad).is_err());
    }
    assert_eq!(collector.take(&batch("a", 1, 0)).unwrap(), 0);
    assert_eq!(collector.counts().written, 0);
}

#[test]
fn damaged_marks_are_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("out.marks.json"), "{").unwrap();
    let error = Marks::beside(&folder.path().join("out")).map_err(|error| error.to_string());
    assert!(error.unwrap_err().contains("move it away"));
}
