//! What a decision needs beside the packet: look-ups, clock, counters, the ring. Implemented over kernel maps and, for tests,
//! over host collections (`testing`).
//!
//! A flow entry is *taken* for one packet and *put* back; in the kernel both are free (the entry lies in the map).

use core::ops::{ControlFlow, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    abi::{
        counter::Counter,
        dynamic::{Connection, DropKey, DropValue, Handshake, Verdict},
        flow_key::{FlowKey, Tuple},
        image::{Line, ListId},
        policy::LimitKey,
        repeat::Repeat,
        settings::{ListenerKey, Settings},
    },
    http_head::Detect,
    judge,
    packet::{Outcome, PacketBytes},
    tracker::{self, Common, Flow},
    verdict::{self, Decision, End, TatCell},
    work::Work,
};

/// A count of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerEvent {
    /// A connection was established (or joined in the middle).
    Opened,
    /// It carries HTTP/1.
    Http,
    /// It carries HTTP/2 with prior knowledge.
    H2c,
    /// It carries TLS.
    Tls,
    /// It carries something else.
    Other,
    /// It ended.
    Closed,
    /// It ended without payload.
    Silent,
}

/// [`RecentKey::purpose`]: which tuple had a segment first.
pub const FIRST_TUPLE: u8 = 0;
/// [`RecentKey::purpose`]: a packet was charged to a limit.
pub const CHARGED_PACKET: u8 = 1;
/// [`RecentKey::purpose`]: a SYN of these addresses was charged to a limit of connections.
pub const CHARGED_CONNECTION: u8 = 2;
/// [`RecentKey::purpose`]: the same, whatever addresses another hook sees.
pub const CHARGED_ANYWHERE: u8 = 3;

/// Key of `RECENT`: what stays the same when a segment passes several hooks and NAT.
#[repr(C, align(8))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RecentKey {
    /// Hash of the first payload bytes (SYN: of the options); [`CHARGED_CONNECTION`]: of the addresses and ports, [`CHARGED_ANYWHERE`]: 0.
    pub hash: u64,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Payload bytes.
    pub len: u32,
    /// IP identification, only with [`CHARGED_PACKET`].
    pub ip_id: u32,
    /// TCP flags.
    pub flags: u8,
    /// [`FIRST_TUPLE`], [`CHARGED_PACKET`], [`CHARGED_CONNECTION`] or [`CHARGED_ANYWHERE`].
    pub purpose: u8,
    /// Always zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<RecentKey>() == 32);

/// Value of `RECENT`: the first sighting.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RecentValue {
    /// When, ns.
    pub time_ns: u64,
    /// Under which (canonical) addresses.
    pub tuple: Tuple,
    /// On which interface.
    pub ifindex: u32,
    /// At which [`crate::abi::sample::Hook`].
    pub hook: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<RecentValue>() == 56);

/// Key of `FRAGMENTS` (RFC 791, RFC 8200: source, destination, protocol, identification).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FragmentKey {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Identification.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Always zero.
    pub pad: [u8; 3],
}

const _: () = assert!(size_of::<FragmentKey>() == 40);

/// What a rule's hit was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// The packet was dropped.
    Dropped,
    /// It would have been.
    Would,
    /// The rule skipped it, because many clients share its source.
    Shared,
}

/// Value of `FRAGMENTS`: what the first fragment's verdict was.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FragmentVerdict {
    /// When, ns.
    pub time_ns: u64,
    /// [`crate::abi::dynamic::DropReason`], 0 = it passed.
    pub reason: u32,
    /// Index in `RULE_HITS` of the rule that dropped it.
    pub hits: u32,
    /// Which end the rule listed: 0 source, 1 destination.
    pub end: u32,
    /// Its source port, which the later ones do not have.
    pub src_port: u16,
    /// Its destination port.
    pub dst_port: u16,
}

const _: () = assert!(size_of::<FragmentVerdict>() == 24);

/// Which table holds the state of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Clients that completed a handshake, and allowances of wide prefixes; the least recently used make room.
    Clients = 0,
    /// Clients over a limit; nothing makes room.
    Penalised = 1,
    /// Networks, and clients that a UDP server answered: what a flood of forged addresses can fill.
    Networks = 2,
}

/// One round of a bounded loop.
pub trait Step {
    /// Does one round; `Break` ends the loop.
    fn step(&mut self) -> ControlFlow<()>;
}

/// Tables, clock, counters and ring of one sighting.
pub trait Tables {
    /// A taken flow entry.
    type FlowRef: DerefMut<Target = Flow>;
    /// A taken row of `REPEATS`.
    type RepeatRef: DerefMut<Target = Repeat>;
    /// The compare-and-swap cell of a limit.
    type Cell: TatCell;

    /// Whether limits are evaluated at this hook. A socket's program is charged to the socket's option memory
    /// (`net.core.optmem_max`), which the code of the limits would not fit; it cannot drop either.
    const LIMITS: bool = true;

