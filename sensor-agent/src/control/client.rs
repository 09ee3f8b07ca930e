//! The commands' end of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::protocol::{Answer, Change, Question};

/// Larger answers are refused: the inventory's own bounds keep it below.
const ANSWER_BYTES_MAX: u64 = 512 << 20;
const TIMEOUT: Duration = Duration::from_secs(15);
/// A change reads and compiles up to a million prefixes.
const CHANGE_TIMEOUT: Duration = Duration::from_mins(2);

/// Enforcement is switched within a second, also when the agent hangs.
const SWITCH_TIMEOUT: Duration = Duration::from_millis(400);

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
    /// The agent knows the peer and says that it may not.
    #[error("{0}")]
    NotAllowed(String),
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
pub fn ask(socket: &Path, question: &Question) -> Result<Value, AskError> {
    talk(socket, question, &[], TIMEOUT)
}

/// Has the running agent change something; `body` is the document that the change speaks of.
pub fn tell(socket: &Path, change: &Change, body: &[u8]) -> Result<Value, AskError> {
    talk(socket, change, body, CHANGE_TIMEOUT)
}

/// Has the running agent switch enforcement; one that does not answer soon is as good as none.
pub fn tell_switch(socket: &Path, change: &Change) -> Result<Value, AskError> {
    talk(socket, change, &[], SWITCH_TIMEOUT)
}

fn talk(
    socket: &Path,
    line: &impl Serialize,
    body: &[u8],
    timeout: Duration,
) -> Result<Value, AskError> {
    let io_error = |source| AskError::Io { path: socket.into(), source };
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NoAgent(socket.into())
        }
        io::ErrorKind::PermissionDenied => AskError::Denied(socket.into()),
        _ => io_error(error),
    })?;
    stream.set_read_timeout(Some(timeout)).map_err(io_error)?;
    stream.set_write_timeout(Some(timeout)).map_err(io_error)?;
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    // A peer that is turned away is told so before its document is read: what it was told counts then.
    let written = stream.write_all(&line).and_then(|()| stream.write_all(body));
    let mut text = Vec::new();
    let read = BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut text);
    if text.is_empty() {
        written.and(read).map_err(io_error)?;
    }
    match serde_json::from_slice(&text)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(text) => Err(AskError::Refused(text)),
        Answer::Denied(text) => Err(AskError::NotAllowed(text)),
    }
}
