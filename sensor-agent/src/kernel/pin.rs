//! What outlives the agent: links and maps pinned under bpffs, in `<root>/<instance>/<layout>/`.
//!
//! An instance is one sensor of the host; a running agent holds a lock on its folder, so two never take each other's. A layout folder
//! holds `maps/` (every map that is worth keeping), `links/` (TCX links, named by network namespace, device and hook), `META` (who wrote it,
//! and where the switch of enforcement lies), `STORE` (the folder of its store) and `KEPT` (numbers that the policy's compiler wants to see
//! again). An agent of the same
//! layout takes everything over; one of another attaches its own beside it and [`Pins::retire`]s the old one afterwards. bpffs has no plain
//! files, so `META`, `STORE` and `KEPT` are array maps of one entry.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    btf::MapShape,
    layout::Layout,
    meta::{KEPT_BYTES, Meta},
    object,
    sys::TcHook,
};

/// Where bpffs usually is, and our folder in it.
pub const ROOT: &str = "/sys/fs/bpf/api-sensor";
/// How long the lock of an agent that is just ending is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// Name of the map with what the next agent wants to see again.
pub(crate) const KEPT: &str = "KEPT";
/// Name of the map with the folder of the agent's store.
const STORE: &str = "STORE";
/// Longest name of it: PATH_MAX of Linux.
const STORE_BYTES: u32 = 4096;
/// Instances and layouts that are looked at.
const FOLDERS_MAX: usize = 256;

/// Whether links and maps are pinned in mode enforce. In mode observe nothing is: there is nothing that must go on without the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinMode {
    /// Where bpffs can be written; otherwise the agent runs without, and says so.
    #[default]
    Auto,
    /// Or the agent does not start.
    Always,
    /// Enforcement ends with the agent.
    Never,
}

/// Where to pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinConfig {
    /// A folder in a bpf file system.
    pub root: PathBuf,
    /// Which of the host's sensors this is; letters, digits, `-` and `_`.
    pub instance: String,
    /// Control socket of the agent, written into the folder: who switches enforcement asks there first.
    pub socket: PathBuf,
    /// Store of the agent, written into the folder: what is switched without an agent is kept there for the next one.
    pub store: PathBuf,
}

/// Why nothing can be pinned, or why what is there cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No bpf file system.
    #[error(
        "{} is not in a bpf file system: mount one (mount -t bpf -o mode=0700 bpf /sys/fs/bpf), or write `pin: never` if enforcement may end with the agent",
        .0.display()
    )]
    NoBpffs(PathBuf),
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder or the pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent runs on this folder.
    #[error("{}: another agent of this instance is running; give this one a name of its own with --instance", .0.display())]
    Busy(PathBuf),
    /// Somebody else may write there.
    #[error(
        "{}: other users may write to this folder or own it, so what lies in it cannot be trusted; remove it as root, and mount the bpf file system with -o mode=0700",
        .0.display()
    )]
    Unsafe(PathBuf),
    /// A pin that no agent of this layout made.
    #[error("{}: {problem}; it is not used. Remove it with `sensor-agent detach --all`, then start again", path.display())]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// The folder of one instance, locked for as long as this lives.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
    socket: String,
    store: PathBuf,
    layout: OnceLock<PathBuf>,
    _lock: File,
}

impl Pins {
    /// Opens and locks the instance's folder. `create` makes it when it is not there; without, `None` is given then.
    pub fn open(config: &PinConfig, create: bool) -> Result<Option<Self>, PinError> {
        let folder = config.root.join(&config.instance);
        if !create && !folder.is_dir() {
            return Ok(None);
        }
        if !in_bpffs(&folder) {
            return if create { Err(PinError::NoBpffs(folder)) } else { Ok(None) };
        }
        if create {
            make(&folder)?;
        }
        // Who may rename a folder in the one above it can put another in its place.
        only_ours(&config.root)?;
        only_ours(&folder)?;
        let lock = lock(&folder)?;
        let socket = config.socket.to_string_lossy().into_owned();
        let store = config.store.clone();
        Ok(Some(Self { folder, socket, store, layout: OnceLock::new(), _lock: lock }))
    }

