//! Rules on files: a `//!` header, at most 600 lines, no stub, no path of somebody's machine.

use std::fs;

use anyhow::{Result, bail};

use super::{is_rust, tracked};
use crate::process::{root, say};

/// Longest Rust file; generated code is exempt.
const LINES_MAX: usize = 600;

/// Checks every tracked file.
pub(super) fn check() -> Result<()> {
    let mut wrong = vec![];
    let mut rust_files = 0_usize;
    for file in tracked()? {
        let Ok(text) = fs::read_to_string(root().join(&file)) else {
            continue; // not text
        };
        for (number, line) in text.lines().enumerate() {
            if leaks_a_path(line) {
                wrong.push(format!("{file}:{}: a path of somebody's machine", number + 1));
            }
        }
        if is_rust(&file) && !file.contains("/generated/") {
            rust_files += 1;
            wrong.extend(rust_file(&file, &text));
        }
    }
    if wrong.is_empty() {
        say(&format!("source files: {rust_files} Rust files, headers and lengths as agreed"));
        return Ok(());
    }
    bail!("\n  {}", wrong.join("\n  "))
}

fn rust_file(file: &str, text: &str) -> Vec<String> {
    let mut wrong = vec![];
    // Tests that stand beside a file are described by it.
    if !text.starts_with("//!") && !file.ends_with("tests.rs") {
        wrong.push(format!("{file}: does not open with `//!`: what it turns into what, its bound"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file}: {lines} lines, more than {LINES_MAX}: one concern each"));
    }
    // Spelt apart, so that this file is not its own finding.
    if text.contains(concat!("#[", "allow(")) {
        wrong.push(format!("{file}: use #[expect(lint, reason = \"..\")]"));
    }
    wrong
}

/// A home or work folder that names a person or a machine: at the start of a path, not inside a URL.
fn leaks_a_path(line: &str) -> bool {
    let roots = [concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    roots.iter().any(|root| {
        line.match_indices(root).any(|(at, _)| {
            let starts = line
                .get(..at)
                .and_then(|before| before.chars().next_back())
                .is_none_or(|before| " \"'`(=:".contains(before));
            let named = line
                .get(at + root.len()..)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
            starts && named && !REQUESTS.iter().any(|verb| line.contains(verb))
        })
    })
}

/// A line with one of these speaks of a request's path.
const REQUESTS: &[&str] = &["GET ", "POST ", "PUT ", "DELETE ", "HTTP/1.1", "http://"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_folder_is_a_leak_and_a_web_path_is_not() {
        assert!(leaks_a_path(concat!("cd /ho", "me/someone/src")));
        assert!(leaks_a_path(concat!("see \"/wo", "rk/x\"")));
        assert!(!leaks_a_path("GET /api/work/items"));
    }

    #[test]
    fn a_file_without_a_header_is_named() {
        assert_eq!(rust_file("a.rs", "fn main() {}\n").len(), 1);
        assert!(rust_file("a.rs", "//! Turns x into y.\nfn main() {}\n").is_empty());
    }
}
