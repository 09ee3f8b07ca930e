//! What is secret in paths: none of it is in any output of `replay` but the raw ones that are asked for by name.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use sensor_tests::{lab::agent_binary, secrets::Secrets};

/// Runs `replay - ARGUMENTS` on one request for each path; what it wrote anywhere.
fn replay(paths: &[String], arguments: &[&str]) -> Vec<u8> {
    let mut child = Command::new(agent_binary().unwrap())
        .args(["replay", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let paths = paths.to_vec();
    let writer = std::thread::spawn(move || {
        for (number, path) in paths.iter().enumerate() {
            // One in ten shows nothing but that somebody asked.
            let status = [200, 200, 201, 404, 401, 500, 200, 200, 204, 302][number % 10];
            writeln!(
                input,
                r#"{{"method":"GET","host":"api.example","path":"{path}","status":{status},"client":"192.0.2.1:1","server":"10.0.0.1:80","content_type":"application/json"}}"#
            )
            .unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    [output.stdout, output.stderr].concat()
}

#[test]
fn a_thousand_of_each_class_are_in_no_output_but_the_raw_one() {
    let secrets = Secrets::new(1_000, 42);
    let paths = secrets.paths();
    for arguments in [
        &[][..],
        &["--all"],
        &["--emit", "inventory"],
        &["--emit", "inventory", "--all"],
        &["--emit", "events"],
        &["--emit", "coverage"],
    ] {
        let written = replay(&paths, arguments);
        let found = secrets.found_in(&written);
        assert!(found.is_empty(), "{arguments:?}: {found:?}");
    }
    let raw = replay(&paths, &["--emit", "exchanges"]);
    assert_eq!(secrets.found_in(&raw).len(), 5_000, "the search finds what is there");
}
