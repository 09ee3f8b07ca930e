//! The agent's end of the control socket.
//!
//! Bounds: [`CONNECTIONS_MAX`] peers at once, a line of [`REQUEST_BYTES_MAX`], a document of [`BODY_BYTES_MAX`] (one at a time over all
//! peers, only of peers that may write, within [`BODY_TIME`]), [`IDLE`] without a line, one answer at a time per peer.

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

use super::protocol::{Answer, BODY_BYTES_MAX, Change, Peer, Question, REQUEST_BYTES_MAX, Request};
use crate::telemetry::{
    Own,
    events::{self, Emit as _},
};

const CONNECTIONS_MAX: usize = 16;
const IDLE: Duration = Duration::from_secs(10);
/// Time for a whole document.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Who may ask, and who may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    read: Option<Gid>,
    write: Option<Gid>,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    Nothing,
    Read,
    Write,
}

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another agent answers there.
    #[error("{}: another agent is running; stop it, or give this one a socket of its own with --socket and --store", .0.display())]
    Busy(PathBuf),
    /// A group does not exist.
    #[error("{key}: there is no group `{name}`")]
    Group {
        /// Key of the configuration.
        key: &'static str,
        /// What it names.
        name: String,
    },
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

    /// Is told of a change that its peer may not make.
    fn denied(&self, change: Change, peer: Peer) -> impl Future<Output = ()> + Send;

    /// Makes a change that its peer may make; `body` is its document.
    fn change(
        &self,
        change: Change,
        body: Vec<u8>,
        peer: Peer,
    ) -> impl Future<Output = Answer> + Send;
}

impl Access {
    /// Root and the agent's own user may ask, and the group `socket_group`; root and the group `write_group` may ask and change.
    pub fn of(socket_group: Option<&str>, write_group: Option<&str>) -> Result<Self, BindError> {
        let group = |key, name: Option<&str>| {
            let Some(name) = name else { return Ok(None) };
            match Group::from_name(name) {
                Ok(Some(group)) => Ok(Some(group.gid)),
                _ => Err(BindError::Group { key, name: name.into() }),
            }
        };
        Ok(Self {
            read: group("socket_group", socket_group)?,
            write: group("write_group", write_group)?,
        })
    }

    /// What a peer may do.
    fn right(self, uid: Uid, gid: Gid) -> Right {
        if uid.is_root() {
            return Right::Write;
        }
        let mut groups = None;
        let mut is_in = |group: Option<Gid>| {
            group.is_some_and(|group| {
                gid == group || groups.get_or_insert_with(|| groups_of(uid)).contains(&group)
            })
        };
        if is_in(self.write) {
            Right::Write
        } else if is_in(self.read) || uid == Uid::effective() {
            Right::Read
        } else {
            Right::Nothing
        }
    }

    /// Permissions of the socket's file. With two groups the file cannot name both: everybody may connect then, and is
    /// turned away by credentials, as everybody is anyway.
    fn mode_and_group(self) -> (u32, Option<Gid>) {
        match (self.read, self.write) {
            (None, None) => (0o600, None),
            (Some(read), Some(write)) if read != write => (0o666, None),
            (read, write) => (0o660, read.or(write)),
        }
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
        let (mode, group) = access.mode_and_group();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed(path))?;
        if let Some(group) = group {
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
        let one_body = Arc::new(Semaphore::new(1));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: others must end first.
                time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (access, responder) = (self.access, Arc::clone(&responder));
            let one_body = Arc::clone(&one_body);
            tokio::spawn(async move {
                // A peer that went away needs no answer.
                drop(peer(stream, access, &*responder, &one_body).await);
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

async fn peer<R: Responder>(
    stream: UnixStream,
    access: Access,
    responder: &R,
    one_body: &Semaphore,
) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let Some(right) = right(access, peer).await else { return Ok(()) };
    let (read, mut write) = stream.into_split();
    if right == Right::Nothing {
        events::ControlRefused { uid: peer.uid, gid: peer.gid }.emit();
        let text = "permission denied: only root and the configured socket_group may ask";
        return send(&mut write, &Answer::Denied(text.into())).await;
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
        let (answer, goes_on) = match Request::read(&line) {
            Ok(_) if !whole => (Answer::Error("a question is one line".into()), false),
            Ok(Request::Get(question)) => (responder.respond(question).await, true),
            Ok(Request::Do(change)) if right < Right::Write => {
                events::ControlRefused { uid: peer.uid, gid: peer.gid }.emit();
                responder.denied(change, peer).await;
                let text = "permission denied: only root and the configured write_group may change anything";
                (Answer::Denied(text.into()), false)
            }
            // Without a document there is nothing to wait for: least of all may the switch of enforcement.
            Ok(Request::Do(change)) if change.body_bytes() == 0 => {
                (responder.change(change, Vec::new(), peer).await, true)
            }
            Ok(Request::Do(change)) => {
                let Ok(_one) = one_body.acquire().await else { return Ok(()) };
                match body(&mut read, change.body_bytes()).await? {
                    Ok(body) => (responder.change(change, body, peer).await, true),
                    Err(refused) => (Answer::Error(refused), false),
                }
            }
            Err(error) => {
                let text = format!(
                    "not a question: {error}; write {{\"get\":\"status\"}} or {{\"get\":\"inventory\"}}"
                );
                (Answer::Error(text), whole)
            }
        };
        time::timeout(IDLE, send(&mut write, &answer)).await.map_err(io::Error::from)??;
        if !goes_on {
            return Ok(());
        }
    }
}

/// What a peer may do. Groups are asked of the user database, which may be a slow one on the network: not on a worker of the runtime.
async fn right(access: Access, peer: Peer) -> Option<Right> {
    let (uid, gid) = (Uid::from_raw(peer.uid), Gid::from_raw(peer.gid));
    if uid.is_root() {
        return Some(Right::Write);
    }
    let asked = tokio::task::spawn_blocking(move || access.right(uid, gid));
    time::timeout(IDLE, asked).await.ok()?.ok()
}

/// Reads a document; the inner error is for the peer, the outer one ends the connection.
async fn body(
    read: &mut (impl tokio::io::AsyncRead + Unpin),
    bytes: u64,
) -> io::Result<Result<Vec<u8>, String>> {
    if bytes > BODY_BYTES_MAX {
        return Ok(Err(format!(
            "a document of {bytes} bytes is over the limit of {BODY_BYTES_MAX}"
        )));
    }
    // Grows with what comes: a peer that only announces a large document takes no memory.
    let mut body = Vec::new();
    let taken = time::timeout(BODY_TIME, read.take(bytes).read_to_end(&mut body)).await;
    match taken {
        Ok(Err(error)) => Err(error),
        Ok(Ok(taken)) if taken as u64 == bytes => Ok(Ok(body)),
        Ok(Ok(_)) => Ok(Err("the document ended early".into())),
        Err(_) => Ok(Err(format!("the document did not come within {} s", BODY_TIME.as_secs()))),
    }
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}
