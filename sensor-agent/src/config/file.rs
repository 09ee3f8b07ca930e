//! The configuration file: YAML to [`Raw`], errors with file and line, and the published JSON Schema.
//!
//! Bound: [`FILE_BYTES_MAX`]; aliases and nesting are bounded by the parser's own budget.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::raw::Raw;

/// Read when `--config` is not given and it is there.
pub const DEFAULT_FILE: &str = "/etc/api-sensor/config.yaml";

/// Larger files are refused: a configuration is a page.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; check the path", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too large to be a configuration.
    #[error("{}: larger than {FILE_BYTES_MAX} bytes, this is not a configuration of sensor-agent", file.display())]
    Large {
        /// The file.
        file: PathBuf,
    },
    /// Not YAML, an unknown key, or a wrong value.
    #[error("{}:{line}:{column}: {problem}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// From 1; 0 when unknown.
        line: u64,
        /// From 1; 0 when unknown.
        column: u64,
        /// What is wrong and what to write.
        problem: String,
    },
    /// A value that cannot be taken, of a key that only the file has.
    #[error("{key}: {problem} (set by `{key}` in the file)")]
    File {
        /// The key.
        key: &'static str,
        /// What is wrong and what to write.
        problem: String,
    },
    /// A value that cannot be taken, wherever it was set.
    #[error("{key}: {problem} (set by `{key}` in the file, SENSOR_{}, or --{})", key.to_uppercase(), key.replace('_', "-"))]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what to write.
        problem: String,
    },
}

/// Reads a configuration file; an empty one sets nothing.
pub fn read(file: &Path) -> Result<Raw, ConfigError> {
    let io_error = |source| ConfigError::Io { file: file.into(), source };
    let meta = fs::metadata(file).map_err(io_error)?;
    if meta.len() > FILE_BYTES_MAX {
        return Err(ConfigError::Large { file: file.into() });
    }
    parse(file, &fs::read_to_string(file).map_err(io_error)?)
}

fn parse(file: &Path, text: &str) -> Result<Raw, ConfigError> {
    let blank = |line: &str| {
        line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---"
    };
    if text.lines().all(blank) {
        return Ok(Raw::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let problem = first_line(&error.without_snippet().to_string());
        ConfigError::Syntax { file: file.into(), line, column, problem: with_suggestion(problem) }
    })
}

/// The message without the position that the parser adds: ours stands in front.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or(message);
    line.split(" at line ").next().unwrap_or(line).to_owned()
}

/// Adds the nearest key to "unknown field" messages.
fn with_suggestion(problem: String) -> String {
    let Some(given) =
        problem.split_once("unknown field `").and_then(|(_, rest)| rest.split('`').next())
    else {
        return problem;
    };
    let near = keys().into_iter().map(|key| (distance(given, &key), key)).min();
    match near {
        Some((edits, key)) if edits <= 3 || key.contains(given) => {
            format!("unknown key `{given}`: did you mean `{key}`?")
        }
        _ => format!("unknown key `{given}`: `sensor-agent config schema` lists what can be set"),
    }
}

fn keys() -> Vec<String> {
    let schema = schemars::schema_for!(Raw);
    let properties = schema.get("properties").and_then(|properties| properties.as_object());
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

/// Edit distance, bounded by the shortness of keys: the given one is cut at 40 characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().take(40).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

/// The JSON Schema of the file, as published in `deploy/config.schema.json`.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("c.yaml"), text).map_err(|error| error.to_string());
        let error = error.expect_err(text);
        assert!(error.starts_with(expected), "{error}\nexpected {expected}");
    }

    #[test]
    fn an_empty_file_sets_nothing() {
        for text in ["", "\n# only a comment\n", "---\n"] {
            assert_eq!(parse(Path::new("c.yaml"), text).ok(), Some(Raw::default()));
        }
    }

    #[test]
    fn errors_name_file_line_and_what_to_write() {
        check(
            "mode: observe\nringbytes: 8MiB\n",
            "c.yaml:2:1: unknown key `ringbytes`: did you mean `ring_bytes`?",
        );
        check(
            "zzzzzzzzzzz: 1\n",
            "c.yaml:1:1: unknown key `zzzzzzzzzzz`: `sensor-agent config schema` lists",
        );
        check(
            "window: 30\n",
            "c.yaml:1:9: `30` is not a length of time; write a number with ms, s, m, h or d",
        );
        check("mode: obey\n", "c.yaml:1:7: unknown variant `obey`, expected");
        check("interfaces: eth0\n", "c.yaml:1:13: ");
        check("mode: [\n", "c.yaml:");
        check("- a\n- b\n", "c.yaml:1:1: ");
    }

    #[test]
    fn hostile_files_are_refused_not_expanded() {
        let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for pair in "abcdefghi".as_bytes().windows(2) {
            let (from, to) = (char::from(pair[0]), char::from(pair[1]));
            bomb.extend([format!("{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n")]);
        }
        assert!(parse(Path::new("c.yaml"), &bomb).is_err());
        let deep = format!("mode: {}", "[".repeat(100_000));
        assert!(parse(Path::new("c.yaml"), &deep).is_err());
    }

    #[test]
    fn the_example_is_valid_and_says_the_defaults() {
        let file = Path::new("../deploy/config.example.yaml");
        let example = Config::resolve(read(file).expect("valid")).expect("resolves");
        let defaults = Config::resolve(Raw::default()).expect("resolves");
        let shown = |config: &Config| {
            let Config { store, socket, .. } = config.clone();
            (store, socket)
        };
        // Places of a user that is not root are others.
        let places = shown(&example);
        let example =
            Config { store: defaults.store.clone(), socket: defaults.socket.clone(), ..example };
        assert_eq!(format!("{example:?}"), format!("{defaults:?}"));
        assert_eq!(places, ("/var/lib/api-sensor".into(), "/run/api-sensor/agent.sock".into()));
    }

    #[test]
    fn the_published_schema_is_current() {
        let published = include_str!("../../../deploy/config.schema.json");
        let current = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
        assert!(
            published.trim_end() == current,
            "run: sensor-agent config schema > deploy/config.schema.json"
        );
    }
}
