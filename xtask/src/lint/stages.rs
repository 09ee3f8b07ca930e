//! Direction inside core: a stage uses only stages above it in the table of the README.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, bail};

use super::{is_rust, tracked};
use crate::process::{root, say};

/// Modules of core from the wire inwards; a module may use its own level and those before it.
const LEVELS: &[&[&str]] = &[
    &[
        "bytes",
        "counts",
        "csv",
        "digest",
        "glob",
        "keyed_hash",
        "limits",
        "shape",
        "state",
        "time",
        "yaml",
    ],
    &["sample"],
    &["flow", "http"],
    &["locality"],
    &["catalogue", "policy"],
    &["inventory"],
    &["finding"],
    &["event"],
    &["pipeline"],
];

/// What core must not know: the outside world.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "println!",
    "eprintln!",
    "tracing::",
    "tokio::",
];

/// Checks every file of core.
pub(super) fn check() -> Result<()> {
    let mut wrong = vec![];
    let mut seen = BTreeSet::new();
    for file in tracked()? {
        let Some(inner) = file.strip_prefix("sensor-agent/core/src/") else { continue };
        let Some(module) = inner.split('/').next().map(|name| name.trim_end_matches(".rs")) else {
            continue;
        };
        if !is_rust(&file) || module == "lib" {
            continue;
        }
        let text = fs::read_to_string(root().join(&file))?;
        let Some(own) = level(module) else {
            wrong.push(format!(
                "{file}: `{module}` is no stage; add it to the table and the README"
            ));
            continue;
        };
        seen.insert(module.to_owned());
        let is_test = inner.contains("test");
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in used_modules(line) {
                if !is_test && level(used).is_some_and(|used| used > own) {
                    let at = number + 1;
                    wrong.push(format!("{file}:{at}: `{module}` uses `{used}`, a later stage"));
                }
            }
            let impure = IMPURE.iter().find(|impure| line.contains(**impure));
            if let Some(impure) = impure.filter(|_| !is_test) {
                wrong.push(format!("{file}:{}: core is pure, not `{impure}`", number + 1));
            }
        }
    }
    if wrong.is_empty() {
        say(&format!("stages of core: {} modules, each uses only earlier ones", seen.len()));
        return Ok(());
    }
    bail!("\n  {}", wrong.join("\n  "))
}

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&module))
}

/// Modules named as `crate::NAME` in a line.
fn used_modules(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).filter_map(|rest| {
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .next()
            .filter(|n| !n.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_a_path_are_found() {
        let line = "use crate::sample::Sample; use crate::http;";
        assert_eq!(used_modules(line).collect::<Vec<_>>(), ["sample", "http"]);
    }

    #[test]
    fn an_inventory_may_use_a_sample_and_not_the_reverse() {
        assert!(level("sample") < level("inventory"));
        assert_eq!(level("helpers"), None);
    }
}
