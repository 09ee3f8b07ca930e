//! The file of pins to [`Pins`]: YAML, each mistake with its line, and one refuses the file.
//!
//! ```yaml
//! version: 1
//! templates:
//!   - hosts: [api.example.com, "*.shop.example"]   # none: every service
//!     pin: ["/users/{user_id}", "/files/{name}.json"]
//!     split: [/users/export, "/orgs/{any}/settings"]
//!     rename: ["/repos/{owner}/{repo}"]
//! ```
//! Bounds: [`PINS_BYTES_MAX`], [`PINS_MAX`], [`HOSTS_MAX`] hosts of a group, [`SEGMENTS_MAX`] segments of a template.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::path::decoded;
use super::{Group, Pin, Pins, Segment, ranks};
use crate::{
    catalogue::HostPattern,
    limits::{PINS_BYTES_MAX, PINS_MAX},
    yaml::{self, one_line},
};

/// Hosts of one group.
const HOSTS_MAX: usize = 256;
/// Segments of one template.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one template.
const TEMPLATE_BYTES_MAX: usize = 512;
/// Mistakes that are told.
const ERRORS_MAX: usize = 20;

/// A mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinsError {
    /// Line, from 1, where known.
    pub line: Option<u64>,
    /// What is wrong and what to write.
    pub message: String,
}

/// All mistakes of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PinsErrors {
    /// The file.
    pub file: String,
    /// In the order of the file.
    pub errors: Vec<PinsError>,
}

impl fmt::Display for PinsErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.errors.iter().enumerate() {
            let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
            let end = if number == 0 { "" } else { "\n" };
            write!(out, "{end}{}{line}: {}", self.file, error.message)?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    version: u32,
    #[serde(default)]
    templates: Vec<RawGroup>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pin: Vec<Spanned<String>>,
    #[serde(default)]
    split: Vec<Spanned<String>>,
    #[serde(default)]
    rename: Vec<Spanned<String>>,
}

impl Pins {
    /// Reads a file; `name` is for the errors.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self, PinsErrors> {
        let mut errors = Vec::new();
        let pins = read(bytes, &mut errors);
        errors.truncate(ERRORS_MAX);
        match pins.filter(|_| errors.is_empty()) {
            Some(pins) => Ok(pins),
            None => Err(PinsErrors { file: name.to_owned(), errors }),
        }
    }
}

fn read(bytes: &[u8], errors: &mut Vec<PinsError>) -> Option<Pins> {
    let mut wrong = |line: Option<u64>, message: String| errors.push(PinsError { line, message });
    if bytes.len() > PINS_BYTES_MAX {
        wrong(None, format!("{} bytes are over the limit of {PINS_BYTES_MAX}", bytes.len()));
        return None;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        wrong(None, "is not UTF-8".to_owned());
        return None;
    };
    let raw: RawFile = match yaml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => {
            wrong(error.line, error.message);
            return None;
        }
    };
    if raw.version != 1 {
        wrong(None, format!("version {} is not known: write version: 1", raw.version));
        return None;
    }
    let mut pins = Pins::default();
    for raw in raw.templates {
        let group = group(raw, &mut wrong);
        let of = |pins: &BTreeMap<usize, Vec<Pin>>| pins.values().map(Vec::len).sum::<usize>();
        pins.count += of(&group.pins) + group.splits.len() + group.renames.len();
        pins.groups.push(group);
    }
    if pins.count > PINS_MAX {
        wrong(None, format!("{} templates are over the limit of {PINS_MAX}", pins.count));
    }
    Some(pins)
}

fn group(raw: RawGroup, wrong: &mut impl FnMut(Option<u64>, String)) -> Group {
    let mut group = Group::default();
    if raw.hosts.len() > HOSTS_MAX {
        let line = raw.hosts.first().map(|host| host.referenced.line());
        wrong(line, format!("{} hosts are over the limit of {HOSTS_MAX}", raw.hosts.len()));
    }
    for host in raw.hosts {
        if let Some(pattern) = HostPattern::parse(&host.value) {
            group.hosts.push(pattern);
        } else {
            let text = one_line(&host.value);
            let why = "is no host: write a name or address without port, such as api.example.com or *.example.com";
            wrong(Some(host.referenced.line()), format!("`{text}` {why}"));
        }
    }
    let mut shapes: BTreeMap<String, u64> = BTreeMap::new();
    for pin in templates(raw.pin, wrong) {
        if let Some(first) = shapes.insert(pin.shape(), pin.line) {
            wrong(Some(pin.line), format!("is the same template as that of line {first}"));
        }
        group.pins.entry(pin.segments.len()).or_default().push(pin);
    }
    for pins in group.pins.values_mut() {
        pins.sort_by_key(|pin| std::cmp::Reverse(ranks(pin)));
    }
    for pin in templates(raw.split, wrong) {
        if pin.segments.last().is_none_or(|last| !last.is_literal()) {
            let why = "ends in a parameter: a split names a literal that stays, such as /users/me";
            wrong(Some(pin.line), why.to_owned());
        }
        group.splits.push(pin);
    }
    for pin in templates(raw.rename, wrong) {
        if pin.segments.iter().all(Segment::is_literal) {
            let why = "has no parameter to rename: write its template, such as /users/{login}";
            wrong(Some(pin.line), why.to_owned());
        }
        let line = pin.line;
        if let Some(first) = group.renames.insert(pin.shape(), pin) {
            wrong(Some(line), format!("is the same template as that of line {}", first.line));
        }
    }
    group
}

