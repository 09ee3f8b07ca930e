//! What a command ends with: exit codes 0, 1 and 2, and errors that say what to do.

use std::fmt;

use crate::{config::ConfigError, control::BindError, sink, store, telemetry::http::ListenError};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done: exit code 0.
    Done,
    /// Done, and the answer is no (a check that does not pass, nothing found): exit code 1.
    Negative,
}

impl Exit {
    /// The process exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Negative => 1,
        }
    }
}

/// Something that must be there first (an operating system, a capability, a file, a right option): exit code 2.
///
/// Wrap it in an `anyhow::Error` (`Err(Prerequisite::new("..").into())`); its text says what to do.
#[derive(Debug)]
pub struct Prerequisite(String);

impl Prerequisite {
    /// Exit code of a missing prerequisite, and of wrong usage.
    pub const CODE: u8 = 2;

    /// Names what is missing and what to do.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For commands that work on Linux only.
    #[must_use]
    pub fn linux(command: &str) -> Self {
        Self::new(format!(
            "`{command}` needs Linux (it works with eBPF programs in the kernel); on this system `replay` reads captures: \
             sensor-agent replay demo.pcap"
        ))
    }
}

impl fmt::Display for Prerequisite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Prerequisite {}

/// The causes of an error in one text; what an outer one says already is not said again.
pub(super) fn text_of(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// The exit code of a failed command: 2 for what has to be put right before it can work at all.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    let first = error.chain().any(|cause| {
        cause.is::<Prerequisite>()
            || cause.is::<ConfigError>()
            || cause.is::<BindError>()
            || cause.is::<ListenError>()
            || cause.is::<sink::OpenError>()
            || cause.is::<store::OpenError>()
    });
    if first { Prerequisite::CODE } else { Exit::Negative.code() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_prerequisite_is_found_under_context() {
        let error =
            Err::<(), _>(Prerequisite::new("no")).context("outer").map_err(|error| code_of(&error));
        assert_eq!(error, Err(2));
        assert_eq!(code_of(&anyhow::anyhow!("other")), 1);
    }

    #[test]
    fn a_cause_is_said_once() {
        let error =
            anyhow::anyhow!("no such file").context("a: no such file; look there").context("outer");
        assert_eq!(text_of(&error), "outer: a: no such file; look there");
    }
}
