//! The commands' end of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::protocol::{Answer, Question};

/// Larger answers are refused: the inventory's own bounds keep it below.
const ANSWER_BYTES_MAX: u64 = 512 << 20;
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no agent is running ({} is not there or nobody listens on it)", .0.display())]
    NoAgent(PathBuf),
    /// The socket's permissions say no.
    #[error(
        "{}: permission denied; run as root, or set `socket_group` in the configuration to a group you are in",
        .0.display()
    )]
    Denied(PathBuf),
    /// The agent said no.
    #[error("the agent answered: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an answer.
    #[error("the agent's answer cannot be read ({0}); is it of another version?")]
    Answer(#[from] serde_json::Error),
}

/// Asks the running agent.
pub fn ask(socket: &Path, question: Question) -> Result<Value, AskError> {
    let io_error = |source| AskError::Io { path: socket.into(), source };
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NoAgent(socket.into())
        }
        io::ErrorKind::PermissionDenied => AskError::Denied(socket.into()),
        _ => io_error(error),
    })?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(io_error)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(io_error)?;
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(io_error)?;
    let mut text = Vec::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut text).map_err(io_error)?;
    match serde_json::from_slice(&text)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(text) => Err(AskError::Refused(text)),
    }
}
