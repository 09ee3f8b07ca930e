//! The agent's end of the control socket.
//!
//! Bounds: [`CONNECTIONS_MAX`] peers at once, a question of [`REQUEST_BYTES_MAX`], [`IDLE`] without one, one answer at a
//! time per peer.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::{UnixListener as StdListener, UnixStream as StdStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::unistd::{Gid, Group, Uid, User};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time,
};

use super::protocol::{Answer, Question, REQUEST_BYTES_MAX};
use crate::telemetry::{
    Own,
    events::{self, Emit as _},
};

const CONNECTIONS_MAX: usize = 16;
const IDLE: Duration = Duration::from_secs(10);

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    group: Option<Gid>,
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers there.
    #[error("{}: another agent is running; stop it, or give this one a socket of its own with --socket and --store", .0.display())]
    Busy(PathBuf),
    /// The group does not exist.
    #[error("socket_group: there is no group `{0}`")]
    Group(String),
    /// The system said no.
    #[error("control socket {}: {source}; choose another place with --socket", path.display())]
    Io {
        /// The socket or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Answers questions; made by the wiring.
pub trait Responder: Send + Sync + 'static {
    /// The answer to one question.
    fn respond(&self, question: Question) -> impl Future<Output = Answer> + Send;
}

impl Access {
    /// Root, the own user, and a group by its name.
    pub fn of(group: Option<&str>) -> Result<Self, BindError> {
        let Some(name) = group else { return Ok(Self { group: None }) };
        match Group::from_name(name) {
            Ok(Some(group)) => Ok(Self { group: Some(group.gid) }),
            _ => Err(BindError::Group(name.into())),
        }
    }

    /// Whether a peer may ask.
    fn admits(self, uid: Uid, gid: Gid) -> bool {
        if uid.is_root() || uid == Uid::effective() {
            return true;
        }
        let Some(group) = self.group else { return false };
        gid == group || groups_of(uid).contains(&group)
    }
}

/// Supplementary groups by the user database; a peer's own list is not told by its credentials.
fn groups_of(uid: Uid) -> Vec<Gid> {
    let Ok(Some(user)) = User::from_uid(uid) else { return Vec::new() };
    #[cfg(target_os = "linux")]
    {
        let name = std::ffi::CString::new(user.name).unwrap_or_default();
        nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    {
        vec![user.gid]
    }
}

/// The bound socket; removed when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Option<StdListener>,
    path: PathBuf,
    access: Access,
}

impl Listener {
    /// Binds the socket (before capabilities are dropped: its group is set here). A socket that nobody listens on
    /// any more is replaced.
    pub fn bind(path: &Path, access: Access) -> Result<Self, BindError> {
        let failed = |at: &Path| {
            let path = at.to_owned();
            move |source| BindError::Io { path, source }
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)
                .map_err(failed(folder))?;
        }
        if StdStream::connect(path).is_ok() {
            return Err(BindError::Busy(path.into()));
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
                return Err(failed(path)(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket lies there",
                )));
            }
            Ok(_) => fs::remove_file(path).map_err(failed(path))?,
            Err(_) => {}
        }
        let listener = StdListener::bind(path).map_err(failed(path))?;
        let bound = Self { socket: Some(listener), path: path.into(), access };
        let mode = if access.group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed(path))?;
        if let Some(group) = access.group {
            std::os::unix::fs::chown(path, None, Some(group.as_raw())).map_err(failed(path))?;
        }
        if let Some(listener) = &bound.socket {
            listener.set_nonblocking(true).map_err(failed(path))?;
        }
        Ok(bound)
    }

    /// Answers until the task is dropped.
    pub async fn serve<R: Responder>(mut self, responder: Arc<R>) -> io::Result<()> {
        let Some(listener) = self.socket.take() else { return Ok(()) };
        let listener = UnixListener::from_std(listener)?;
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: others must end first.
                time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (access, responder) = (self.access, Arc::clone(&responder));
            tokio::spawn(async move {
                // A peer that went away needs no answer.
                drop(peer(stream, access, &*responder).await);
                drop(permit);
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

async fn peer<R: Responder>(stream: UnixStream, access: Access, responder: &R) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let (uid, gid) = (credentials.uid(), credentials.gid());
    let (read, mut write) = stream.into_split();
    if !access.admits(Uid::from_raw(uid), Gid::from_raw(gid)) {
        events::ControlRefused { uid, gid }.emit();
        return send(
            &mut write,
            &Answer::Error(
                "permission denied: only root and the configured socket_group may ask".into(),
            ),
        )
        .await;
    }
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(REQUEST_BYTES_MAX as u64);
        let Ok(taken) = time::timeout(IDLE, limited.read_until(b'\n', &mut line)).await else {
            return Ok(());
        };
        if taken? == 0 {
            return Ok(());
        }
        Own::ControlRequests.count();
        let whole = line.ends_with(b"\n");
        let answer = match serde_json::from_slice(&line) {
            Ok(question) if whole => responder.respond(question).await,
            Ok(_) => Answer::Error("a question is one line".into()),
            Err(error) => Answer::Error(format!(
                "not a question: {error}; write {{\"get\":\"status\"}} or {{\"get\":\"inventory\"}}"
            )),
        };
        time::timeout(IDLE, send(&mut write, &answer)).await.map_err(io::Error::from)??;
        if !whole {
            return Ok(());
        }
    }
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}
