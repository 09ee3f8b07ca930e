//! Bytes of a YAML or JSON document to a pruned tree of values.
//!
//! What no later step looks at (schemas, examples, responses, texts) is skipped while parsing and never held, so a
//! document of 50 MB costs what its paths cost. Duplicate keys are an error in both formats. Alias bombs, nesting and
//! size are bounded ([`super::limits`], and serde-saphyr's budgets).

use std::{cell::RefCell, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};
use serde_saphyr::{
    Options,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};

use super::{
    error::Problem,
    limits::{DEPTH_KEPT_MAX, DEPTH_MAX, DOCUMENT_BYTES_MAX, VALUES_MAX},
    pointer::push_token,
};
use crate::yaml::one_line;

/// Why a document could not be read, and where.
#[derive(Debug)]
pub(super) struct ReadError {
    pub(super) line: Option<u64>,
    pub(super) pointer: String,
    pub(super) problem: Problem,
}

/// Reads one document. JSON where the name says so or the text starts like it, else YAML.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Value, ReadError> {
    let whole = |problem| ReadError { line: None, pointer: String::new(), problem };
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(whole(Problem::TooLarge { bytes: bytes.len() }));
    }
    let text = as_text(bytes).map_err(whole)?;
    let named_json = ends_with(name, ".json");
    let looks_json = text.trim_start().starts_with(['{', '[']);
    if named_json || (looks_json && !ends_with(name, ".yaml") && !ends_with(name, ".yml")) {
        return read_json(text);
    }
    if looks_json {
        // JSON in a file called YAML is common, and ten times faster to read as JSON.
        return read_json(text).or_else(|_| read_yaml(text));
    }
    read_yaml(text)
}

/// UTF-8 without a byte order mark.
pub(super) fn as_text(bytes: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn ends_with(name: &str, extension: &str) -> bool {
    name.len() >= extension.len()
        && name.is_char_boundary(name.len() - extension.len())
        && name[name.len() - extension.len()..].eq_ignore_ascii_case(extension)
}

fn read_json(text: &str) -> Result<Value, ReadError> {
    let track = Track::default();
    let mut parser = serde_json::Deserializer::from_str(text);
    let result = Seed { track: &track, keep: Keep::Any, depth: 0 }.deserialize(&mut parser);
    result.and_then(|value| parser.end().map(|()| value)).map_err(|error| {
        let line = u64::try_from(error.line()).ok().filter(|line| *line > 0);
        // serde_json appends its own " at line X column Y".
        let mut message = error.to_string();
        if let Some(at) = message.rfind(" at line ") {
            message.truncate(at);
        }
        track.fail(line, &message)
    })
}

fn read_yaml(text: &str) -> Result<Value, ReadError> {
    let track = Track::default();
    let result = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        yaml_options(text.len()),
        |parser| Seed { track: &track, keep: Keep::Any, depth: 0 }.deserialize(parser),
    );
    result.map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
        track.fail(line, &error.to_string())
    })
}

/// Options that bound the parser's work in proportion to the input, and read scalars as YAML 1.2 does.
pub(super) fn yaml_options(input_bytes: usize) -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // A value takes two bytes at least, so an honest document is never near these.
            max_events: input_bytes.saturating_mul(2).max(100_000),
            max_nodes: input_bytes.saturating_mul(2).max(100_000),
            max_depth: DEPTH_MAX,
            max_documents: 1,
            max_anchors: 10_000,
            max_aliases: 10_000,
            max_total_scalar_bytes: DOCUMENT_BYTES_MAX.saturating_mul(2),
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

/// Where the parser is, how much it has kept, and which of our own limits it met.
#[derive(Default)]
struct Track {
    path: RefCell<Vec<String>>,
    kept: RefCell<usize>,
    problem: RefCell<Option<Problem>>,
}

impl Track {
    fn fail(self, line: Option<u64>, message: &str) -> ReadError {
        let mut pointer = String::new();
        for token in self.path.into_inner() {
            push_token(&mut pointer, &token);
        }
        let problem =
            self.problem.into_inner().unwrap_or_else(|| Problem::Syntax(one_line(message)));
        ReadError { line, pointer, problem }
    }

    fn stop<E: serde::de::Error>(&self, problem: Problem) -> E {
        let error = E::custom(&problem);
        *self.problem.borrow_mut() = Some(problem);
        error
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut kept = self.kept.borrow_mut();
        *kept += 1;
        if *kept > VALUES_MAX { Err(self.stop(Problem::TooManyValues)) } else { Ok(()) }
    }
}

/// What to keep below a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All but what is known to be heavy and unused.
    Any,
    /// Names chosen by the author: keep each, and prune below.
    Names,
    /// An operation: only what the catalogue reads.
    Operation,
    /// Everything (servers, whose variables have free names).
    All,
    /// Nothing.
    Skip,
}

impl Keep {
    fn below(self, key: &str) -> Self {
        match self {
            Self::All => Self::All,
            Self::Names => Self::Any,
            Self::Skip => Self::Skip,
            Self::Operation => match key {
                "operationId" | "deprecated" | "servers" | "$ref" | "x-sunset" | "x-owner"
                | "x-internal" => Self::All,
                _ => Self::Skip,
            },
            Self::Any => match key {
                "servers" => Self::All,
                "paths" | "pathItems" => Self::Names,
                "get" | "put" | "post" | "delete" | "options" | "head" | "patch" | "trace"
                | "query" => Self::Operation,
                _ if SKIPPED.contains(&key) => Self::Skip,
                _ => Self::Any,
            },
        }
    }
}

/// Fields that no step of the catalogue reads.
const SKIPPED: &[&str] = &[
    "callbacks",
    "content",
    "definitions",
    "description",
    "example",
    "examples",
    "externalDocs",
    "headers",
    "links",
    "parameters",
    "properties",
    "requestBodies",
    "requestBody",
    "responses",
    "schema",
    "schemas",
    "security",
    "securityDefinitions",
    "securitySchemes",
    "summary",
    "tags",
    "webhooks",
    "x-codeSamples",
    "x-code-samples",
    "x-tagGroups",
];

struct Seed<'t> {
    track: &'t Track,
    keep: Keep,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.track.count()?;
        if self.depth > DEPTH_KEPT_MAX {
            IgnoredAny::deserialize(deserializer)?;
            return Ok(Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::String(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        loop {
            self.track.path.borrow_mut().push(values.len().to_string());
            let next = seq.next_element_seed(Seed {
                track: self.track,
                keep: self.keep,
                depth: self.depth + 1,
            })?;
            self.track.path.borrow_mut().pop();
            match next {
                Some(value) => values.push(value),
                None => return Ok(Value::Array(values)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let keep = self.keep.below(&key);
            self.track.path.borrow_mut().push(key.clone());
            if map.contains_key(&key) {
                return Err(self.track.stop(Problem::DuplicateKey(key)));
            }
            let value = if keep == Keep::Skip {
                access.next_value::<IgnoredAny>()?;
                Value::Null
            } else {
                access.next_value_seed(Seed { track: self.track, keep, depth: self.depth + 1 })?
            };
            self.track.path.borrow_mut().pop();
            if keep != Keep::Skip {
                map.insert(key, value);
            }
        }
        Ok(Value::Object(map))
    }
}
