//! What is wrong with a policy: file, line, field, and what to write instead.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    /// Line, from 1, where known.
    pub line: Option<u64>,
    /// The field, as `block[2].clients[0]`; empty for the file.
    pub field: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

/// All mistakes of one file (at most [`PolicyErrors::SHOWN_MAX`]); nothing of the file is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyErrors {
    /// Name of the file.
    pub file: String,
    /// The mistakes, in the order of the file.
    pub errors: Vec<PolicyError>,
}

impl PolicyErrors {
    /// Mistakes that are told at most; the rest is found when these are mended.
    pub const SHOWN_MAX: usize = 50;

    pub(super) fn new(file: &str, mut errors: Vec<PolicyError>) -> Self {
        errors.sort_by_key(|error| error.line);
        errors.truncate(Self::SHOWN_MAX);
        Self { file: file.to_owned(), errors }
    }
}

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = error.line {
                write!(f, ":{line}")?;
            }
            f.write_str(": ")?;
            if !error.field.is_empty() {
                write!(f, "{}: ", error.field)?;
            }
            f.write_str(&error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyErrors {}
