//! Policies that are meant to take all memory: the real `policy check` says what they come to, or why not, within a stated bound.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Read as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use sensor_tests::lab::agent_binary;
use serde_json::Value;

/// Of 200 000 prefixes: the image is built twice as large as it is in the kernel.
const OVERLAPPING_KIB_MAX: u64 = 256 << 10;
/// Of a file that is refused.
const REFUSED_KIB_MAX: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_mins(2);

/// What a check came to.
struct Checked {
    code: Option<i32>,
    said: String,
    peak_kib: u64,
}

/// Runs `policy check` on a file, with nobody to ask.
fn check(folder: &Path, arguments: &[&str]) -> Checked {
    let mut child = Command::new(agent_binary().unwrap())
        .args(["policy", "check"])
        .arg(folder.join("policy.yaml"))
        .args(arguments)
        .args(["--socket".as_ref(), folder.join("nobody.sock").as_os_str()])
        .args(["--store".as_ref(), folder.join("store").as_os_str()])
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let mut said = String::new();
        out.read_to_string(&mut said).unwrap();
        err.read_to_string(&mut said).unwrap();
        said
    });
    let status = format!("/proc/{}/status", child.id());
    let (started, mut peak_kib) = (Instant::now(), 0);
    let code = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended.code();
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak_kib = peak_kib.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(5));
    };
    Checked { code, said: reader.join().unwrap(), peak_kib }
}

/// Prefixes of one length around addresses all over; those of another length lie around the same.
fn prefixes(len: u32, count: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        let address = number.wrapping_mul(0x9e37_79b1) & (u32::MAX << (32 - len));
        writeln!(text, "{}/{len}", Ipv4Addr::from(address)).unwrap();
    }
    text
}

#[test]
fn two_hundred_thousand_overlapping_prefixes_are_loaded_within_the_bound_and_counted() {
    const LENGTHS: std::ops::RangeInclusive<u32> = 13..=32;
    const EACH: u32 = 10_000;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    // Each prefix lies within one of every shorter length, and each length is a rule of its own ports: none may stand for another.
    let mut policy = String::from("block:\n");
    for len in LENGTHS {
        file(&format!("{len}.txt"), &prefixes(len, EACH));
        writeln!(
            policy,
            "  - {{id: l{len}, ports: [{}], lists: [{{file: {len}.txt}}], force: true}}",
            1_000 + len
        )
        .unwrap();
    }
    file("policy.yaml", &policy);
    let checked = check(folder.path(), &["--json"]);
    assert_eq!(checked.code, Some(0), "{}", checked.said);
    let report: Value = serde_json::from_str(&checked.said).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let lists = report["lists"].as_array().unwrap();
    let sum = |field: &str| lists.iter().map(|list| number(&list[field])).sum::<u64>();
    let kernel = &report["kernel"];
    eprintln!(
        "{} lines, {} entries, {} merged; {} in the kernel, {} merged there, {} KiB; peak {} KiB",
        sum("lines"),
        sum("entries"),
        sum("merged"),
        kernel["block"],
        kernel["merged"],
        number(&kernel["bytes"]) / 1024,
        checked.peak_kib
    );
    assert_eq!(sum("lines"), 200_000);
    assert_eq!(sum("entries") + sum("merged"), 200_000, "{report:#}");
    assert_eq!(number(&kernel["block"]) + number(&kernel["merged"]), sum("entries"), "{report:#}");
    assert!(checked.peak_kib < OVERLAPPING_KIB_MAX, "{} KiB", checked.peak_kib);
    // The innermost prefix hides none of those around it: each decides about its own port.
    let within = Ipv4Addr::from(0x9e37_79b1_u32.wrapping_mul(777));
    for len in [13, 22, 32] {
        let asked = Command::new(agent_binary().unwrap())
            .args(["policy", "explain", &format!("{within}:{}", 1_000 + len), "--json", "--file"])
            .arg(folder.path().join("policy.yaml"))
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&asked.stdout).unwrap();
        assert_eq!(answer["packets"][0]["rule"], format!("l{len}"), "{answer:#}");
    }
}

#[test]
fn a_list_file_of_a_gibibyte_is_refused_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("policy.yaml"),
        "block:\n  - {id: one, lists: [{file: one.txt}]}\n",
    )
    .unwrap();
    let sparse = |bytes: u64| {
        File::create(folder.path().join("one.txt")).unwrap().set_len(bytes).unwrap();
        check(folder.path(), &[])
    };
    // Over the limit of bytes it is not opened; at the limit it is read up to its first line, which has no end.
    for (bytes, why) in [
        ((1 << 30) + 1, "1073741825 bytes are over the limit of 1073741824 bytes"),
        (1 << 30, "one.txt:1: "),
    ] {
        let Checked { code, said, peak_kib } = sparse(bytes);
        eprintln!("{bytes} bytes, peak {peak_kib} KiB: {}", said.trim());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(peak_kib < REFUSED_KIB_MAX, "{peak_kib} KiB");
    }
}
