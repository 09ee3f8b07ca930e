//! Enters a network namespace, for good, on a thread made for it.
//!
//! The namespace is a property of the thread; CAP_SYS_ADMIN is needed for the step and given up right after.

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};

use super::select::Namespace;

/// Folder where `ip netns` keeps its names.
const NETNS_FOLDER: &str = "/run/netns";
/// Named namespaces that are looked at by `detach --all`.
const NAMED_MAX: usize = 1024;

/// Moves the calling thread into a namespace.
pub(crate) fn enter(namespace: &Namespace) -> io::Result<()> {
    match namespace {
        Namespace::Own => Ok(()),
        Namespace::File(path) => {
            let file = File::open(path).map_err(|error| {
                io::Error::new(error.kind(), format!("open {}: {error}", path.display()))
            })?;
            setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| {
                io::Error::new(
                    io::Error::from(error).kind(),
                    format!("enter {}: {error} (needs CAP_SYS_ADMIN)", path.display()),
                )
            })
        }
    }
}

/// All namespaces that have a name on this host, without the own one.
pub(crate) fn named() -> Vec<Namespace> {
    let own = identity(Path::new("/proc/self/ns/net"));
    let Ok(entries) = std::fs::read_dir(NETNS_FOLDER) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path()).take(NAMED_MAX);
    paths.filter(|path: &PathBuf| identity(path) != own).map(Namespace::File).collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Runs something on a thread of its own inside a namespace and waits for it.
pub(crate) fn within<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("sensor-netns".into()).spawn_scoped(scope, || {
                enter(namespace)?;
                work()
            })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the namespace thread panicked")))
    })
}