    /// The instance's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes or takes over the folder of a layout: what lies there is as the layout says, or refused.
    pub(crate) fn enter(&self, layout: &Layout) -> Result<(), PinError> {
        let folder = self.folder.join(&layout.name);
        make(&folder.join(MAPS))?;
        make(&folder.join(LINKS))?;
        for (name, shape) in &layout.maps {
            check(&folder.join(MAPS).join(name), shape)?;
        }
        let meta = array(&folder.join("META"), Meta::BYTES)?;
        let path = folder.join("META");
        object::write_first(meta.as_fd(), &Meta::now(&layout.name, &self.socket).to_bytes())
            .map_err(failed(&path))?;
        let store = array(&folder.join(STORE), STORE_BYTES)?;
        let path = folder.join(STORE);
        object::write_first(store.as_fd(), &store_value(&self.store)).map_err(failed(&path))?;
        array(&folder.join(KEPT), KEPT_BYTES)?;
        let _first = self.layout.set(folder);
        Ok(())
    }

    /// Where a map of the entered layout is pinned.
    pub(crate) fn map(&self, name: &str) -> Option<PathBuf> {
        self.layout.get().map(|layout| layout.join(MAPS).join(name))
    }

    /// The links of the entered layout.
    pub(crate) fn links(&self) -> Option<PathBuf> {
        self.layout.get().map(|layout| layout.join(LINKS))
    }

    /// What [`Pins::keep`] was given last, also by an agent before this one.
    pub(crate) fn kept(&self) -> Option<Vec<u8>> {
        let map = object::open(&self.layout.get()?.join(KEPT)).ok()?;
        super::meta::kept(&object::read_first(map.as_fd()).ok()?)
    }

    /// Keeps bytes beside the maps, at most `KEPT_BYTES` less their length's eight.
    pub(crate) fn keep(&self, bytes: &[u8]) -> io::Result<()> {
        let layout = self.layout.get().ok_or(io::ErrorKind::NotFound)?;
        let value = super::meta::keep(bytes).ok_or(io::ErrorKind::FileTooLarge)?;
        object::write_first(object::open(&layout.join(KEPT))?.as_fd(), &value)
    }

    /// Layouts of this instance other than the entered one.
    pub(crate) fn others(&self) -> Vec<PathBuf> {
        let mut layouts = folders(&self.folder);
        layouts.retain(|layout| Some(layout) != self.layout.get());
        layouts
    }

    /// Removes the layouts of [`Pins::others`]: their links end, and their maps with them.
    pub(crate) fn retire(&self) -> io::Result<()> {
        self.others().iter().try_for_each(|layout| remove_layout(layout))
    }
}

const MAPS: &str = "maps";
const LINKS: &str = "links";

/// Pinned links of one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct LinkPins {
    folder: PathBuf,
    /// Inode of the namespace: unique for as long as one of its devices has a link.
    space: u64,
}

impl LinkPins {
    /// Those of the calling thread's namespace.
    pub(crate) fn of_this_thread(folder: PathBuf) -> io::Result<Self> {
        let space = fs::metadata("/proc/thread-self/ns/net")?.ino();
        Ok(Self { folder, space })
    }

    pub(crate) fn path(&self, ifindex: u32, hook: TcHook) -> PathBuf {
        let hook = match hook {
            TcHook::Ingress => "ingress",
            TcHook::Egress => "egress",
        };
        self.folder.join(format!("{:x}-{ifindex}-{hook}", self.space))
    }

    /// The link of a device that is still attached to it. A pin whose link has ended is removed.
    pub(crate) fn open(&self, ifindex: u32, hook: TcHook) -> Option<OwnedFd> {
        let path = self.path(ifindex, hook);
        let found = object::open(&path).ok()?;
        match object::link(found.as_fd()) {
            Ok(link) if link.ifindex == ifindex => Some(found),
            _ => {
                drop(fs::remove_file(path));
                None
            }
        }
    }

    /// Lets a device's links go with their descriptors.
    pub(crate) fn remove(&self, ifindex: u32) {
        for hook in TcHook::ALL {
            drop(fs::remove_file(self.path(ifindex, hook)));
        }
    }

