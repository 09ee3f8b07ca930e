//! The policy as the kernel has it now, for who asks which rule decides: the image in force, the settings, and what the tables of
//! verdicts and shared sources hold for one connection. Of a running agent's own maps, or of what one left pinned.
//!
//! Pinned maps are read only when their `META` and image are of this version: never misread. An image is reached by its map's number, which
//! needs root (CAP_SYS_ADMIN).

use std::{
    collections::HashMap as Names,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    sync::atomic::Ordering,
};

use aya::maps::{HashMap, Map, MapData, MapError};
use sensor_core::policy::image::{Numbers, Verdicts, View};
use sensor_ebpf::abi::{
    dynamic::Verdict,
    flow_key::FlowKey,
    image::Line,
    settings::{POLICY_SLOT, Settings},
};
use zerocopy::FromBytes as _;

use super::{clock, memory::Mapped, meta, meta::Meta, object, pin, pod::Wire, switch, verdicts};

const LINE_BYTES: usize = size_of::<Line>();

/// The policy in force.
#[derive(Clone, Debug, Default)]
pub struct LivePolicy {
    /// The settings of the moment.
    pub settings: Settings,
    /// The image, of the provisional policy while that is in force. Empty when there is none, or when this process may not read it.
    pub lines: Vec<Line>,
}

/// What the tables hold for one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveEnds {
    /// Verdicts of the agent on it; the client is the first end.
    pub verdicts: Verdicts,
    /// Whether many clients share the client's, and the server's address.
    pub shared: (bool, bool),
    /// Other connections between the same client and service that are under a verdict, where the client's port is not known.
    pub other_flows: usize,
}

/// What is pinned, as far as one question needs it.
#[derive(Debug)]
pub struct PinnedPolicy {
    /// The policy in force.
    pub live: LivePolicy,
    /// What the tables hold for the connection.
    pub ends: LiveEnds,
    /// Rules by the number of their hits.
    pub names: Names<u32, String>,
}

/// Whether the provisional policy is in force at this time.
#[must_use]
pub const fn provisional(settings: &Settings, now_ns: u64) -> bool {
    settings.provisional_until_ns > now_ns
}

/// The slot of the image that packets are judged by now.
pub(super) fn slot(settings: &Settings) -> u32 {
    let now = clock::now().0;
    let word = if provisional(settings, now) { settings.provisional } else { settings.policy };
    u32::try_from(word & POLICY_SLOT).unwrap_or(0)
}

/// Copies an image out of its map.
pub(super) fn lines(image: BorrowedFd<'_>) -> io::Result<Vec<Line>> {
    let info = object::map(image)?;
    if usize::try_from(info.value_size) != Ok(LINE_BYTES) {
        return Err(io::Error::other("not an image"));
    }
    let count = usize::try_from(info.max_entries).map_err(io::Error::other)?;
    let memory = Mapped::new(image, count * LINE_BYTES)?;
    let words: Vec<u64> = memory.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
    Ok(words.as_chunks::<8>().0.to_vec())
}

/// The tables that change while a policy stays.
pub(super) struct Dynamic<'m> {
    pub(super) flow_verdicts: &'m HashMap<MapData, Wire<FlowKey>, Wire<Verdict>>,
    pub(super) client_verdicts: &'m HashMap<MapData, [u8; 16], Wire<Verdict>>,
    pub(super) shared: &'m HashMap<MapData, [u8; 16], u64>,
}

impl Dynamic<'_> {
    /// What they hold for a connection; a client's port of 0 is not known.
    pub(super) fn ends(
        &self,
        protocol: u8,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<LiveEnds, MapError> {
        let now = clock::now().0;
        let key = verdicts::flow_key(protocol, client, server);
        let flow = found(self.flow_verdicts.get(&Wire(key), 0))?.map(|Wire(verdict)| verdict);
        let of_client = |address: IpAddr| {
            let verdict = self.client_verdicts.get(&verdicts::client_key(address), 0);
            Ok::<_, MapError>(found(verdict)?.map(|Wire(verdict)| verdict))
        };
        let is_shared = |address: IpAddr| {
            let until = found(self.shared.get(&verdicts::mapped(address), 0))?;
            Ok::<_, MapError>(until.is_some_and(|until| until > now))
        };
        let clients = [of_client(client.ip())?, of_client(server.ip())?];
        let shared = (is_shared(client.ip())?, is_shared(server.ip())?);
        let mut other_flows = 0;
        if client.port() == 0 {
            let own = verdicts::mapped(client.ip());
            let is_its = |key: &FlowKey| {
                key.protocol == protocol
                    && ((key.low == own && key.high_port == server.port())
                        || (key.high == own && key.low_port == server.port()))
            };
            let keys = self.flow_verdicts.keys().filter_map(Result::ok);
            other_flows = keys.filter(|Wire(key)| is_its(key)).count();
        }
        Ok(LiveEnds { verdicts: Verdicts { flow, clients }, shared, other_flows })
    }
}

/// Reads what an agent left pinned.
pub fn pinned_policy(
    folder: &Path,
    protocol: u8,
    client: SocketAddr,
    server: SocketAddr,
) -> io::Result<PinnedPolicy> {
    if !Meta::now("", "").same_settings(&switch::meta(folder)?) {
        return Err(io::Error::other(
            "it is of another version; ask with the sensor-agent that left it",
        ));
    }
    let open = |name: &str| object::open(&pin::map_of(folder, name));
    let settings = object::read_first(open("SETTINGS")?.as_fd())?;
    let settings = Settings::read_from_bytes(&settings)
        .map_err(|_| io::Error::other("SETTINGS is of another version"))?;
    let image = object::slot_get(open("POLICY")?.as_fd(), slot(&settings))?;
    let lines = image.map_or(Ok(Vec::new()), |image| lines(image.as_fd()))?;
    if !lines.is_empty() && View::new(lines.as_slice()).is_none() {
        return Err(io::Error::other("its policy image is of another version"));
    }
    let map = |name: &str| {
        let data = MapData::from_pin(pin::map_of(folder, name)).map_err(io::Error::other)?;
        Map::from_map_data(data).map_err(io::Error::other)
    };
    let failed = |error: MapError| io::Error::other(error.to_string());
    let tables = Dynamic {
        flow_verdicts: &HashMap::try_from(map("FLOW_VERDICTS")?).map_err(failed)?,
        client_verdicts: &HashMap::try_from(map("CLIENT_VERDICTS")?).map_err(failed)?,
        shared: &HashMap::try_from(map("SHARED")?).map_err(failed)?,
    };
    let ends = tables.ends(protocol, client, server).map_err(failed)?;
    let names = object::open(&folder.join(pin::KEPT))
        .and_then(|kept| object::read_first(kept.as_fd()))
        .ok()
        .and_then(|value| Numbers::from_bytes(&meta::kept(&value)?))
        .map(|numbers| numbers.slots().map(|(id, slot)| (slot, id.to_owned())).collect());
    let live = LivePolicy { settings, lines };
    Ok(PinnedPolicy { live, ends, names: names.unwrap_or_default() })
}

fn found<T>(value: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
