//! A service that mints names without end: the real `replay` stays below a stated bound, however many there are.

use std::{
    fs,
    io::{BufWriter, Write as _},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use sensor_tests::lab::agent_binary;

/// Resident memory that one service can take at most, whatever it is asked.
const PEAK_KIB_MAX: u64 = 64 << 10;
/// Memory may be this much more at four times as many paths.
const FLAT: f64 = 1.25;

/// The highest resident memory of `replay` on so many distinct paths, in KiB.
fn peak(paths: usize, path: fn(usize) -> String) -> u64 {
    let mut child = Command::new(agent_binary().unwrap())
        .args(["replay", "-", "--emit", "inventory"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let mut input = BufWriter::new(input);
        for number in 0..paths {
            writeln!(
                input,
                r#"{{"method":"GET","host":"api.example","path":"{}","status":200,"server":"10.0.0.1:80","content_type":"application/json"}}"#,
                path(number)
            )
            .unwrap();
        }
    });
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        thread::sleep(Duration::from_millis(10));
    }
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    peak
}

/// A name that is no number: letters only.
fn name(number: usize) -> String {
    let mut rest = number.wrapping_mul(2_654_435_761) % (1 << 32);
    (0..8)
        .map(|_| {
            let letter = char::from(b'a' + u8::try_from(rest % 26).unwrap());
            rest /= 26;
            letter
        })
        .chain(['-'])
        .chain(number.to_string().chars().map(|digit| char::from(digit as u8 + 49)))
        .collect()
}

fn check(path: fn(usize) -> String) {
    let (some, many) = (peak(250_000, path), peak(1_000_000, path));
    assert!(many < PEAK_KIB_MAX, "{many} KiB");
    #[expect(clippy::cast_precision_loss, reason = "KiB")]
    let ratio = many as f64 / some as f64;
    assert!(ratio < FLAT && some > 0, "{some} KiB at a quarter of them, {many} KiB");
}

#[test]
fn memory_is_flat_under_a_million_paths_of_one_service() {
    check(|number| format!("/v1/files/{}/parts/{}", name(number), number % 7));
}

#[test]
fn memory_is_flat_under_a_million_first_segments() {
    check(|number| format!("/{}", name(number)));
}