    /// Removes the pins of this namespace's devices that are not `wanted`.
    pub(crate) fn sweep(&self, wanted: impl Fn(u32) -> bool) -> usize {
        let swept = links(&self.folder).into_iter().filter(|(_, space, ifindex)| {
            *space == Some(self.space) && !ifindex.is_some_and(&wanted)
        });
        swept.filter(|(path, ..)| fs::remove_file(path).is_ok()).count()
    }
}

/// Removes the pins of namespaces that nobody watches any more.
pub(crate) fn sweep_spaces(folder: &Path, watched: &[u64]) -> usize {
    let swept = links(folder)
        .into_iter()
        .filter(|(_, space, _)| !space.is_some_and(|space| watched.contains(&space)));
    swept.filter(|(path, ..)| fs::remove_file(path).is_ok()).count()
}

impl LinkPins {
    pub(crate) const fn space(&self) -> u64 {
        self.space
    }
}

/// Pins of a folder of links, with namespace and device by their names.
fn links(folder: &Path) -> Vec<(PathBuf, Option<u64>, Option<u32>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let parsed = entries.flatten().map(|entry| {
        let name = entry.file_name();
        let mut parts = name.to_str().unwrap_or_default().split('-');
        let space = parts.next().and_then(|part| u64::from_str_radix(part, 16).ok());
        (entry.path(), space, parts.next().and_then(|part| part.parse().ok()))
    });
    parsed.collect()
}

/// A folder of a bpf file system that is held open: what is done by [`Held::path`] is done in it, whatever its own path leads to by
/// then. A link is never followed to it: who may write to the folder above could have put one there.
#[derive(Debug)]
pub(crate) struct Held(File);

impl Held {
    /// Opens a folder; the last part of its path must not be a link.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(folder)?;
        match nix::sys::statfs::fstatfs(&file)?.filesystem_type() {
            nix::sys::statfs::BPF_FS_MAGIC => Ok(Self(file)),
            _ => Err(io::Error::other("is not in a bpf file system")),
        }
    }

    /// Leads to this very folder.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Folders in a folder, sorted; links are none.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let real = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut paths: Vec<_> = real.map(|entry| entry.path()).collect();
    paths.sort();
    paths.truncate(FOLDERS_MAX);
    paths
}

/// Removes a layout's folder, links first. Nothing outside of bpffs is ever removed.
pub(crate) fn remove_layout(layout: &Path) -> io::Result<()> {
    let held = Held::open(layout)?;
    for name in [LINKS, MAPS] {
        let path = held.path().join(name);
        match Held::open(&path) {
            Ok(folder) => remove_files(&folder)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        fs::remove_dir(path)?;
    }
    remove_files(&held)?;
    fs::remove_dir(layout)
}

fn remove_files(folder: &Held) -> io::Result<()> {
    for entry in fs::read_dir(folder.path())? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The store of the agent that was there last; none of an agent that did not write it.
pub(crate) fn store_of(layout: &Path) -> Option<PathBuf> {
    let map = object::open(&layout.join(STORE)).ok()?;
    let value = object::read_first(map.as_fd()).ok()?;
    let name = value.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
    Some(OsStr::from_bytes(name).into())
}

/// A path with zeros behind it; one that is too long is none.
fn store_value(store: &Path) -> Vec<u8> {
    let whole = usize::try_from(STORE_BYTES).unwrap_or(0);
    let mut value = store.as_os_str().as_bytes().to_vec();
    if value.len() >= whole {
        value.clear();
    }
    value.resize(whole, 0);
    value
}

/// Pinned links of a layout.
pub(crate) fn links_of(layout: &Path) -> Vec<PathBuf> {
    links(&layout.join(LINKS)).into_iter().map(|(path, ..)| path).collect()
}

/// Where a layout's map is pinned.
pub(crate) fn map_of(layout: &Path, name: &str) -> PathBuf {
    layout.join(MAPS).join(name)
}

/// Whether an agent holds an instance's folder.
pub(crate) fn is_held(instance: &Path) -> bool {
    let tried = File::open(instance).map(|file| file.try_lock());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
}

/// Whether a path, or the nearest folder above it that exists, is in a bpf file system.
fn in_bpffs(path: &Path) -> bool {
    let mut above = path.ancestors();
    above
        .find(|folder| folder.exists())
        .and_then(|folder| nix::sys::statfs::statfs(folder).ok())
        .is_some_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

/// Only root and the agent's own user may write to a folder, or to a link that leads to it.
fn only_ours(folder: &Path) -> Result<(), PinError> {
    let meta = fs::metadata(folder).map_err(failed(folder))?;
    let link = fs::symlink_metadata(folder).map_err(failed(folder))?;
    let ours = |uid| uid == 0 || uid == nix::unistd::geteuid().as_raw();
    if ours(meta.uid()) && ours(link.uid()) && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(PinError::Unsafe(folder.into()))
}

fn make(folder: &Path) -> Result<(), PinError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))
}

