//! The hash of an entry: SHA-256 over the bytes of its line as they stand in the file, up to the field `hash`.
//!
//! The bytes themselves are hashed, not what they mean: there is no second way to write the same entry.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Of an entry, or of a text.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of several texts, each with its length, so that they cannot run into each other.
    #[must_use]
    pub fn of_all<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for text in texts {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        Self(hasher.finalize().into())
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}";

/// Closes a JSON object with its hash; a newline ends it.
pub(super) fn seal(object: &str) -> (String, Hash) {
    let body = object.strip_suffix('}').unwrap_or(object);
    let hash = Hash::of(body.as_bytes());
    (format!("{body}{BEFORE_HASH}{hash}{AFTER_HASH}\n"), hash)
}

/// The hash that a line (without its newline) has by its bytes and the one that it states; `None` when it states none.
pub(super) fn hashes(line: &str) -> Option<(Hash, Hash)> {
    let rest = line.strip_suffix(AFTER_HASH)?;
    let (before, stated) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    let body = before.strip_suffix(BEFORE_HASH)?;
    Some((Hash::of(body.as_bytes()), Hash::parse(stated)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_line_states_the_hash_of_its_bytes() {
        let (line, hash) = seal("{\"number\":1}");
        let (found, stated) = hashes(line.trim_end()).unwrap();
        assert_eq!((found, stated), (hash, hash));
        let (found, stated) =
            hashes(&line.trim_end().replace("\"number\":1", "\"number\":2")).unwrap();
        assert_ne!(found, stated);
        for bad in ["", "{}", "\"}", "{\"hash\":\"\"}"] {
            assert!(hashes(bad).is_none());
        }
        assert_eq!(
            Hash::of(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
    }
}
