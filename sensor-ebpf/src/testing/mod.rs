//! Host implementation of [`Tables`] over std collections, so that tests run the same code as the kernel does.
//!
//! One [`Host`] is a host with any number of hooks; [`Host::see`] shows it one packet. No bound: for tests only.

use core::{
    cell::{Cell, RefCell},
    ops::{Deref, DerefMut},
};
use std::{
    boxed::Box,
    collections::{HashMap, HashSet},
    rc::Rc,
    vec,
    vec::Vec,
};

use zerocopy::IntoBytes;

pub mod image;

use self::image::{Draft, Image};
use crate::{
    abi::{
        counter::Counter,
        dynamic::{Connection, DropKey, DropValue, Handshake, Verdict},
        flow_key::{FlowKey, Tuple},
        image::{INSTALL_LINE, INSTALL_WORD, Line, Lines as _, SLOTS},
        policy::{LimitKey, RuleHits},
        repeat::Repeat,
        sample::{Hook, SampleHeader},
        settings::{ListenerCounts, ListenerKey, Settings},
    },
    judge::{UNFIT, judge, swift},
    packet::{Link, PacketBytes, Slice},
    tables::{
        FragmentKey, FragmentVerdict, Hit, ListenerEvent, RecentKey, RecentValue, Step, Tables,
        Tier,
    },
    tracker::Flow,
    verdict::{Decision, TatCell},
    work::{Window, Work},
};

/// A host under test: its tables, what it counted and what it emitted.
pub struct Host {
    /// As the agent would set them.
    pub settings: Settings,
    /// Mode enforce.
    pub enforce: bool,
    /// Whether heads are read in one pass where they can be.
    pub in_one_pass: bool,
    /// The clock.
    pub now_ns: u64,
    /// Hook of the next packet.
    pub hook: Hook,
    /// Interface of the next packet.
    pub ifindex: u32,
    /// Wire packets of the next skb.
    pub wire_packets: u32,
    /// Records that still fit into the ring.
    pub ring_room: Cell<u64>,
    /// Policy images by slot.
    pub images: [Image; 3],
    /// Verdicts on flows.
    pub flow_verdicts: RefCell<HashMap<FlowKey, Verdict>>,
    /// Verdicts on clients.
    pub client_verdicts: HashMap<[u8; 16], Verdict>,
    /// Shared sources.
    pub shared: HashMap<[u8; 16], u64>,
    /// What was dropped.
    pub drops: RefCell<HashMap<DropKey, DropValue>>,
    /// Policies put in force so far.
    pub installed: u64,
    /// Drops that come again.
    pub repeats: RefCell<HashMap<u32, Repeat>>,
    /// Hits of rules, by `Rule::hits`.
    pub hits: RefCell<HashMap<u32, RuleHits>>,
    /// Counters.
    pub counters: RefCell<Vec<u64>>,
    /// Records: header and data.
    pub records: RefCell<Vec<(SampleHeader, Vec<u8>)>>,
    /// Listener table.
    pub listeners: RefCell<HashMap<ListenerKey, ListenerCounts>>,
    /// Flow table.
    pub flows: RefCell<HashMap<FlowKey, Flow>>,
    /// Addresses known to complete handshakes.
    pub proven: RefCell<HashSet<[u8; 16]>>,
    /// Connections of local sockets: remote end first.
    pub sockets: HashSet<Tuple>,
    /// Addresses and ports on which local sockets listen.
    pub listening: HashSet<([u8; 16], u16)>,
    /// Clients over a limit that still fit.
    pub penalties_room: Cell<u64>,
    /// Handshakes without payload yet.
    pub handshakes: RefCell<HashMap<FlowKey, Handshake>>,
    /// Connections that are counted.
    pub connections: RefCell<HashMap<FlowKey, Counted>>,
    /// How many are open.
    pub open: RefCell<HashMap<LimitKey, Shared>>,
    pub(crate) limit_state: RefCell<HashMap<(Tier, LimitKey), Shared>>,
    pub(crate) recent: RefCell<HashMap<RecentKey, RecentValue>>,
    pub(crate) aliases: RefCell<HashMap<Tuple, Tuple>>,
    pub(crate) fragments: RefCell<HashMap<FragmentKey, FragmentVerdict>>,
    pub(crate) work: RefCell<Box<Work>>,
}

