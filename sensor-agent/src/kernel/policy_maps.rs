//! Policy images into the kernel's maps, the selector that puts one in force, and what the kernel tells of rules.
//!
//! An image is written into maps of its own through memory, the maps go into a free slot, and one store of the selector puts it in
//! force: all of it or none. The image before is taken out of its slot only after a grace period, when no packet
//! can be reading it. Nothing in use is ever changed. Bounds: `SLOTS` images at a time; the memory of one is
//! known before ([`PolicyMaps::publish`] refuses what there is no room for).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use aya::{
    Ebpf,
    maps::{HashMap, IterableMap as _, Map, MapData, MapError, PerCpuArray, PerCpuValues},
};
use sensor_core::policy::image::PolicyImage;
use sensor_ebpf::abi::{
    dynamic::{DropKey, DropValue, Verdict},
    flow_key::FlowKey,
    image::{HITS_SLOTS, Header, INSTALL_LINE, INSTALL_WORD, Line, Rule, SLOTS},
    policy::RuleHits,
    settings::{POLICY_ANCHOR_SHIFT, POLICY_BLOCK6, POLICY_SLOT},
};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{
    live::{self, Dynamic, LiveEnds},
    load::{LoadError, take},
    memory::Mapped,
    object,
    patience::{is_for_the_moment, patiently},
    pod::Wire,
    repeats::Repeats,
    room,
    settings::SettingsMap,
    sys,
};
use crate::config::Room;

/// Whether a policy stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// It stays until the next one.
    Confirmed,
    /// It ends by itself, and the confirmed one is in force again.
    Provisional {
        /// When, `CLOCK_BOOTTIME` ns; the kernel's own clock decides.
        until_ns: u64,
    },
}

/// A policy that is in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Installed {
    /// Bytes of kernel memory of its image and bitmaps.
    pub bytes: u64,
    /// Counted up with each policy that this process installs.
    pub generation: u64,
    /// Its slot.
    pub slot: u32,
}

/// Why a policy could not be put in force. The one before stays.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A policy is provisional; it is confirmed or reverted first.
    #[error("a provisional policy is in force: confirm or revert it first")]
    Provisional,
    /// Nothing to confirm.
    #[error("there is no provisional policy (it may have ended by itself)")]
    NotProvisional,
    /// The image is none.
    #[error("the policy image is malformed: {0}")]
    Image(&'static str),
    /// It would not fit.
    #[error(
        "the policy needs {} KiB of kernel memory and {} leaves {} KiB; the policy before stays in force",
        .needed.div_ceil(1024), .room.by, .room.bytes / 1024
    )]
    NoRoom {
        /// Bytes of the image.
        needed: u64,
        /// What is left.
        room: Room,
    },
    /// The kernel said no.
    #[error("write map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl ApplyError {
    /// Whether the same policy may be accepted later, with nothing of it changed.
    #[must_use]
    pub fn is_for_the_moment(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Map { source, .. } => is_for_the_moment(source),
            Self::Provisional | Self::NotProvisional | Self::Image(_) => false,
        }
    }
}

/// The policy maps with what is in their slots.
pub(crate) struct PolicyMaps {
    policy: MapData,
    any4: MapData,
    filter6: MapData,
    near: MapData,
    hits: PerCpuArray<MapData, Wire<RuleHits>>,
    flow_verdicts: HashMap<MapData, Wire<FlowKey>, Wire<Verdict>>,
    client_verdicts: HashMap<MapData, [u8; 16], Wire<Verdict>>,
    shared: HashMap<MapData, [u8; 16], u64>,
    drops: HashMap<MapData, Wire<DropKey>, Wire<DropValue>>,
    repeats: Repeats,
    /// Images that this process put into the slots.
    images: [Option<OwnedFd>; SLOTS as usize],
    /// Counted up with each image.
    generation: u64,
    /// Hits that any image so far counts: numbers below this.
    hits_count: u32,
    settings: Arc<SettingsMap>,
}

