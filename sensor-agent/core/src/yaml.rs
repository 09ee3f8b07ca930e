//! YAML of operators (policy, bindings) to types, with budgets against alias bombs and errors of one line.

use serde::de::DeserializeOwned;
use serde_saphyr::{Options, options::DuplicateKeyPolicy};

/// Why a text was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// Line, from 1, where known.
    pub(crate) line: Option<u64>,
    /// One printable line.
    pub(crate) message: String,
}

/// Reads a text; duplicate keys, aliases beyond a few thousand and nesting beyond 32 are errors.
pub(crate) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    serde_saphyr::from_str_with_options(text, options(text.len())).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        let mut message = one_line(&error.to_string());
        // The place is told before the message.
        if let Some(at) = message.rfind(" at line ").filter(|_| line.is_some()) {
            message.truncate(at);
        }
        // What the parser's options are called says nothing to who wrote the file.
        if let Some(rest) = message.strip_prefix("duplicate mapping key: ") {
            let key = rest.split(", set ").next().unwrap_or(rest);
            message = format!("the key `{key}` is there twice; remove one");
        }
        YamlError { line, message }
    })
}

fn options(input_bytes: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // A value takes two bytes at least, so an honest file is never near these.
            max_events: input_bytes.saturating_mul(2).max(100_000),
            max_nodes: input_bytes.saturating_mul(2).max(100_000),
            max_depth: 32,
            max_documents: 1,
            max_anchors: 1_000,
            max_aliases: 1_000,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Makes one printable line of a parser's message, at most 300 characters.
pub(crate) fn one_line(message: &str) -> String {
    let words = message
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = line.char_indices().nth(300) {
        line.truncate(at);
        line.push_str("...");
    }
    line
}