    /// The settings.
    fn settings(&self) -> &Settings;
    /// Whether this load drops (mode enforce).
    fn enforcing(&self) -> bool;
    /// Key by which our own RSTs are recognised, random for each load.
    fn reset_key(&self) -> u64;
    /// `CLOCK_BOOTTIME`, ns.
    fn now_ns(&self) -> u64;
    /// [`crate::abi::sample::Hook`] of the sighting, as a number (in the kernel it lies in the scratch: stack is scarce).
    fn hook(&self, work: &Work) -> u8;
    /// Interface of the sighting.
    fn ifindex(&self) -> u32;
    /// Wire packets in the skb.
    fn wire_packets(&self) -> u32;
    /// Cgroup of the sending socket, 0 without.
    fn cgroup_id(&self) -> u64;
    /// Moves a counter by its index; one that is out of range moves nothing.
    fn count_index(&self, index: u32, by: u64);
    /// Moves a counter.
    #[inline(always)]
    fn count_by(&self, counter: Counter, by: u64) {
        self.count_index(counter as u32, by);
    }
    /// Moves a counter by one.
    #[inline(always)]
    fn count(&self, counter: Counter) {
        self.count_by(counter, 1);
    }

    /// Repeats `step` at most `max` times; false when it was still going on.
    fn repeat<S: Step>(&self, max: u32, step: &mut S) -> bool;

    /// Two words of a slot's bitmap of IPv4 /24s: one look-up of the bitmap serves both ends of a packet.
    fn any4(&self, slot: u32, words: [u32; 2]) -> [u64; 2];
    /// Two words of a slot's filter of IPv6 anchors.
    fn filter6(&self, slot: u32, words: [u32; 2]) -> [u64; 2];
    /// Words of the filter in a slot of `NEAR`, and one of all its words; none where a policy has no such filter.
    fn near<const N: usize>(
        &self,
        slot: u32,
        words: [u32; N],
        wide: u32,
    ) -> Option<([u64; N], u64)>;
    /// A line of a slot's policy image.
    fn line(&self, slot: u32, number: u32) -> Option<&Line>;
    /// The agent's verdict on a flow.
    fn flow_verdict(&self, key: &FlowKey) -> Option<Verdict>;
    /// Forgets it.
    fn forget_flow_verdict(&self, key: &FlowKey);
    /// The agent's verdict on a client.
    fn client_verdict(&self, client: &[u8; 16]) -> Option<Verdict>;
    /// Until when many clients share this source, ns; 0 = they do not.
    fn shared_until(&self, source: &[u8; 16]) -> u64;
    /// Counts a hit of a rule, by its index in `RULE_HITS`.
    fn hit(&self, hits: u32, hit: Hit, packets: u64, bytes: u64, now_ns: u64);
    /// Counts a drop where it belongs, from `first` on when there was none of this key; false when there is no room. Until
    /// `full_until_ns` none is looked for: a flood from more clients than there are rows would pay for it with every packet.
    fn dropped(
        &self,
        key: &DropKey,
        first: &DropValue,
        now_ns: u64,
        full_until_ns: &mut u64,
    ) -> bool;
    /// Takes a row of this CPU's `REPEATS`, by its number.
    fn take_repeat(&self, number: u32) -> Option<Self::RepeatRef>;
    /// Puts it back.
    fn put_repeat(&self, row: Self::RepeatRef);
    /// Adds to a word that others exchange.
    fn add(&self, word: &mut u64, by: u64);
    /// Gives a word that others change another value at once, and what it was.
    fn exchange(&self, word: &mut u64, value: u64) -> u64;
    /// State of a limit, where there is one.
    fn find_limit(&self, tier: Tier, key: &LimitKey) -> Option<Self::Cell>;
    /// Makes the state of a limit, where there is none; false when there is no room.
    fn make_limit(&self, tier: Tier, key: &LimitKey, value: u64) -> bool;
    /// State of a limit, made when it is not there; `None` when there is no room.
    #[inline(always)]
    fn limit_cell(&self, tier: Tier, key: &LimitKey) -> Option<Self::Cell> {
        if let Some(cell) = self.find_limit(tier, key) {
            return Some(cell);
        }
        self.make_limit(tier, key, 0);
        self.find_limit(tier, key)
    }
    /// Whether an address is known to complete handshakes.
    fn proven(&self, address: &[u8; 16]) -> bool;
    /// Remembers that it does.
    fn set_proven(&self, address: &[u8; 16], now_ns: u64);
    /// Whether a local socket has the connection of the packet in `work.headers`, its handshake done.
    fn established(&self, work: &Work) -> bool;
    /// Whether by the host's own sockets the sender of the packet in `work.headers` is the server: what goes out comes from a listening
    /// one, or what comes in belongs to a connection that the host itself made.
    fn serves(&self, work: &Work) -> bool;
    /// An answered handshake, copied into `to`; false when there is none.
    fn handshake(&self, key: &FlowKey, to: &mut Handshake) -> bool;
    /// Remembers one.
    fn set_handshake(&self, key: &FlowKey, value: &Handshake);
    /// Forgets one.
    fn remove_handshake(&self, key: &FlowKey);
    /// Says that a counted connection lives; false when it is not counted.
    fn touch_connection(&self, key: &FlowKey, now_ns: u64) -> bool;
    /// A counted connection, copied into `to`, and its [`Connection::ended`].
    fn connection(&self, key: &FlowKey, to: &mut Connection) -> Option<Self::Cell>;
    /// Remembers a connection; false when it is there already, or there is no room.
    fn make_connection(&self, key: &FlowKey, value: &Connection) -> bool;
    /// Forgets one; false when it was not there.
    fn remove_connection(&self, key: &FlowKey) -> bool;
    /// How many connections are open, where any were counted.
    fn find_open(&self, key: &LimitKey) -> Option<Self::Cell>;
    /// The same, made when it is not there.
    fn open_cell(&self, key: &LimitKey) -> Option<Self::Cell>;

