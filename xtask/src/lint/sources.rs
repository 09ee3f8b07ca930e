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
    if !text.starts_with("//!") {
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

/// A home or work folder that names a person or a machine.
fn leaks_a_path(line: &str) -> bool {
    let homes = [concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let named = homes.iter().any(|home| {
        line.split(home).skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    });
    let roots = [concat!(" /wo", "rk/"), concat!("\"/wo", "rk/"), concat!("`/wo", "rk/")];
    named || line.starts_with(concat!("/wo", "rk/")) || roots.iter().any(|root| line.contains(root))
}

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