fn templates(raw: Vec<Spanned<String>>, wrong: &mut impl FnMut(Option<u64>, String)) -> Vec<Pin> {
    let mut pins = Vec::new();
    for text in raw {
        let line = text.referenced.line();
        match template(&text.value) {
            Ok(segments) => pins.push(Pin { segments, line }),
            Err(why) => wrong(Some(line), format!("`{}` {why}", one_line(&text.value))),
        }
    }
    pins
}

fn template(text: &str) -> Result<Vec<Segment>, &'static str> {
    let Some(path) = text.strip_prefix('/') else { return Err("does not begin with /") };
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err("is too long");
    }
    if text.contains(|c: char| c.is_control() || c == '?' || c == '#') {
        return Err("is no path: write it without query and fragment");
    }
    let mut names: Vec<&str> = Vec::new();
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let found = parameter(segment)?;
        if segment == "{rest}" {
            return Err(
                "has {rest}, which stands for what a path that is too long goes on with: name it otherwise",
            );
        }
        if let Segment::Parameter { .. } = found
            && let Some(name) = segment.split(['{', '}']).nth(1)
        {
            if names.contains(&name) {
                return Err("has two parameters of one name");
            }
            names.push(name);
        }
        segments.push(found);
    }
    if segments.len() > SEGMENTS_MAX {
        return Err("has too many segments");
    }
    Ok(segments)
}

fn parameter(segment: &str) -> Result<Segment, &'static str> {
    const WRONG: &str =
        "has a segment that is no literal and no {name}, with or without text around it";
    if !segment.contains(['{', '}']) {
        return Ok(Segment::Literal(decoded(segment).into()));
    }
    let (before, rest) = segment.split_once('{').ok_or(WRONG)?;
    let (name, behind) = rest.split_once('}').ok_or(WRONG)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty()
        || !name.chars().all(plain)
        || before.contains('}')
        || behind.contains(['{', '}'])
    {
        return Err(WRONG);
    }
    let (before, behind) = (decoded(before).into(), decoded(behind).into());
    Ok(Segment::Parameter { before, name: name.into(), behind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, line: u64, words: &str) {
        let errors = Pins::read("t.yaml", text.as_bytes()).unwrap_err();
        let start = if line == 0 { "t.yaml: ".to_owned() } else { format!("t.yaml:{line}: ") };
        let told = errors.to_string();
        assert!(told.starts_with(&start) && told.contains(words), "{text}: {told}");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let one = |entry: &str| {
            format!("version: 1\ntemplates:\n  - hosts: [x]\n    pin:\n      - {entry}\n")
        };
        check(&one("users"), 5, "does not begin with /");
        check(&one("'/users/{}'"), 5, "no {name}");
        check(&one("'/users/{a}{b}'"), 5, "no {name}");
        check(&one("'/users/{a'"), 5, "no {name}");
        check(&one("'/{a}/{a}'"), 5, "two parameters");
        check(&one("/a?b=1"), 5, "without query");
        check(&one("'/a/{x}'\n      - '/a/{y}'"), 6, "same template as that of line 5");
        check("version: 1\ntemplates:\n  - split: ['/a/{b}']\n", 3, "a literal that stays");
        check("version: 1\ntemplates:\n  - rename: [/a]\n", 3, "no parameter to rename");
        check("version: 1\ntemplates:\n  - hosts: ['http://x']\n", 3, "is no host");
        check("version: 1\ntemplates:\n  - hosts: ['x:80']\n", 3, "without port");
        check("version: 1\ntemplates:\n  - pins: [/a]\n", 3, "pins");
        check("version: 2\n", 0, "write version: 1");
        check("\u{1}", 1, "unexpected character");
        let many = (0..=PINS_MAX)
            .fold(String::new(), |text, number| text + &format!("      - /{number}\n"));
        check(&format!("version: 1\ntemplates:\n  - pin:\n{many}"), 0, "over the limit of 2000");
    }

    #[test]
    fn several_mistakes_are_told_at_once_and_few_are_enough() {
        let many = "      - x\n".repeat(100);
        let text = format!("version: 1\ntemplates:\n  - pin:\n{many}");
        let errors = Pins::read("t.yaml", text.as_bytes()).unwrap_err();
        assert_eq!(errors.errors.len(), ERRORS_MAX);
        assert_eq!(errors.errors[1].line, Some(5));
    }
}