impl PolicyMaps {
    pub(crate) fn new(ebpf: &mut Ebpf, settings: Arc<SettingsMap>) -> Result<Self, LoadError> {
        let failed = |name| move |source| LoadError::Map { name, source };
        macro_rules! map {
            ($kind:ident, $name:literal) => {
                $kind::try_from(take(ebpf, $name)?).map_err(failed($name))?
            };
        }
        Ok(Self {
            policy: slots(ebpf, "POLICY")?,
            any4: slots(ebpf, "ANY4")?,
            filter6: slots(ebpf, "FILTER6")?,
            near: slots(ebpf, "NEAR")?,
            hits: map!(PerCpuArray, "RULE_HITS"),
            flow_verdicts: map!(HashMap, "FLOW_VERDICTS"),
            client_verdicts: map!(HashMap, "CLIENT_VERDICTS"),
            shared: map!(HashMap, "SHARED"),
            drops: map!(HashMap, "DROPS"),
            repeats: repeats(ebpf).map_err(|error| failed("REPEATS")(MapError::IoError(error)))?,
            images: Default::default(),
            generation: 0,
            hits_count: 1,
            settings,
        })
    }

    /// Puts a policy in force, at once and as a whole. Takes a few grace periods (tens of milliseconds) beside the writing.
    pub(crate) fn publish(
        &mut self,
        image: &PolicyImage,
        install: Install,
    ) -> Result<Installed, ApplyError> {
        let settings = self.settings.current();
        if settings.provisional_until_ns != 0 {
            if super::clock::now().0 < settings.provisional_until_ns {
                return Err(ApplyError::Provisional);
            }
            self.revert()?;
        }
        let header = header(image)?;
        let needed = image.bytes();
        if let Some(room) = room::memory_room().filter(|room| room.bytes < needed) {
            return Err(ApplyError::NoRoom { needed, room });
        }
        let used = settings.policy & POLICY_SLOT;
        let slot = (0..SLOTS).find(|slot| u64::from(*slot) != used).unwrap_or(0);
        self.generation += 1;
        self.write(slot, image)?;
        self.hits_count = self.hits_count.max(hits_count(image, &header));
        let selector = selector(image, &header, slot);
        let change = self.settings.update(|settings| match install {
            Install::Confirmed => settings.policy = selector,
            Install::Provisional { until_ns } => {
                settings.provisional = selector;
                settings.provisional_until_ns = until_ns.max(1);
            }
        });
        change.map_err(failed("SETTINGS"))?;
        if install == Install::Confirmed {
            self.forget(slot)?;
        }
        Ok(Installed { bytes: needed, generation: self.generation, slot })
    }

    /// Makes the provisional policy the confirmed one.
    pub(crate) fn confirm(&mut self) -> Result<(), ApplyError> {
        let settings = self.settings.current();
        if settings.provisional_until_ns == 0
            || super::clock::now().0 >= settings.provisional_until_ns
        {
            return Err(ApplyError::NotProvisional);
        }
        // In the order of the struct: the policy is in its new place before the old place ends.
        let change = self.settings.update(|settings| {
            settings.policy = settings.provisional;
            settings.provisional_until_ns = 0;
        });
        change.map_err(failed("SETTINGS"))?;
        self.forget(slot_of(settings.provisional))
    }

    /// Ends the provisional policy, whether its time is over or not; the confirmed one is in force. Without one does nothing, and says false.
    pub(crate) fn revert(&mut self) -> Result<bool, ApplyError> {
        let settings = self.settings.current();
        if settings.provisional_until_ns == 0 {
            return Ok(false);
        }
        self.settings
            .update(|settings| settings.provisional_until_ns = 0)
            .map_err(failed("SETTINGS"))?;
        self.forget(slot_of(settings.policy))?;
        Ok(true)
    }

    /// Hits by their number, summed over the CPUs, as far as any image counted so far.
    pub(crate) fn hits(&self) -> Result<Vec<RuleHits>, MapError> {
        let one = |number: u32| {
            let values = self.hits.get(&number, 0)?;
            Ok(values.iter().fold(RuleHits::default(), |sum, Wire(hits)| RuleHits {
                packets: sum.packets.wrapping_add(hits.packets),
                bytes: sum.bytes.wrapping_add(hits.bytes),
                last_ns: sum.last_ns.max(hits.last_ns),
                would_packets: sum.would_packets.wrapping_add(hits.would_packets),
                would_bytes: sum.would_bytes.wrapping_add(hits.would_bytes),
                shared_packets: sum.shared_packets.wrapping_add(hits.shared_packets),
            }))
        };
        (0..self.hits_count).map(one).collect()
    }