/// `flock` on the folder; the kernel gives it up when the process ends, however it ends.
fn lock(folder: &Path) -> Result<File, PinError> {
    let file = File::open(folder).map_err(failed(folder))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(PinError::Busy(folder.into())),
            Err(TryLockError::Error(source)) => return Err(failed(folder)(source)),
        }
    }
}

/// A map that is pinned must be the one of the layout: its name is in the folder's digest, its bytes are what is read.
fn check(path: &Path, shape: &MapShape) -> Result<(), PinError> {
    if !path.exists() {
        return Ok(());
    }
    let foreign = |problem: String| PinError::Foreign { path: path.into(), problem };
    let found = object::open(path)
        .and_then(|map| object::map(map.as_fd()))
        .map_err(|error| foreign(format!("this pin is no map that can be used ({error})")))?;
    let is = [found.kind, found.key_size, found.max_entries, found.flags, found.value_size];
    let value = if shape.value_size == 0 { found.value_size } else { shape.value_size };
    let wanted = [shape.kind, shape.key_size, shape.max_entries, shape.flags, value];
    if is == wanted {
        return Ok(());
    }
    Err(foreign(format!(
        "this map is (type, key, entries, flags, value) {is:?} where {wanted:?} is expected"
    )))
}

/// Opens or makes the array map of a path.
fn array(path: &Path, bytes: u32) -> Result<OwnedFd, PinError> {
    if path.exists() {
        let shape = MapShape {
            kind: 2,
            key_size: 4,
            value_size: bytes,
            max_entries: 1,
            ..MapShape::default()
        };
        check(path, &shape)?;
        return object::open(path).map_err(failed(path));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let map = object::array(&name, bytes).map_err(failed(path))?;
    object::pin(map.as_fd(), path).map_err(failed(path))?;
    Ok(map)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn nothing_that_a_link_leads_to_is_removed() {
        let root = tempfile::tempdir().expect("a folder");
        let precious = root.path().join("etc");
        fs::create_dir(&precious).expect("made");
        fs::write(precious.join("passwd"), "x").expect("written");
        let instance = root.path().join("api-sensor/instance");
        make(&instance).expect("made");
        let link = instance.join("layout");
        std::os::unix::fs::symlink(&precious, &link).expect("made");
        assert_eq!(folders(&instance), Vec::<PathBuf>::new());
        assert_eq!(folders(root.path()).len(), 2);
        remove_layout(&link).expect_err("a link");
        remove_layout(&precious).expect_err("not in bpffs");
        assert!(precious.join("passwd").exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_trusted() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("api-sensor");
        make(&folder).expect("made");
        let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
        assert!(only_ours(&folder).is_ok());
        for open in [0o770, 0o707, 0o1777] {
            mode(open).expect("set");
            assert!(matches!(only_ours(&folder), Err(PinError::Unsafe(path)) if path == folder));
        }
        mode(0o755).expect("set");
        assert!(only_ours(&folder).is_ok());
        if nix::unistd::geteuid().is_root() {
            // Made before us by a local user, in a folder where everybody may make one.
            std::os::unix::fs::chown(&folder, Some(65_534), None).expect("given away");
            assert!(matches!(only_ours(&folder), Err(PinError::Unsafe(_))));
            let link = root.path().join("link");
            std::os::unix::fs::symlink(root.path(), &link).expect("made");
            std::os::unix::fs::lchown(&link, Some(65_534), None).expect("given away");
            assert!(matches!(only_ours(&link), Err(PinError::Unsafe(_))));
        }
    }
}
