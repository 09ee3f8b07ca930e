//! The bytes of a list file, in chunks of any size, to a [`List`]: nothing of the file is kept but its prefixes.
//!
//! Plain lists are those of Spamhaus DROP (`192.0.2.0/24 ; SBL1`), FireHOL netsets and one address a line; `#` and `;` begin comments.
//! CSV has the address first and how long it stays second: a number of seconds, a duration (`24h`), a date, or nothing for ever.
//! Bounds: [`LIST_BYTES_MAX`], [`LIST_LINES_MAX`], [`LIST_ENTRIES_MAX`], [`LINE_BYTES_MAX`].

use super::{
    super::{
        duration::{parse_ns, shown},
        error::{PolicyError, PolicyErrors},
        model::{ListFormat, ListRef, OnError},
        prefix,
    },
    EXPIRIES_MAX, LIST_ENTRIES_MAX, List, ListBuilder, ListFacts,
};
use crate::{catalogue::parse_rfc3339, digest::Digest, time::UnixNs};

/// Largest list file, bytes.
pub const LIST_BYTES_MAX: u64 = 1 << 30;
/// Lines of a list file.
pub const LIST_LINES_MAX: u64 = 20_000_000;
/// Longest line, comment not counted.
const LINE_BYTES_MAX: usize = 512;
/// Entries that are read before those that are there twice are joined.
const PENDING_MAX: usize = LIST_ENTRIES_MAX + LIST_ENTRIES_MAX / 4;
/// Memory that a list takes while it is read, at most.
pub const LIST_MEMORY_MAX: u64 = (PENDING_MAX * size_of::<(u64, u64, u32)>()) as u64;
/// What a header line of a CSV file begins with.
const HEADERS: [&str; 8] =
    ["address", "ip", "cidr", "network", "prefix", "client", "ip_address", "src"];

/// Reads one file.
#[derive(Debug)]
pub struct ListReader {
    name: ListRef,
    facts: ListFacts,
    builder: ListBuilder,
    digest: Digest,
    bytes: u64,
    /// The line that is not complete yet, and whether more of it was cut off.
    partial: Vec<u8>,
    is_cut: bool,
    errors: Vec<PolicyError>,
}

impl ListReader {
    /// Begins a file: `source` is its path as opened, `changed` when it was last written.
    pub fn new(name: &ListRef, source: &str, changed: UnixNs) -> Self {
        Self {
            name: name.clone(),
            facts: ListFacts { source: source.to_owned(), changed, ..ListFacts::default() },
            builder: ListBuilder::default(),
            digest: Digest::default(),
            bytes: 0,
            partial: Vec::new(),
            is_cut: false,
            errors: Vec::new(),
        }
    }