    /// Begins counts at zero: of numbers that a new rule took over from one that is gone. Call it before the rule is published.
    pub(crate) fn reset_hits(&mut self, numbers: &[u32]) -> Result<(), MapError> {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error))?;
        for number in numbers {
            let zero = PerCpuValues::try_from(vec![Wire(RuleHits::default()); cpus])?;
            self.hits.set(*number, zero, 0)?;
        }
        Ok(())
    }

    /// What the tables of verdicts and shared sources hold for a connection; a client's port of 0 is not known.
    pub(crate) fn ends(
        &self,
        protocol: u8,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Result<LiveEnds, MapError> {
        let (flow_verdicts, client_verdicts) = (&self.flow_verdicts, &self.client_verdicts);
        Dynamic { flow_verdicts, client_verdicts, shared: &self.shared }
            .ends(protocol, client, server)
    }

    /// The image in force for packets now, as the kernel has it. Empty when this process did not put it there.
    pub(crate) fn live_image(&self) -> io::Result<Vec<Line>> {
        self.live_map()?.map_or(Ok(Vec::new()), |image| live::lines(image.as_fd()))
    }

    /// The map of that image.
    pub(crate) fn live_map(&self) -> io::Result<Option<OwnedFd>> {
        let slot = live::slot(&self.settings.current());
        let image = usize::try_from(slot).ok().and_then(|slot| self.images.get(slot));
        image.and_then(Option::as_ref).map(OwnedFd::try_clone).transpose()
    }

    /// Sets, replaces or (with `None`) ends the verdict on a flow.
    pub(crate) fn verdict_flow(
        &mut self,
        key: FlowKey,
        verdict: Option<Verdict>,
    ) -> Result<(), MapError> {
        let Some(verdict) = verdict else {
            absent_is_fine(self.flow_verdicts.remove(&Wire(key)))?;
            return self.count_dynamic();
        };
        self.flow_verdicts.insert(Wire(key), Wire(verdict), 0)?;
        self.some(|settings| &mut settings.verdicts)
    }

    /// Sets, replaces or ends the verdict on a client (IPv4 v4-mapped, IPv6 the /64).
    pub(crate) fn verdict_client(
        &mut self,
        client: [u8; 16],
        verdict: Option<Verdict>,
    ) -> Result<(), MapError> {
        let Some(verdict) = verdict else {
            absent_is_fine(self.client_verdicts.remove(&client))?;
            return self.count_dynamic();
        };
        self.client_verdicts.insert(client, Wire(verdict), 0)?;
        self.some(|settings| &mut settings.verdicts)
    }

    /// Marks a source as shared by many clients until then, or (with 0) no more.
    pub(crate) fn shared_source(
        &mut self,
        source: [u8; 16],
        until_ns: u64,
    ) -> Result<(), MapError> {
        if until_ns == 0 {
            absent_is_fine(self.shared.remove(&source))?;
            return self.count_dynamic();
        }
        self.shared.insert(source, until_ns, 0)?;
        self.some(|settings| &mut settings.shared_sources)
    }

    /// Removes verdicts and shared sources whose time is over. Returns how many.
    pub(crate) fn sweep(&mut self, now_ns: u64) -> Result<usize, MapError> {
        let over = |entry: Result<(Wire<FlowKey>, Wire<Verdict>), MapError>| {
            entry.ok().filter(|(_, verdict)| verdict.0.until_ns <= now_ns).map(|(key, _)| key)
        };
        let flows: Vec<_> = self.flow_verdicts.iter().filter_map(over).collect();
        for key in &flows {
            absent_is_fine(self.flow_verdicts.remove(key))?;
        }
        let clients = self.client_verdicts.iter().filter_map(Result::ok);
        let clients: Vec<_> = clients
            .filter(|(_, verdict)| verdict.0.until_ns <= now_ns)
            .map(|(key, _)| key)
            .collect();
        for key in &clients {
            absent_is_fine(self.client_verdicts.remove(key))?;
        }
        let shared = self.shared.iter().filter_map(Result::ok);
        let shared: Vec<_> =
            shared.filter(|(_, until)| *until <= now_ns).map(|(key, _)| key).collect();
        for key in &shared {
            absent_is_fine(self.shared.remove(key))?;
        }
        self.count_dynamic()?;
        Ok(flows.len() + clients.len() + shared.len())
    }

    /// Shared sources with the time until when they are.
    pub(crate) fn shared_sources(&self) -> Vec<([u8; 16], u64)> {
        self.shared.iter().filter_map(Result::ok).collect()
    }

    /// What was dropped so far, by client, rule and reason.
    pub(crate) fn drops(&mut self) -> Vec<(DropKey, DropValue)> {
        let rows = self.drops.iter().filter_map(Result::ok);
        let mut rows = rows.map(|(key, value)| (key.0, value.0)).collect();
        self.repeats.add_to(&mut rows);
        rows
    }

    /// Drops that the agent itself cannot tell whose they are, beside those of the ledger.
    pub(crate) const fn drops_unattributed(&self) -> u64 {
        self.repeats.unattributed()
    }

    /// Takes a row of the drops away, with what it counted in the end; `None` where the kernel does not tell.
    pub(crate) fn take_drop(&mut self, key: DropKey) -> Result<Option<DropValue>, MapError> {
        let last = match object::take_entry(self.drops.map().fd().as_fd(), key) {
            Ok(value) => value,
            // Before 5.14: what is dropped between the last look and now is lost to the row.
            Err(_) => absent_is_fine(self.drops.remove(&Wire(key))).map(|()| None)?,
        };
        Ok(self.repeats.end(&key, last))
    }

    /// Puts the maps of an image into a slot that is not in use.
    fn write(&mut self, slot: u32, image: &PolicyImage) -> Result<(), ApplyError> {
        let lines_count = u32::try_from(image.lines.len())
            .map_err(|_| ApplyError::Image("more lines than a map holds"))?;
        let flags = object::BPF_F_MMAPABLE | object::BPF_F_INNER_MAP;
        let lines = patiently(|| object::array_of("policy_image", LINE_BYTES, lines_count, flags))
            .map_err(failed("POLICY"))?;
        let bytes = image.lines.as_bytes().len();
        let memory = patiently(|| Mapped::new(lines.as_fd(), bytes)).map_err(failed("POLICY"))?;
        memory.fill(image.lines.as_flattened().iter());
        // No two installations begin at the same nanosecond.
        if let Some(word) = memory.words().get(INSTALL_LINE as usize * 8 + INSTALL_WORD) {
            word.store(super::clock::now().0, Ordering::Relaxed);
        }
        drop(memory);
        bitmap(&self.any4, slot, &image.any4).map_err(failed("ANY4"))?;
        bitmap(&self.filter6, slot, &image.filter6).map_err(failed("FILTER6"))?;
        bitmap(&self.near, slot, &image.near4).map_err(failed("NEAR"))?;
        bitmap(&self.near, SLOTS + slot, &image.near6).map_err(failed("NEAR"))?;
        patiently(|| object::slot_set(self.policy.fd().as_fd(), slot, lines.as_fd()))
            .map_err(failed("POLICY"))?;
        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| self.images.get_mut(slot)) {
            *place = Some(lines);
        }
        Ok(())
    }

    /// Empties every slot but the one in force, once no packet reads them any more.
    fn forget(&mut self, in_force: u32) -> Result<(), ApplyError> {
        sys::grace_period();
        for (slot, place) in (0..SLOTS).zip(&mut self.images) {
            if slot == in_force {
                continue;
            }
            // Whoever put it there: an earlier agent's image is not needed any more either.
            *place = None;
            let maps = [
                (&self.policy, slot, "POLICY"),
                (&self.any4, slot, "ANY4"),
                (&self.filter6, slot, "FILTER6"),
                (&self.near, slot, "NEAR"),
                (&self.near, SLOTS + slot, "NEAR"),
            ];
            for (map, slot, name) in maps {
                patiently(|| object::slot_clear(map.fd().as_fd(), slot)).map_err(failed(name))?;
            }
        }
        Ok(())
    }

    /// Tells the programs that there is something to look up. How much there is matters to nobody before the next sweep: counting walks
    /// whole maps, and verdicts are written by the thread that drains the ring.
    fn some(
        &self,
        count: impl Fn(&mut sensor_ebpf::abi::settings::Settings) -> &mut u32,
    ) -> Result<(), MapError> {
        let mut now = self.settings.current();
        if *count(&mut now) != 0 {
            return Ok(());
        }
        self.settings.update(|settings| *count(settings) = 1).map_err(MapError::IoError)
    }

    /// Tells the programs how many verdicts and shared sources there are: they skip the look-up while there are none.
    fn count_dynamic(&self) -> Result<(), MapError> {
        let count = |iter: &mut dyn Iterator<Item = ()>| u32::try_from(iter.count()).unwrap_or(1);
        let verdicts = count(&mut self.flow_verdicts.keys().map(drop))
            + count(&mut self.client_verdicts.keys().map(drop));
        let shared = count(&mut self.shared.keys().map(drop));
        self.settings
            .update(|settings| {
                settings.verdicts = verdicts;
                settings.shared_sources = shared;
            })
            .map_err(MapError::IoError)
    }
}