/// A word that two look-ups share.
type Shared = Rc<Cell<u64>>;

/// A connection, and which of its ends sent FIN.
pub type Counted = (Connection, Shared);

/// Key of our own RSTs on every [`Host`].
pub const RESET_KEY: u64 = 0x5eed_0f0a_1b2c_3d4e;

impl Default for Host {
    fn default() -> Self {
        Self {
            settings: Settings {
                sample_threshold: u32::MAX,
                sample_weight: 1,
                head_bytes_max: 16_384,
                hooks: 1,
                wake_bytes: u32::MAX,
                ..Settings::default()
            },
            enforce: false,
            in_one_pass: true,
            now_ns: 1_000_000_000_000,
            hook: Hook::Ingress,
            ifindex: 1,
            wire_packets: 0,
            ring_room: Cell::new(u64::MAX),
            images: Default::default(),
            flow_verdicts: RefCell::default(),
            client_verdicts: HashMap::new(),
            shared: HashMap::new(),
            drops: RefCell::default(),
            hits: RefCell::default(),
            counters: RefCell::new(vec![0; Counter::COUNT]),
            records: RefCell::default(),
            listeners: RefCell::default(),
            flows: RefCell::default(),
            proven: RefCell::default(),
            installed: 0,
            repeats: RefCell::default(),
            sockets: HashSet::new(),
            listening: HashSet::new(),
            penalties_room: Cell::new(u64::MAX),
            handshakes: RefCell::default(),
            connections: RefCell::default(),
            open: RefCell::default(),
            limit_state: RefCell::default(),
            recent: RefCell::default(),
            aliases: RefCell::default(),
            fragments: RefCell::default(),
            work: RefCell::default(),
        }
    }
}

impl Host {
    /// Shows one packet.
    pub fn see(&self, link: Link, packet: &[u8]) -> Decision {
        judge(link, &Slice(packet), self, &mut self.work.borrow_mut())
    }

    /// A counter's value.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.borrow().get(counter as usize).copied().unwrap_or(0)
    }

    /// Forgets which addresses are proven, and their handshakes and connections.
    pub fn forget_clients(&mut self) {
        self.proven.get_mut().clear();
        self.handshakes.get_mut().clear();
        self.connections.get_mut().clear();
        self.open.get_mut().clear();
    }

    /// Puts a policy in force.
    pub fn install(&mut self, policy: &Draft) {
        let mut image = policy.build();
        self.installed += 1;
        if let Some(word) =
            image.lines.get_mut(INSTALL_LINE as usize).and_then(|line| line.get_mut(INSTALL_WORD))
        {
            *word = self.installed;
        }
        self.settings.policy = image.flags;
        let [first, ..] = &mut self.images;
        *first = image;
    }

    fn image(&self, slot: u32) -> Option<&Image> {
        self.images.get(slot as usize)
    }
}

/// A flow that is out of the table for one packet.
pub struct Taken(Box<(FlowKey, Flow)>);

impl Deref for Taken {
    type Target = Flow;
    fn deref(&self) -> &Flow {
        &self.0.1
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Flow {
        &mut self.0.1
    }
}

/// A row of `REPEATS` that is out of the table for one packet.
pub struct TakenRepeat(u32, Box<Repeat>);

impl Deref for TakenRepeat {
    type Target = Repeat;
    fn deref(&self) -> &Repeat {
        &self.1
    }
}

impl DerefMut for TakenRepeat {
    fn deref_mut(&mut self) -> &mut Repeat {
        &mut self.1
    }
}

/// A limit's state.
pub struct HostCell(Rc<Cell<u64>>);

impl TatCell for HostCell {
    fn load(&self) -> u64 {
        self.0.get()
    }

