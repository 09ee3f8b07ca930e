//! The switch of enforcement, on the pinned maps themselves: for when no agent answers. And what is pinned, for who asks.
//!
//! A layout says in its `META` where in its settings the switch is, so this works on what an agent of any version left. Where the map can
//! be mapped, one word is stored; else the entry is read, changed and written.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use serde::Serialize;

use super::{clock, memory::Mapped, meta::Meta, object, pin};

/// What one agent of one layout has pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PinnedLayout {
    /// Which sensor of the host.
    pub instance: String,
    /// Name of the layout.
    pub layout: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Version of the agent that was there last.
    pub version: String,
    /// Its control socket.
    pub socket: String,
    /// The folder of its store; none of an agent that did not write it down.
    pub store: Option<PathBuf>,
    /// Its process, when an agent runs on this instance.
    pub running_pid: Option<u32>,
    /// Every rule only monitors.
    pub switched_off: bool,
    /// Age of the agent's last sign of life; none = it never gave one.
    pub heartbeat_age_ms: Option<u64>,
    /// Hooks of interfaces that are attached.
    pub links: usize,
}

/// Why a layout could not be read or switched.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", folder.display())]
pub struct SwitchError {
    folder: PathBuf,
    source: io::Error,
}

/// Everything that is pinned in a folder, with what could not be read.
pub fn pinned_layouts(
    root: &Path,
    instance: Option<&str>,
) -> (Vec<PinnedLayout>, Vec<SwitchError>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for sensor in pin::folders(root) {
        if instance.is_some_and(|name| sensor.file_name() != Some(name.as_ref())) {
            continue;
        }
        for folder in pin::folders(&sensor) {
            match read(&sensor, &folder) {
                Ok(layout) => found.push(layout),
                Err(source) => errors.push(SwitchError { folder, source }),
            }
        }
    }
    (found, errors)
}

/// Switches what is attached with a layout. Needs write access to its folder and CAP_BPF.
pub fn switch_layout(folder: &Path, off: bool) -> Result<(), SwitchError> {
    store(folder, off).map_err(|source| SwitchError { folder: folder.into(), source })
}

fn store(folder: &Path, off: bool) -> io::Result<()> {
    let meta = meta(folder)?;
    let settings = object::open(&pin::map_of(folder, "SETTINGS"))?;
    let info = object::map(settings.as_fd())?;
    let offset = offset(&meta, info.value_size, meta.enforcement_off_at, 4)?;
    if info.flags & object::BPF_F_MMAPABLE != 0 {
        let bytes = usize::try_from(info.value_size).map_err(io::Error::other)?;
        let memory = Mapped::new(settings.as_fd(), bytes)?;
        let word = memory.halves().get(offset / 4).filter(|_| offset.is_multiple_of(4));
        word.ok_or_else(misplaced)?.store(off.into(), Ordering::SeqCst);
        return Ok(());
    }
    let mut value = object::read_first(settings.as_fd())?;
    if let Some(word) = value.get_mut(offset..offset + 4) {
        word.copy_from_slice(&u32::from(off).to_ne_bytes());
    }
    object::write_first(settings.as_fd(), &value)
}

/// Whether every rule of a layout only monitors.
pub(super) fn is_off(folder: &Path) -> io::Result<bool> {
    let (_, off, _) = state(folder)?;
    Ok(off)
}

/// Who wrote a layout, whether it is switched off, and the agent's last sign of life.
fn state(folder: &Path) -> io::Result<(Meta, bool, u64)> {
    let meta = meta(folder)?;
    let settings = object::open(&pin::map_of(folder, "SETTINGS"))?;
    let size = object::map(settings.as_fd())?.value_size;
    let value = object::read_first(settings.as_fd())?;
    let off = word::<4>(&value, offset(&meta, size, meta.enforcement_off_at, 4)?);
    let beat = word::<8>(&value, offset(&meta, size, meta.heartbeat_at, 8)?);
    Ok((meta, u32::from_ne_bytes(off) != 0, u64::from_ne_bytes(beat)))
}

fn read(sensor: &Path, folder: &Path) -> io::Result<PinnedLayout> {
    let (meta, switched_off, beat) = state(folder)?;
    let attached = |path: &PathBuf| {
        object::open(path)
            .and_then(|link| object::link(link.as_fd()))
            .is_ok_and(|link| link.ifindex != 0)
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(PinnedLayout {
        instance: name(sensor),
        layout: name(folder),
        folder: folder.into(),
        version: meta.agent(),
        socket: meta.socket(),
        store: pin::store_of(folder),
        running_pid: pin::is_held(sensor).then_some(meta.pid),
        switched_off,
        heartbeat_age_ms: (beat != 0).then(|| clock::now().0.saturating_sub(beat) / 1_000_000),
        links: pin::links_of(folder).iter().filter(|path| attached(path)).count(),
    })
}

/// Who wrote a layout's folder.
pub(super) fn meta(folder: &Path) -> io::Result<Meta> {
    let map = object::open(&folder.join("META"))?;
    Meta::read(&object::read_first(map.as_fd())?)
        .ok_or_else(|| io::Error::other("META was not written by a sensor"))
}

/// A place in the settings, if the map is as its `META` says and the place lies in it.
fn offset(meta: &Meta, size: u32, at: u32, bytes: u32) -> io::Result<usize> {
    let inside = at.checked_add(bytes).is_some_and(|end| end <= size);
    if size != meta.settings_bytes || !inside {
        return Err(misplaced());
    }
    usize::try_from(at).map_err(io::Error::other)
}

fn misplaced() -> io::Error {
    io::Error::other("SETTINGS is not as META says")
}

fn word<const N: usize>(value: &[u8], at: usize) -> [u8; N] {
    let mut word = [0; N];
    let from = value.get(at..).unwrap_or_default();
    word.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    word
}