const LINE_BYTES: u32 = 64;
const _: () = assert!(size_of::<Line>() == LINE_BYTES as usize);

fn slots(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, LoadError> {
    match take(ebpf, name)? {
        Map::ArrayOfMaps(map) => Ok(map),
        _ => Err(LoadError::NoMap(name)),
    }
}

fn repeats(ebpf: &mut Ebpf) -> io::Result<Repeats> {
    let Map::Array(map) = take(ebpf, "REPEATS").map_err(io::Error::other)? else {
        return Err(io::Error::other("not an array"));
    };
    Repeats::new(map)
}

fn failed(name: &'static str) -> impl Fn(io::Error) -> ApplyError {
    move |source| ApplyError::Map { name, source }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        result => result,
    }
}

fn slot_of(selector: u64) -> u32 {
    u32::try_from(selector & POLICY_SLOT).unwrap_or(0)
}

/// Puts a bitmap into a slot that is not in use, or empties it.
fn bitmap(outer: &MapData, slot: u32, words: &[u64]) -> io::Result<()> {
    if words.is_empty() {
        return patiently(|| object::slot_clear(outer.fd().as_fd(), slot));
    }
    let bytes = size_of_val(words);
    let size = u32::try_from(bytes).map_err(io::Error::other)?;
    let map = patiently(|| object::array_of("policy_bitmap", size, 1, object::BPF_F_MMAPABLE))?;
    patiently(|| Mapped::new(map.as_fd(), bytes))?.fill(words.iter());
    patiently(|| object::slot_set(outer.fd().as_fd(), slot, map.as_fd()))
}