    fn swap_if(&self, old: u64, new: u64) -> bool {
        let same = self.0.get() == old;
        if same {
            self.0.set(new);
        }
        same
    }
}

impl Tables for Host {
    type FlowRef = Taken;
    type RepeatRef = TakenRepeat;
    type Cell = HostCell;

    fn settings(&self) -> &Settings {
        &self.settings
    }
    fn enforcing(&self) -> bool {
        self.enforce
    }
    fn reset_key(&self) -> u64 {
        RESET_KEY
    }
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
    fn hook(&self, _work: &Work) -> u8 {
        self.hook as u8
    }
    fn ifindex(&self) -> u32 {
        self.ifindex
    }
    fn wire_packets(&self) -> u32 {
        self.wire_packets
    }
    fn cgroup_id(&self) -> u64 {
        0
    }
    fn count_index(&self, index: u32, by: u64) {
        if let Some(value) = self.counters.borrow_mut().get_mut(index as usize) {
            *value += by;
        }
    }
    fn repeat<S: Step>(&self, max: u32, step: &mut S) -> bool {
        (0..max).any(|_| step.step().is_break())
    }
    fn any4(&self, slot: u32, words: [u32; 2]) -> [u64; 2] {
        let Some(image) = self.image(slot) else { return [0; 2] };
        words.map(|word| image.any4.get(word as usize).copied().unwrap_or(0))
    }
    fn filter6(&self, slot: u32, words: [u32; 2]) -> [u64; 2] {
        let Some(image) = self.image(slot) else { return [0; 2] };
        words.map(|word| image.filter6.get(word as usize).copied().unwrap_or(0))
    }
    fn near<const N: usize>(
        &self,
        slot: u32,
        words: [u32; N],
        wide: u32,
    ) -> Option<([u64; N], u64)> {
        let image = self.image(slot % SLOTS)?;
        let near = if slot < SLOTS { &image.near4 } else { &image.near6 };
        (!near.is_empty()).then(|| (words.map(|word| near[word as usize]), near[wide as usize]))
    }
    fn line(&self, slot: u32, number: u32) -> Option<&Line> {
        self.image(slot)?.lines.line(number)
    }
    fn flow_verdict(&self, key: &FlowKey) -> Option<Verdict> {
        self.flow_verdicts.borrow().get(key).copied()
    }
    fn forget_flow_verdict(&self, key: &FlowKey) {
        self.flow_verdicts.borrow_mut().remove(key);
    }
    fn client_verdict(&self, client: &[u8; 16]) -> Option<Verdict> {
        self.client_verdicts.get(client).copied()
    }
    fn shared_until(&self, source: &[u8; 16]) -> u64 {
        self.shared.get(source).copied().unwrap_or(0)
    }
    fn hit(&self, hits: u32, hit: Hit, packets: u64, bytes: u64, now_ns: u64) {
        let mut all = self.hits.borrow_mut();
        let hits = all.entry(hits).or_default();
        hits.last_ns = now_ns;
        match hit {
            Hit::Dropped => {
                hits.packets += packets;
                hits.bytes += bytes;
            }
            Hit::Would => {
                hits.would_packets += packets;
                hits.would_bytes += bytes;
            }
            Hit::Shared => hits.shared_packets += packets,
        }
    }
    fn dropped(
        &self,
        key: &DropKey,
        first: &DropValue,
        _now_ns: u64,
        _full_until_ns: &mut u64,
    ) -> bool {
        let mut drops = self.drops.borrow_mut();
        if let Some(row) = drops.get_mut(key) {
            row.count += first.count;
            row.bytes += first.bytes;
            row.last_ns = row.last_ns.max(first.last_ns);
        } else {
            drops.insert(*key, *first);
        }
        true
    }
    fn take_repeat(&self, number: u32) -> Option<TakenRepeat> {
        let row = self.repeats.borrow_mut().remove(&number).unwrap_or_default();
        Some(TakenRepeat(number, Box::new(row)))
    }
    fn put_repeat(&self, row: TakenRepeat) {
        self.repeats.borrow_mut().insert(row.0, *row.1);
    }
    fn add(&self, word: &mut u64, by: u64) {
        *word += by;
    }
    fn exchange(&self, word: &mut u64, value: u64) -> u64 {
        core::mem::replace(word, value)
    }
    fn find_limit(&self, tier: Tier, key: &LimitKey) -> Option<HostCell> {
        self.limit_state.borrow().get(&(tier, *key)).map(|cell| HostCell(Rc::clone(cell)))
    }
    fn make_limit(&self, tier: Tier, key: &LimitKey, value: u64) -> bool {
        let mut states = self.limit_state.borrow_mut();
        if states.contains_key(&(tier, *key)) {
            return true;
        }
        if tier == Tier::Penalised {
            let Some(room) = self.penalties_room.get().checked_sub(1) else { return false };
            self.penalties_room.set(room);
        }
        states.insert((tier, *key), Rc::new(Cell::new(value)));
        true
    }
    fn proven(&self, address: &[u8; 16]) -> bool {
        self.proven.borrow().contains(address)
    }
    fn set_proven(&self, address: &[u8; 16], _now_ns: u64) {
        self.proven.borrow_mut().insert(*address);
    }
    fn established(&self, work: &Work) -> bool {
        let mut tuple = work.headers.tuple;
        if matches!(self.hook, Hook::Egress | Hook::SocketOut) {
            tuple = Tuple {
                src: tuple.dst,
                dst: tuple.src,
                src_port: tuple.dst_port,
                dst_port: tuple.src_port,
                ..tuple
            };
        }
        self.sockets.contains(&tuple)
    }
    fn serves(&self, work: &Work) -> bool {
        let tuple = &work.headers.tuple;
        if matches!(self.hook, Hook::Egress | Hook::SocketOut) {
            return self.listening.contains(&(tuple.src, tuple.src_port));
        }
        self.established(work) && !self.listening.contains(&(tuple.dst, tuple.dst_port))
    }
    fn handshake(&self, key: &FlowKey, to: &mut Handshake) -> bool {
        self.handshakes.borrow().get(key).map(|value| *to = *value).is_some()
    }
    fn set_handshake(&self, key: &FlowKey, value: &Handshake) {
        self.handshakes.borrow_mut().insert(*key, *value);
    }
    fn remove_handshake(&self, key: &FlowKey) {
        self.handshakes.borrow_mut().remove(key);
    }
    fn touch_connection(&self, key: &FlowKey, now_ns: u64) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections.get_mut(key).map(|(connection, _)| connection.last_ns = now_ns).is_some()
    }
    fn connection(&self, key: &FlowKey, to: &mut Connection) -> Option<HostCell> {
        let connections = self.connections.borrow();
        let (connection, ended) = connections.get(key)?;
        *to = *connection;
        Some(HostCell(Rc::clone(ended)))
    }
    fn make_connection(&self, key: &FlowKey, value: &Connection) -> bool {
        self.connections.borrow_mut().insert(*key, (*value, Rc::default())).is_none()
    }
    fn remove_connection(&self, key: &FlowKey) -> bool {
        self.connections.borrow_mut().remove(key).is_some()
    }
    fn find_open(&self, key: &LimitKey) -> Option<HostCell> {
        self.open.borrow().get(key).map(|cell| HostCell(Rc::clone(cell)))
    }
    fn open_cell(&self, key: &LimitKey) -> Option<HostCell> {
        Some(HostCell(Rc::clone(self.open.borrow_mut().entry(*key).or_default())))
    }
    fn recent(&self, key: &RecentKey, to: &mut RecentValue) -> bool {
        self.recent.borrow().get(key).map(|value| *to = *value).is_some()
    }
    fn set_recent(&self, key: &RecentKey, value: &RecentValue) {
        self.recent.borrow_mut().insert(*key, *value);
    }
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentVerdict> {
        self.fragments.borrow().get(key).copied()
    }
    fn set_fragment(&self, key: &FragmentKey, value: &FragmentVerdict) {
        self.fragments.borrow_mut().insert(*key, *value);
    }
    fn alias(&self, tuple: &Tuple, to: &mut Tuple) -> bool {
        self.aliases.borrow().get(tuple).map(|value| *to = *value).is_some()
    }
    fn set_alias(&self, tuple: &Tuple, canonical: &Tuple) {
        self.aliases.borrow_mut().insert(*tuple, *canonical);
    }
    fn remove_alias(&self, tuple: &Tuple) {
        self.aliases.borrow_mut().remove(tuple);
    }
    fn take_flow(&self, key: &FlowKey) -> Option<Taken> {
        let flow = self.flows.borrow_mut().remove(key)?;
        Some(Taken(Box::new((*key, flow))))
    }
    fn put_flow(&self, flow: Taken) {
        self.flows.borrow_mut().insert(flow.0.0, flow.0.1);
    }
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        self.flows.borrow_mut().insert(*key, *flow);
        true
    }
    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }
    fn listener(&self, key: &ListenerKey, event: ListenerEvent, now_ns: u64) {
        let mut listeners = self.listeners.borrow_mut();
        let counts = listeners.entry(*key).or_default();
        counts.last_ns = now_ns;
        *match event {
            ListenerEvent::Opened => &mut counts.opened,
            ListenerEvent::Http => &mut counts.http,
            ListenerEvent::H2c => &mut counts.h2c,
            ListenerEvent::Tls => &mut counts.tls,
            ListenerEvent::Other => &mut counts.other,
            ListenerEvent::Closed => &mut counts.closed,
            ListenerEvent::Silent => &mut counts.silent,
        } += 1;
    }
    fn swift<P: PacketBytes>(&self, packet: &P, work: &mut Work) -> u32 {
        if self.in_one_pass { swift(packet, self, work) } else { UNFIT }
    }
    fn emit(&self, work: &mut Work, from: u32) -> bool {
        let Some(room) = self.ring_room.get().checked_sub(1) else { return false };
        self.ring_room.set(room);
        let header = work.window.header;
        let (from, len) = (from as usize, header.data_len as usize);
        // As in the kernel: the header is written over what lies before the data.
        let bytes = work.window.as_mut_bytes();
        let Some(before) = bytes.get_mut(from..from + Window::HEADROOM) else { return false };
        before.copy_from_slice(header.as_bytes());
        let data = bytes.get(from + Window::HEADROOM..from + Window::HEADROOM + len);
        self.records.borrow_mut().push((header, data.unwrap_or(&[]).to_vec()));
        true
    }
}

/// One TCP segment to be built.
#[derive(Clone, Debug)]
pub struct Segment {
    /// IPv4 source.
    pub src: [u8; 4],
    /// IPv4 destination.
    pub dst: [u8; 4],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Segment {
    /// The source, v4-mapped.
    pub fn mapped(&self) -> [u8; 16] {
        let [a, b, c, d] = self.src;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, a, b, c, d]
    }

    /// An Ethernet frame with IPv4 and TCP headers without options.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let total = u16::try_from(40 + self.payload.len()).unwrap_or(0);
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend_from_slice(&self.src);
        frame.extend_from_slice(&self.dst);
        frame.extend_from_slice(&self.src_port.to_be_bytes());
        frame.extend_from_slice(&self.dst_port.to_be_bytes());
        frame.extend_from_slice(&self.seq.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.extend_from_slice(&[0x50, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(&self.payload);
        // A short frame is padded by the sender's card.
        while frame.len() < 60 {
            frame.push(b'G');
        }
        frame
    }
}
