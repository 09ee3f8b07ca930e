//! A policy file to a [`Policy`]: everything is checked and every mistake told at once; one mistake refuses the file.
//!
//! Bounds: [`FILE_BYTES_MAX`], [`RULES_MAX`], [`CLIENTS_MAX`]. `ttl` counts from the time the file was last changed (or from `starts`), so
//! that reading it again does not prolong a rule. List files are only named here; the caller reads them.

use std::collections::BTreeMap;

use super::{
    duration::shown,
    error::{PolicyError, PolicyErrors},
    failsafe,
    model::{Policy, Rule, What},
    placed::Placed,
    raw::{Common, RawPolicy},
    reason::ReasonPattern,
};
use crate::{digest::Digest, time::UnixNs};

mod clients;
mod conditions;
mod limit;
mod rule;

pub(super) use conditions::{merge, parse_ports, parse_protocol};

/// Largest policy file, bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rules in one policy.
pub const RULES_MAX: usize = 4_096;
/// Client prefixes written in one policy file; list files have a limit of their own.
pub const CLIENTS_MAX: usize = 1_000_000;
/// List files in one policy.
pub const LISTS_MAX: usize = 256;
/// Longest text of `id`, `reason` and the like, characters.
const TEXT_MAX: usize = 256;

/// What a policy file is checked against, beside itself.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// When the file was last written.
    pub changed: UnixNs,
    /// What the reason of every rule must match by the agent's configuration; a policy file can demand more, never less.
    pub reasons: Vec<ReasonPattern>,
}

/// Reads and checks a policy file. `changed` is when the file was last written.
pub fn parse(file: &str, bytes: &[u8], changed: UnixNs) -> Result<Policy, PolicyErrors> {
    parse_with(file, bytes, &Demands { changed, ..Demands::default() })
}

/// The same, with what the agent's configuration demands.
pub fn parse_with(file: &str, bytes: &[u8], demands: &Demands) -> Result<Policy, PolicyErrors> {
    let refuse = |line: u64, message: String| {
        let line = Some(line).filter(|line| *line > 0);
        PolicyErrors::new(file, vec![PolicyError { line, field: String::new(), message }])
    };
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!(
            "{} bytes are over the limit of {FILE_BYTES_MAX} for a policy file; put long lists of clients into list files",
            bytes.len()
        );
        return Err(refuse(0, message));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = memchr::memchr_iter(b'\n', before).count() as u64 + 1;
        refuse(line, "not UTF-8 text; save the file as UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let raw: RawPolicy = crate::yaml::from_str(text)
        .map_err(|error| refuse(error.line.unwrap_or(0), error.message))?;
    let mut check = Check {
        folder: file.rfind('/').and_then(|end| file.get(..=end)).unwrap_or_default().to_owned(),
        errors: Vec::new(),
        warnings: Vec::new(),
        ids: BTreeMap::new(),
        clients: 0,
        lists: 0,
        changed: demands.changed,
        reasons: demands.reasons.clone(),
    };
    let rules = check.rules(&raw);
    let failsafe = failsafe::validate(&raw.failsafe, &mut |line, field, message| {
        check.fail(line, field, message);
    });
    if !check.errors.is_empty() {
        return Err(PolicyErrors::new(file, check.errors));
    }
    let mut digest = Digest::default();
    digest.field(bytes);
    Ok(Policy {
        file: file.to_owned(),
        rules,
        failsafe,
        warnings: check.warnings,
        require_reason: raw.require_reason.map(|pattern| pattern.value.as_str().into()),
        digest: digest.value(),
    })
}

struct Check {
    /// Folder of the file with its `/`, or nothing.
    folder: String,
    errors: Vec<PolicyError>,
    warnings: Vec<(u64, String)>,
    ids: BTreeMap<String, u64>,
    clients: usize,
    lists: usize,
    changed: UnixNs,
    reasons: Vec<ReasonPattern>,
}

impl Check {
    fn fail(&mut self, line: u64, field: String, message: impl Into<String>) {
        // One more than is shown, so that a million mistakes cost no memory.
        if self.errors.len() <= PolicyErrors::SHOWN_MAX {
            self.errors.push(PolicyError {
                line: Some(line).filter(|line| *line > 0),
                field,
                message: message.into(),
            });
        }
    }

    fn rules(&mut self, raw: &RawPolicy) -> Vec<Rule> {
        if let Some(version) = &raw.version
            && version.value != 1
        {
            let message = format!("version {} is not known; write 1", version.value);
            self.fail(version.line(), "version".into(), message);
        }
        if let Some(pattern) = &raw.require_reason {
            match ReasonPattern::new(&pattern.value, "this file") {
                Ok(pattern) => self.reasons.push(pattern),
                Err(message) => {
                    self.fail(pattern.line(), "require_reason".into(), message);
                }
            }
        }
        let owner = raw.owner.as_ref().and_then(|owner| self.text(owner, "owner"));
        let count = raw.allow.len() + raw.block.len() + raw.limits.len();
        if count > RULES_MAX {
            self.fail(0, String::new(), format!("{count} rules are over the limit of {RULES_MAX}"));
            return Vec::new();
        }
        let mut rules = Vec::with_capacity(count);
        for (list, what, all) in
            [("allow", What::Allow, &raw.allow), ("block", What::Block, &raw.block)]
        {
            for (number, rule) in all.iter().enumerate() {
                let common = rule.value.common(format!("{list}[{number}]"), rule.line());
                rules.extend(self.plain(&common, what.clone(), owner.as_deref()));
            }
        }
        for (number, rule) in raw.limits.iter().enumerate() {
            let common = rule.value.common(format!("limits[{number}]"), rule.line());
            rules.extend(self.limit(&common, &rule.value, owner.as_deref()));
        }
        rules
    }

    /// A text of one line, trimmed.
    fn text(&mut self, value: &Placed<String>, field: &str) -> Option<Box<str>> {
        let text = value.value.trim();
        if text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            let message = format!("write one line of at most {TEXT_MAX} characters");
            self.fail(value.line(), field.to_owned(), message);
            return None;
        }
        Some(text.into())
    }

    /// One of a few words.
    fn word<T: Copy>(
        &mut self,
        common: &Common<'_>,
        name: &str,
        value: Option<&Placed<String>>,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == value.value) {
            return *meaning;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        let choice = if others.is_empty() {
            (*last).to_owned()
        } else {
            format!("{} or {last}", others.join(", "))
        };
        let kind = match name.rsplit('.').next().unwrap_or(name) {
            "action" => "an action",
            "direction" => "a direction",
            "format" => "a format",
            "key" => "a key",
            _ => "an answer",
        };
        let message = format!("`{}` is not {kind}; write {choice}", shown(&value.value));
        self.fail(value.line(), format!("{}.{name}", common.field), message);
        default
    }
}
