//! Rules on the dependency tree: its size, its licences, the direction between our own crates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::{cargo, output, say};

/// Crates in the agent's default tree, ours included, at most this many less one.
const CRATES_MAX: usize = 220;

/// What each of our crates may depend on, tests aside.
const DIRECTION: &[(&str, &[&str])] = &[
    ("sensor-ebpf", &[]),
    ("sensor-proto", &[]),
    ("sensor-core", &["sensor-ebpf"]),
    ("sensor-agent", &["sensor-core", "sensor-ebpf", "sensor-proto"]),
    ("sensor-tests", &["sensor-agent", "sensor-core", "sensor-ebpf", "sensor-proto"]),
    ("xtask", &[]),
];

/// Licences that may be linked into the agent.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Checks the three rules and prints the count.
pub(super) fn check() -> Result<()> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("metadata without packages")?;

    let mut wrong = direction(packages);
    let tree = default_tree()?;
    say(&format!(
        "dependency tree: {} crates in the agent's default tree (limit {CRATES_MAX})",
        tree.len()
    ));
    if tree.len() >= CRATES_MAX {
        wrong
            .push(format!("{} crates, {CRATES_MAX} or more: make something a feature", tree.len()));
    }
    let licences: BTreeMap<&str, &str> = packages
        .iter()
        .filter_map(|package| {
            Some((package["name"].as_str()?, package["license"].as_str().unwrap_or("")))
        })
        .collect();
    for (name, _) in &tree {
        let licence = licences.get(name.as_str()).copied().unwrap_or("");
        if !name.starts_with("sensor-") && !is_allowed(licence) {
            wrong.push(format!("{name}: licence `{licence}` is not on the list"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("\n  {}", wrong.join("\n  "))
}

/// Name and version of each crate that `cargo build` compiles for the agent.
fn default_tree() -> Result<BTreeSet<(String, String)>> {
    let listed = output(cargo().args([
        "tree",
        "-p",
        "sensor-agent",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--locked",
    ]))?;
    Ok(listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect())
}

fn direction(packages: &[Value]) -> Vec<String> {
    let ours: BTreeSet<&str> = DIRECTION.iter().map(|(name, _)| *name).collect();
    let mut wrong = vec![];
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or("");
        let Some((_, allowed)) = DIRECTION.iter().find(|(own, _)| *own == name) else {
            wrong.push(format!("{name}: a crate of ours that the direction table does not know"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or("");
            let tests_only = dependency["kind"] == "dev";
            if !tests_only && ours.contains(used) && !allowed.contains(&used) {
                wrong.push(format!("{name} must not depend on {used}"));
            }
        }
    }
    wrong
}

/// An SPDX expression of `OR`, `AND` and brackets: is there a choice that is wholly allowed?
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    // Brackets are only ever put around OR inside AND or around AND inside OR, so with both words
    // present each licence on its own must do, unless one whole alternative does.
    plain
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_allowed_alternative_is_enough() {
        assert!(is_allowed("MIT OR Apache-2.0"));
        assert!(is_allowed("GPL-3.0 OR MIT"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_allowed("GPL-3.0"));
        assert!(!is_allowed("MIT AND GPL-3.0"));
        assert!(!is_allowed(""));
    }
}