    /// Reads the next bytes. An error is final: the file is too large.
    pub fn read(&mut self, chunk: &[u8]) -> Result<(), PolicyErrors> {
        self.bytes += chunk.len() as u64;
        if self.bytes > LIST_BYTES_MAX {
            let message = format!("over the limit of {LIST_BYTES_MAX} bytes for a list file");
            return Err(self.refuse(message));
        }
        self.digest.bytes(chunk);
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.is_empty() && !self.is_cut {
                self.line(line, false)?;
            } else {
                self.keep(line);
                self.end_of_line()?;
            }
        }
        self.keep(rest);
        Ok(())
    }

    /// The list; with mistakes in it an error, unless the policy says to skip them.
    pub fn finish(mut self) -> Result<List, PolicyErrors> {
        if !self.partial.is_empty() || self.is_cut {
            self.end_of_line()?;
        }
        if self.facts.skipped > 0 && self.name.on_error == OnError::Refuse {
            let (bad, file) = (self.facts.skipped, &self.facts.source);
            let message = format!(
                "{bad} of {} lines cannot be read; mend them, or use the rest with on_error: skip",
                self.facts.lines
            );
            self.errors.truncate(PolicyErrors::SHOWN_MAX - 1);
            self.errors.push(PolicyError { line: Some(u64::MAX), field: String::new(), message });
            let mut errors = PolicyErrors::new(file, self.errors);
            if let Some(last) = errors.errors.last_mut() {
                last.line = None;
            }
            return Err(errors);
        }
        let facts = ListFacts { digest: self.digest.value(), ..self.facts.clone() };
        let list = std::mem::take(&mut self.builder).finish(facts);
        if list.len() > LIST_ENTRIES_MAX {
            return Err(self.too_many(list.len()));
        }
        Ok(list)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
        self.is_cut |= bytes.len() > room;
        self.partial.extend(bytes.iter().take(room));
    }

    fn end_of_line(&mut self) -> Result<(), PolicyErrors> {
        let line = std::mem::take(&mut self.partial);
        let is_cut = std::mem::take(&mut self.is_cut);
        self.line(&line, is_cut)
    }

    fn line(&mut self, line: &[u8], is_cut: bool) -> Result<(), PolicyErrors> {
        self.facts.lines += 1;
        if self.facts.lines > LIST_LINES_MAX {
            let message = format!("over the limit of {LIST_LINES_MAX} lines for a list file");
            return Err(self.refuse(message));
        }
        let comment = memchr::memchr2(b'#', b';', line);
        let code = line.get(..comment.unwrap_or(line.len())).unwrap_or_default();
        let code = code.strip_prefix(b"\xef\xbb\xbf").unwrap_or(code).trim_ascii();
        if code.is_empty() {
            return Ok(());
        }
        let outcome = if code.len() >= LINE_BYTES_MAX || is_cut && comment.is_none() {
            Err(format!("longer than {LINE_BYTES_MAX} bytes; write one address a line"))
        } else {
            self.entry(code)
        };
        if let Err(message) = outcome {
            self.mistake(message);
        }
        if self.builder.len() >= PENDING_MAX {
            self.builder.settle();
            if self.builder.len() > LIST_ENTRIES_MAX {
                return Err(self.too_many(self.builder.len()));
            }
        }
        Ok(())
    }

    fn entry(&mut self, code: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(code).map_err(|_| "not UTF-8 text".to_owned())?;
        let (address, ttl) = match self.name.format {
            ListFormat::Plain => (text, None),
            ListFormat::Csv => {
                let mut fields = text.split(',').map(|field| field.trim().trim_matches('"').trim());
                let (address, ttl) = (fields.next().unwrap_or_default(), fields.next());
                let is_header = HEADERS.iter().any(|name| address.eq_ignore_ascii_case(name));
                if is_header && self.builder.is_empty() {
                    return Ok(());
                }
                (address, ttl.filter(|ttl| !ttl.is_empty()))
            }
        };
        if address.eq_ignore_ascii_case("any") {
            return Err("`any` is for the policy file; write an address or a prefix".to_owned());
        }
        let nets = prefix::parse(address)?;
        let expiry = match ttl {
            None => 0,
            Some(ttl) => {
                let at = expires(ttl, self.facts.changed)?;
                self.builder.expiry(at).ok_or_else(|| {
                    format!("more than {EXPIRIES_MAX} different times; round them to minutes")
                })?
            }
        };
        for net in nets {
            self.builder.push(net, expiry);
        }
        Ok(())
    }

    fn mistake(&mut self, message: String) {
        self.facts.skipped += 1;
        let line = self.facts.lines;
        if self.facts.first_skipped.is_none() {
            self.facts.first_skipped = Some((line, message.clone()));
        }
        if self.errors.len() < PolicyErrors::SHOWN_MAX && self.name.on_error == OnError::Refuse {
            self.errors.push(PolicyError { line: Some(line), field: String::new(), message });
        }
    }

    fn refuse(&self, message: String) -> PolicyErrors {
        let error = PolicyError { line: None, field: String::new(), message };
        PolicyErrors::new(&self.facts.source, vec![error])
    }

    fn too_many(&self, found: usize) -> PolicyErrors {
        self.refuse(format!(
            "{found} different prefixes by line {} are over the limit of {LIST_ENTRIES_MAX} for a list file",
            self.facts.lines
        ))
    }
}

/// When an entry ends: a number of seconds or a duration after the file's last change, or a date.
fn expires(text: &str, changed: UnixNs) -> Result<UnixNs, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(UnixNs(changed.0.saturating_add(seconds.saturating_mul(1_000_000_000))));
    }
    if let Some(date) = parse_rfc3339(text) {
        return Ok(date);
    }
    let ttl = parse_ns(text).map_err(|_| {
        format!(
            "`{}` is not a time; write seconds, a duration such as 24h, or a date such as 2026-12-31",
            shown(text)
        )
    })?;
    Ok(UnixNs(changed.0.saturating_add(ttl)))
}

#[cfg(test)]
mod tests;
