//! The one grammar of sinks: `stdout`, `file:PATH[?options]`, `http://HOST:PORT[?options]` (gRPC).
//!
//! Options, in any order: all sinks `queue_events`, `queue_bytes`; files and stdout `format=jsonl|protobuf`;
//! files `rotate_bytes` and `keep`.

use std::{fmt, path::PathBuf};

use super::queue::Limits;
use crate::config::Bytes;

/// How events are written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    /// One JSON object a line, one event each
    #[default]
    Jsonl,
    /// Batches of sensor.v1, each behind its length as a varint
    Protobuf,
}

/// Where events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, rotated.
    File {
        /// The file that is written.
        path: PathBuf,
        /// Rotated when it would grow beyond this.
        rotate_bytes: u64,
        /// Rotated files that are kept (`PATH.1` is the newest).
        keep: u32,
    },
    /// A receiver of `sensor.v1.SensorIngest`.
    Grpc {
        /// `http://host:port`
        url: String,
    },
}

/// A sink as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSpec {
    /// Where to.
    pub target: Target,
    /// Of files and stdout.
    pub format: FileFormat,
    /// Bounds of its queue.
    pub limits: Limits,
}

/// Why a sink's text was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Not one of the kinds.
    #[error("`{0}` is no sink: write stdout, file:PATH or http://HOST:PORT")]
    Kind(String),
    /// A file without a path.
    #[error("`{0}` has no path: write file:/var/log/api-sensor/events.jsonl")]
    NoPath(String),
    /// TLS is not built in.
    #[error("`{0}`: TLS is not built in; write http://HOST:PORT and put a TLS proxy in front")]
    Tls(String),
    /// Not a usable URL.
    #[error("`{0}` is not a usable address: write http://HOST:PORT")]
    Url(String),
    /// An option this sink does not have.
    #[error("`{option}` is no option of this sink: it takes {known}")]
    Option {
        /// As written.
        option: String,
        /// What it takes.
        known: &'static str,
    },
    /// An option's value is wrong.
    #[error("`{option}`: {problem}")]
    Value {
        /// As written.
        option: String,
        /// What to write.
        problem: String,
    },
}

impl SinkSpec {
    /// Default of `rotate_bytes`.
    pub const ROTATE_BYTES_DEFAULT: u64 = 64 << 20;
    /// Default of `keep`.
    pub const KEEP_DEFAULT: u32 = 4;

    /// Reads one sink.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let (base, options) = text.split_once('?').unwrap_or((text, ""));
        let target = match base.split_once(':') {
            None if base == "stdout" => Target::Stdout,
            Some(("file", "")) => return Err(SinkError::NoPath(text.into())),
            Some(("file", path)) => Target::File {
                path: path.into(),
                rotate_bytes: Self::ROTATE_BYTES_DEFAULT,
                keep: Self::KEEP_DEFAULT,
            },
            Some(("http", rest)) => {
                Target::Grpc { url: url(rest).ok_or_else(|| SinkError::Url(text.into()))? }
            }
            Some(("https", _)) => return Err(SinkError::Tls(text.into())),
            _ => return Err(SinkError::Kind(text.into())),
        };
        let mut spec = Self { target, format: FileFormat::default(), limits: Limits::default() };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            spec.set(option)?;
        }
        Ok(spec)
    }

    /// The URL of a receiver; `None` for files and stdout.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        match &self.target {
            Target::Grpc { url } => Some(url),
            Target::Stdout | Target::File { .. } => None,
        }
    }

    fn set(&mut self, option: &str) -> Result<(), SinkError> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let wrong = |problem: String| SinkError::Value { option: option.into(), problem };
        let bytes = || {
            value.parse::<Bytes>().map(|bytes| bytes.0).map_err(|error| wrong(error.to_string()))
        };
        let number = || value.parse::<u32>().map_err(|_| wrong("write a whole number".into()));
        match (name, &mut self.target) {
            ("queue_events", _) => {
                self.limits.events = number()?.try_into().map_err(|_| wrong("too large".into()))?;
            }
            ("queue_bytes", _) => {
                self.limits.bytes = bytes()?.try_into().map_err(|_| wrong("too large".into()))?;
            }
            ("format", Target::Stdout | Target::File { .. }) => {
                self.format = match value {
                    "jsonl" => FileFormat::Jsonl,
                    "protobuf" => FileFormat::Protobuf,
                    _ => return Err(wrong("write format=jsonl or format=protobuf".into())),
                };
            }
            ("rotate_bytes", Target::File { rotate_bytes, .. }) => *rotate_bytes = bytes()?,
            ("keep", Target::File { keep, .. }) => *keep = number()?,
            (_, target) => {
                return Err(SinkError::Option { option: option.into(), known: options_of(target) });
            }
        }
        let limits = self.limits;
        if limits.events == 0 || limits.bytes == 0 {
            return Err(wrong("a queue of 0 takes nothing: write at least 1".into()));
        }
        Ok(())
    }
}

fn options_of(target: &Target) -> &'static str {
    match target {
        Target::Stdout => "format, queue_events, queue_bytes",
        Target::File { .. } => "format, rotate_bytes, keep, queue_events, queue_bytes",
        Target::Grpc { .. } => "queue_events, queue_bytes",
    }
}

/// `//host:port` with nothing behind it but a slash.
fn url(rest: &str) -> Option<String> {
    let uri = format!("http:{rest}").parse::<tonic::transport::Uri>().ok()?;
    let bare = uri.path() == "/" || uri.path().is_empty();
    let authority = uri
        .authority()
        .filter(|authority| authority.port_u16().is_some() && !authority.as_str().contains('@'));
    authority.filter(|_| bare).map(|authority| format!("http://{authority}"))
}

impl fmt::Display for SinkSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Stdout => out.write_str("stdout"),
            Target::File { path, .. } => write!(out, "file:{}", path.display()),
            Target::Grpc { url } => out.write_str(url),
        }
    }
}