    /// First sighting of a segment, copied into `to`; false when there was none.
    fn recent(&self, key: &RecentKey, to: &mut RecentValue) -> bool;
    /// Remembers a sighting.
    fn set_recent(&self, key: &RecentKey, value: &RecentValue);
    /// Verdict of a first fragment.
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentVerdict>;
    /// Remembers it.
    fn set_fragment(&self, key: &FragmentKey, value: &FragmentVerdict);
    /// The canonical tuple of this one, copied into `to`; false when it is not an alias.
    fn alias(&self, tuple: &Tuple, to: &mut Tuple) -> bool;
    /// Says that `tuple` is `canonical` on another hook.
    fn set_alias(&self, tuple: &Tuple, canonical: &Tuple);
    /// Forgets it.
    fn remove_alias(&self, tuple: &Tuple);

    /// Takes a flow.
    fn take_flow(&self, key: &FlowKey) -> Option<Self::FlowRef>;
    /// Puts it back.
    fn put_flow(&self, flow: Self::FlowRef);
    /// Makes or replaces a flow; false when there is no room.
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool;
    /// Removes a flow.
    fn remove_flow(&self, key: &FlowKey);
    /// Moves a count of a listener.
    fn listener(&self, key: &ListenerKey, event: ListenerEvent, now_ns: u64);

    /// Runs [`crate::verdict::decide`]. This and the next six are stages that the kernel verifies on their own, so that
    /// their paths do not multiply with those of the caller; all state goes through `work`.
    #[inline(always)]
    fn decide<P: PacketBytes>(&self, outcome: Outcome, packet: &P, work: &mut Work) -> Decision
    where
        Self: Sized,
    {
        verdict::decide(outcome, packet, self, work)
    }

    /// Runs [`crate::verdict::charge_requests`].
    #[inline(always)]
    fn charge_requests(&self, work: &mut Work) -> Decision
    where
        Self: Sized,
    {
        verdict::charge_requests(self, work)
    }

    /// Runs [`crate::judge::swift`].
    #[inline(always)]
    fn swift<P: PacketBytes>(&self, packet: &P, work: &mut Work) -> u32
    where
        Self: Sized,
    {
        judge::swift(packet, self, work)
    }

    /// Runs [`crate::verdict::concerns4`].
    #[inline(always)]
    fn concerns4(&self, work: &mut Work) -> bool
    where
        Self: Sized,
    {
        verdict::concerns4(self, work)
    }

    /// Runs [`crate::verdict::concerns6`].
    #[inline(always)]
    fn concerns6(&self, ends: u32, work: &mut Work) -> bool
    where
        Self: Sized,
    {
        verdict::concerns6(ends, self, work)
    }

    /// Runs [`crate::verdict::begin`].
    #[inline(always)]
    fn begin(&self, list: ListId, end: End, work: &mut Work) -> bool
    where
        Self: Sized,
    {
        verdict::begin(list, end, self, work)
    }

    /// Runs [`crate::verdict::next_entry`].
    #[inline(always)]
    fn next_entry(&self, list: ListId, work: &mut Work) -> ControlFlow<()>
    where
        Self: Sized,
    {
        verdict::next_entry(list, self, work)
    }

    /// Runs [`crate::judge::observe`].
    #[inline(always)]
    fn observe<P: PacketBytes>(&self, packet: &P, work: &mut Work) -> u32
    where
        Self: Sized,
    {
        judge::observe(packet, self, work)
    }

    /// Runs [`crate::judge::read_payload`].
    #[inline(always)]
    fn read_payload<P: PacketBytes>(&self, packet: &P, work: &mut Work, flow: &mut Flow) -> u32
    where
        Self: Sized,
    {
        judge::read_payload(packet, self, work, flow)
    }

    /// Runs [`crate::tracker::detect`] on the window at `work.cursor.scan`.
    #[inline(always)]
    fn detect(&self, work: &mut Work, common: &Common) -> Detect {
        tracker::detect(work, common)
    }

    /// Puts a record into the ring: the window's header, then its `data_len` bytes of the window's data from `from` on.
    fn emit(&self, work: &mut Work, from: u32) -> bool;

    /// As [`Tables::emit`] from 0, where it must be fast.
    #[inline(always)]
    fn emit_first(&self, work: &mut Work) -> bool {
        self.emit(work, 0)
    }
}