fn header(image: &PolicyImage) -> Result<Header, ApplyError> {
    let (header, _) = Header::read_from_prefix(image.lines.as_bytes())
        .map_err(|_| ApplyError::Image("no header"))?;
    if header.version != sensor_ebpf::abi::image::IMAGE_VERSION {
        return Err(ApplyError::Image("another version"));
    }
    if usize::try_from(header.lines) != Ok(image.lines.len()) {
        return Err(ApplyError::Image("its length is not what its header says"));
    }
    Ok(header)
}

/// One more than the largest number of hits in the rules of an image.
fn hits_count(image: &PolicyImage, header: &Header) -> u32 {
    let wide = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let rules = image.lines.iter().skip(wide(header.rules)).take(wide(header.rules_count));
    let hits = rules.filter_map(|line| Some(Rule::read_from_bytes(line.as_bytes()).ok()?.hits));
    hits.max().map_or(1, |most| most.saturating_add(1).min(HITS_SLOTS))
}

/// The word that puts an image in force.
fn selector(image: &PolicyImage, header: &Header, slot: u32) -> u64 {
    let [anchor, ..] = header.anchor_lengths;
    let anchor = if image.flags & POLICY_BLOCK6 == 0 { 0 } else { anchor };
    let flags = image.flags & !POLICY_SLOT & !(0xff << POLICY_ANCHOR_SHIFT);
    flags | u64::from(anchor) << POLICY_ANCHOR_SHIFT | u64::from(slot)
}
