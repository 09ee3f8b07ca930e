//! The store survives restarts, damage, and a disk that refuses.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

const NOW: u64 = 1_800_000_000_000_000_000;

fn open(
    folder: &std::path::Path,
    now: u64,
) -> Result<(Keeper, Contents, InstallationIdentity), OpenError> {
    let opened = Opened::open(folder, now)?;
    let identity = opened.identity.clone();
    let (keeper, contents) = opened.start().unwrap();
    Ok((keeper, contents, identity))
}

fn batch(keys: &[&str]) -> Batch {
    let put = keys.iter().map(|key| Row {
        table: Table::Endpoints,
        key: (*key).to_owned(),
        last_seen: 7,
        body: key.as_bytes().to_vec(),
    });
    let attachment = Some(Attachment { from: NOW, to: NOW + 1, heads_lost: 0, weight_max: 1 });
    Batch {
        put: put.collect(),
        attachment,
        ledger: Some(LedgerTotals {
            from: NOW,
            to: NOW,
            counts: vec![("kernel".into(), "emitted".into(), 5)],
        }),
        ..Batch::default()
    }
}

fn keys(contents: &Contents) -> Vec<&str> {
    contents.records.iter().map(|row| row.1.as_str()).collect()
}

#[test]
fn records_and_identity_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/by/us");
    let (keeper, contents, first) = open(&folder, NOW).unwrap();
    assert!(contents.records.is_empty());
    assert!(keeper.offer(batch(&["a", "b"]), NOW).is_none());
    let status = keeper
        .close(Batch { remove: vec![(Table::Endpoints, "a".into())], ..Batch::default() }, NOW + 5);
    assert_eq!((status.committed_unix_ns, status.error, status.set_aside), (NOW + 5, None, None));
    let (keeper, contents, second) = open(&folder, NOW).unwrap();
    assert_eq!((keys(&contents), first), (vec!["b"], second));
    assert_eq!(contents.attachments.len(), 1);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&keeper.status().path)), (0o700, 0o600));
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_existing(folder.path()), Err(OpenError::Absent(_))));
    let (keeper, ..) = open(folder.path(), NOW).unwrap();
    assert!(matches!(Store::open_existing(folder.path()), Err(OpenError::Busy(_))));
    assert!(matches!(open(folder.path(), NOW), Err(OpenError::Busy(_))));
    keeper.close(batch(&["a"]), NOW);
    assert_eq!(keys(&Store::open_existing(folder.path()).unwrap().load().unwrap()), ["a"]);
}

#[test]
fn a_damaged_store_is_set_aside_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.redb");
    for (round, damage) in
        [b"not a store".to_vec(), vec![0xff; 4096], vec![0; 100_000]].into_iter().enumerate()
    {
        fs::write(&file, damage).unwrap();
        let (keeper, contents, _) =
            open(folder.path(), NOW + round as u64 * 1_000_000_000).unwrap();
        assert!(contents.records.is_empty());
        let status = keeper.close(batch(&["x"]), NOW);
        assert!(status.set_aside.unwrap().exists());
    }
}

#[test]
fn every_cut_of_a_store_opens_or_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.redb");
    let (keeper, ..) = open(folder.path(), NOW).unwrap();
    keeper.close(batch(&["a", "b", "c"]), NOW);
    let whole = fs::read(&file).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 23 + 1) {
        fs::write(&file, &whole[..cut]).unwrap();
        let (keeper, ..) = open(folder.path(), NOW + cut as u64 * 1_000_000_000).unwrap();
        keeper.close(Batch::default(), NOW);
    }
    let aside = fs::read_dir(folder.path()).unwrap().count() - 1;
    assert!(aside <= 4, "{aside} set aside");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let error = open(std::path::Path::new("/proc/nowhere"), NOW).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere"), "{error}");
}

#[test]
fn flipped_bytes_never_stop_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inventory.redb");
    let keys: Vec<String> = (0..300).map(|number| format!("key {number}")).collect();
    let (keeper, ..) = open(folder.path(), NOW).unwrap();
    keeper.close(batch(&keys.iter().map(String::as_str).collect::<Vec<_>>()), NOW);
    let whole = fs::read(&file).unwrap();
    for round in 0..40 {
        let mut damaged = whole.clone();
        for hit in 0..=round % 8 {
            let at = (round * 7_919 + hit * 104_729) % damaged.len();
            damaged[at] ^= 1 << (round % 8);
        }
        fs::write(&file, &damaged).unwrap();
        let (keeper, ..) = open(folder.path(), NOW + round as u64 * 1_000_000_000).unwrap();
        let status = keeper.close(batch(&["x"]), NOW);
        assert_eq!(status.error, None, "round {round}");
    }
}
