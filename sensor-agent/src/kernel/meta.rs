//! The two maps that describe a layout's folder: who wrote it, and bytes that the next agent wants to see again. Pure.
//!
//! `META` is readable by agents of every layout, so that a switch of enforcement finds its place in settings of another form.

use std::mem::offset_of;

use sensor_ebpf::abi::settings::Settings;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of `KEPT`: 4 096 rules with ids of 200 bytes.
pub(crate) const KEPT_BYTES: u32 = 1 << 20;
const MAGIC: [u8; 8] = *b"APISENSR";
/// Version of [`Meta`] itself; fields are only ever appended.
const META_VERSION: u32 = 1;

/// Value of `META`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct Meta {
    magic: [u8; 8],
    version: u32,
    /// Process that wrote it.
    pub(crate) pid: u32,
    /// Bytes of the layout's settings.
    pub(crate) settings_bytes: u32,
    /// Where in them the switch of enforcement is, a u32.
    pub(crate) enforcement_off_at: u32,
    /// Where the heartbeat is, a u64.
    pub(crate) heartbeat_at: u32,
    pad: u32,
    agent: [u8; 32],
    layout: [u8; 64],
    /// The agent's control socket; a socket's path has at most 108 bytes.
    socket: [u8; 112],
    spare: [u8; 16],
}

impl Meta {
    pub(crate) const BYTES: u32 = 256;

    /// What this process writes.
    pub(crate) fn now(layout: &str, socket: &str) -> Self {
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            magic: MAGIC,
            version: META_VERSION,
            pid: std::process::id(),
            settings_bytes: at(size_of::<Settings>()),
            enforcement_off_at: at(offset_of!(Settings, enforcement_off)),
            heartbeat_at: at(offset_of!(Settings, heartbeat_ns)),
            pad: 0,
            agent: text(env!("CARGO_PKG_VERSION")),
            layout: text(layout),
            socket: text(socket),
            spare: [0; 16],
        }
    }

    /// Reads the map's value; `None` when no sensor wrote it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let meta = Self::read_from_bytes(bytes).ok()?;
        (meta.magic == MAGIC && meta.version >= META_VERSION).then_some(meta)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES as usize] {
        zerocopy::transmute!(self)
    }

    /// Whether the settings of both have the same form.
    pub(crate) const fn same_settings(&self, other: &Self) -> bool {
        self.settings_bytes == other.settings_bytes
            && self.enforcement_off_at == other.enforcement_off_at
            && self.heartbeat_at == other.heartbeat_at
    }

    /// Version of the agent that wrote it.
    pub(crate) fn agent(&self) -> String {
        until_zero(&self.agent)
    }

    /// Control socket of that agent.
    pub(crate) fn socket(&self) -> String {
        until_zero(&self.socket)
    }
}

/// The first bytes of a text, the rest zero.
fn text<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn until_zero(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Bytes with their length before them, as `KEPT` holds them; `None` when they do not fit.
pub(crate) fn keep(bytes: &[u8]) -> Option<Vec<u8>> {
    let whole = usize::try_from(KEPT_BYTES).ok()?;
    let mut value = u64::try_from(bytes.len()).ok()?.to_le_bytes().to_vec();
    value.extend(bytes);
    (value.len() <= whole).then(|| {
        value.resize(whole, 0);
        value
    })
}

/// What [`keep`] was given; `None` when nothing was.
pub(crate) fn kept(value: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = value.split_first_chunk::<8>()?;
    let len = usize::try_from(u64::from_le_bytes(*len)).ok().filter(|len| *len > 0)?;
    rest.get(..len).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_not() {
        let meta = Meta::now("abi1-0", "/run/agent.sock");
        assert_eq!(Meta::read(&meta.to_bytes()), Some(meta));
        assert_eq!(meta.agent(), env!("CARGO_PKG_VERSION"));
        assert_eq!(meta.socket(), "/run/agent.sock");
        assert_eq!(Meta::read(&[0; 256]), None);
        assert_eq!(Meta::read(&meta.to_bytes()[..255]), None);
    }

    #[test]
    fn kept_bytes_come_back_and_too_many_are_refused() {
        assert_eq!(kept(&keep(b"one").unwrap()), Some(b"one".to_vec()));
        assert_eq!(kept(&[0; 16]), None);
        assert_eq!(kept(&[0xff; 16]), None, "a length beyond the end");
        assert_eq!(keep(&vec![0; 1 << 20]), None);
    }
}
