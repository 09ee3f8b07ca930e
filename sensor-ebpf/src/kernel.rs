//! [`Tables`] over the kernel's maps and helpers.
//!
//! `unsafe` here dereferences what a map look-up returned (valid until the program ends) and calls helpers.

use core::{ops::ControlFlow, ptr::NonNull};

use aya_ebpf::helpers::{bpf_ktime_get_boot_ns, bpf_loop, bpf_skb_cgroup_id};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        dynamic::{Connection, DropKey, DropValue, Handshake, Verdict},
        flow_key::{FlowKey, Tuple},
        image::{ANY4_WORDS, FILTER6_WORDS, Line, ListId},
        near::FILTER_WORDS,
        policy::LimitKey,
        sample::Hook,
        settings::{ListenerCounts, ListenerKey, Settings},
    },
    http_head::Detect,
    packet::{Outcome, PacketBytes},
    tables::{
        FragmentKey, FragmentVerdict, Hit, ListenerEvent, RecentKey, RecentValue, Step, Tables,
        Tier,
    },
    tracker::{Common, Flow},
    verdict::{Decision, End},
    work::Work,
};

use crate::{
    cell::{Cell, atomic_add, atomic_exchange},
    context::{Skb, and_mask},
    emit,
    entry::{FlowEntry, RepeatEntry},
    globals::{enforcing, reset_key, test_clock},
    maps::{
        ALIASES, ANY4, CLIENT_VERDICTS, CONNECTIONS, COUNTERS, DROPS, FILTER6, FLOW_VERDICTS,
        FLOWS, FRAGMENTS, HANDSHAKES, LIMIT_STATE, LISTENERS, NEAR, NETWORKS, OPEN, PENALISED,
        POLICY, PROVEN, RECENT, RULE_HITS, SETTINGS, SHARED, WORK,
    },
    outline, peer,
};

const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
/// How long the table of drops is taken for full: the agent takes idle rows away a few times a second at most.
const DROPS_FULL_NS: u64 = 10_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// A new listener's counts; not on the stack, of which Linux 6.1 gives 512 bytes to the whole chain of calls.
static NO_COUNTS: ListenerCounts = ListenerCounts::NONE;

/// The tables of one sighting.
pub(crate) struct Kernel<const DIRECT: bool> {
    skb: Skb<DIRECT>,
    settings: &'static Settings,
}

impl<const DIRECT: bool> Kernel<DIRECT> {
    /// Goes on in a separately verified function.
    #[inline(always)]
    pub(crate) fn resume(skb: Skb<DIRECT>) -> Option<Self> {
        Some(Self { skb, settings: SETTINGS.get(0)? })
    }

    /// `None` when the maps are not there (cannot happen in a loaded program).
    #[inline(always)]
    pub(crate) fn new(skb: Skb<DIRECT>, hook: Hook, work: &mut Work) -> Option<Self> {
        work.cursor.hook = hook as u32;
        Some(Self { skb, settings: SETTINGS.get(0)? })
    }
}

/// This CPU's scratch.
#[inline(always)]
pub(crate) fn work() -> Option<&'static mut Work> {
    // SAFETY: per-CPU memory, valid until the program ends, used by one program at a time.
    WORK.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

unsafe extern "C" fn trampoline<S: Step>(_index: u64, step: *mut S) -> i64 {
    // SAFETY: `repeat` passes the address of its argument, which outlives the loop.
    let step = unsafe { &mut *step };
    i64::from(step.step().is_break())
}

impl<const DIRECT: bool> Tables for Kernel<DIRECT> {
    type FlowRef = FlowEntry;
    type RepeatRef = RepeatEntry;
    type Cell = Cell;

    /// Packets are read directly by every program but the socket's.
    const LIMITS: bool = DIRECT;

    #[inline(always)]
    fn settings(&self) -> &Settings {
        self.settings
    }

    #[inline(always)]
    fn enforcing(&self) -> bool {
        // A socket filter sees copies: nothing that it says drops a packet.
        DIRECT && enforcing()
    }

    #[inline(always)]
    fn reset_key(&self) -> u64 {
        reset_key()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        if test_clock() {
            return self.settings.heartbeat_ns;
        }
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_boot_ns() }
    }

    #[inline(always)]
    fn hook(&self, work: &Work) -> u8 {
        work.cursor.hook as u8
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.skb.ifindex()
    }

    #[inline(always)]
    fn wire_packets(&self) -> u32 {
        self.skb.gso_segs()
    }

    #[inline(always)]
    fn cgroup_id(&self) -> u64 {
        if !DIRECT {
            // Socket filters may not call the helper before 6.x.
            return 0;
        }
        // SAFETY: the skb of this sighting.
        unsafe { bpf_skb_cgroup_id(self.skb.as_ptr()) }
    }

    #[inline(always)]
    fn count_index(&self, index: u32, by: u64) {
        if let Some(value) = COUNTERS.get_ptr_mut(index) {
            // SAFETY: this CPU's value.
            let before = unsafe { value.read() };
            // SAFETY: as above.
            unsafe { value.write(before.wrapping_add(by)) };
        }
    }

    #[inline(always)]
    fn repeat<S: Step>(&self, max: u32, step: &mut S) -> bool {
        let callback = trampoline::<S> as *mut core::ffi::c_void;
        // SAFETY: the callback has the signature bpf_loop wants, and `step` outlives the call.
        let rounds = unsafe { bpf_loop(max, callback, (&raw mut *step).cast(), 0) };
        rounds < i64::from(max)
    }

    #[inline(always)]
    fn any4(&self, slot: u32, [first, second]: [u32; 2]) -> [u64; 2] {
        // By value: a constant that is borrowed may become one with `ENFORCE`, which the loader changes.
        let Some(words) = ANY4.get(slot).and_then(|bitmap| bitmap.get(0)) else { return [0; 2] };
        let word = |at: u32| words.get(at as usize & (ANY4_WORDS - 1)).copied().unwrap_or(0);
        [word(first), word(second)]
    }

    #[inline(always)]
    fn filter6(&self, slot: u32, [first, second]: [u32; 2]) -> [u64; 2] {
        let Some(words) = FILTER6.get(slot).and_then(|filter| filter.get(0)) else { return [0; 2] };
        let word = |at: u32| words.get(at as usize & (FILTER6_WORDS - 1)).copied().unwrap_or(0);
        [word(first), word(second)]
    }

    #[inline(always)]
    fn near<const N: usize>(&self, slot: u32, at: [u32; N], wide: u32) -> Option<([u64; N], u64)> {
        let words = NEAR.get(slot)?.get(0)?;
        // Masked by an instruction, because Linux 6.1 follows neither what the optimiser knows of these numbers nor the comparison alone.
        let filter = |at| {
            let at = and_mask::<{ FILTER_WORDS as u32 - 1 }>(at) as usize;
            // SAFETY: there are more words than that.
            unsafe { *words.get_unchecked(at) }
        };
        let wide = and_mask::<{ 2 * FILTER_WORDS as u32 - 1 }>(wide) as usize;
        Some((at.map(filter), words.get(wide).copied().unwrap_or(0)))
    }

    #[inline(always)]
    fn line(&self, slot: u32, number: u32) -> Option<&Line> {
        POLICY.get_value(slot, &number)
    }

    #[inline(always)]
    fn flow_verdict(&self, key: &FlowKey) -> Option<Verdict> {
        // SAFETY: read at once, before any other map operation.
        unsafe { FLOW_VERDICTS.get(key) }.copied()
    }

    #[inline(always)]
    fn forget_flow_verdict(&self, key: &FlowKey) {
        // It may have been removed meanwhile.
        let _gone = FLOW_VERDICTS.remove(key);
    }

    #[inline(always)]
    fn client_verdict(&self, client: &[u8; 16]) -> Option<Verdict> {
        // SAFETY: read at once, before any other map operation.
        unsafe { CLIENT_VERDICTS.get(client) }.copied()
    }

    #[inline(always)]
    fn shared_until(&self, source: &[u8; 16]) -> u64 {
        // SAFETY: read at once, before any other map operation.
        unsafe { SHARED.get(source) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn hit(&self, hits: u32, hit: Hit, packets: u64, bytes: u64, now_ns: u64) {
        let Some(hits) = RULE_HITS.get_ptr_mut(hits) else { return };
        // SAFETY: this CPU's value.
        let hits = unsafe { &mut *hits };
        hits.last_ns = hits.last_ns.max(now_ns);
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

    #[inline(always)]
    fn dropped(
        &self,
        key: &DropKey,
        first: &DropValue,
        now_ns: u64,
        full_until_ns: &mut u64,
    ) -> bool {
        let mut found = DROPS.get_ptr_mut(key);
        if found.is_none() {
            if now_ns < *full_until_ns {
                return false;
            }
            if DROPS.insert(key, first, BPF_NOEXIST).is_ok() {
                return true;
            }
            // Another CPU was first, or there is no room.
            found = DROPS.get_ptr_mut(key);
            if found.is_none() {
                *full_until_ns = now_ns + DROPS_FULL_NS;
            }
        }
        let Some(row) = found else { return false };
        // SAFETY: a map value is valid until the program ends.
        let row = unsafe { &mut *row };
        row.last_ns = row.last_ns.max(first.last_ns);
        atomic_add(&raw mut row.count, first.count);
        atomic_add(&raw mut row.bytes, first.bytes);
        true
    }

    #[inline(always)]
    fn take_repeat(&self, number: u32) -> Option<RepeatEntry> {
        RepeatEntry::of_this_cpu(number)
    }

    #[inline(always)]
    fn put_repeat(&self, _row: RepeatEntry) {}

    #[inline(always)]
    fn add(&self, word: &mut u64, by: u64) {
        atomic_add(word, by);
    }

    #[inline(always)]
    fn exchange(&self, word: &mut u64, value: u64) -> u64 {
        atomic_exchange(word, value)
    }

    #[inline(always)]
    fn find_limit(&self, tier: Tier, key: &LimitKey) -> Option<Cell> {
        match tier {
            Tier::Clients => LIMIT_STATE.get_ptr_mut(key),
            Tier::Penalised => PENALISED.get_ptr_mut(key),
            Tier::Networks => NETWORKS.get_ptr_mut(key),
        }
        .map(Cell)
    }

    #[inline(always)]
    fn make_limit(&self, tier: Tier, key: &LimitKey, value: u64) -> bool {
        // Another CPU may have been first: its value stands.
        let made = match tier {
            Tier::Clients => LIMIT_STATE.insert(key, value, BPF_NOEXIST),
            Tier::Penalised => PENALISED.insert(key, value, BPF_NOEXIST),
            Tier::Networks => NETWORKS.insert(key, value, BPF_NOEXIST),
        };
        made.is_ok() || self.find_limit(tier, key).is_some()
    }

    #[inline(always)]
    fn proven(&self, address: &[u8; 16]) -> bool {
        PROVEN.get_ptr_mut(address).is_some()
    }

    #[inline(always)]
    fn set_proven(&self, address: &[u8; 16], now_ns: u64) {
        let _full = PROVEN.insert(address, now_ns, BPF_ANY);
    }

    #[inline(always)]
    fn established(&self, work: &Work) -> bool {
        // Socket filters see copies, and may not ask.
        DIRECT && peer::established(self.skb.as_ptr(), work)
    }

    #[inline(always)]
    fn serves(&self, work: &Work) -> bool {
        DIRECT && peer::serves(self.skb.as_ptr(), work)
    }

    #[inline(always)]
    fn handshake(&self, key: &FlowKey, to: &mut Handshake) -> bool {
        // SAFETY: read at once, before any other map operation.
        let found = unsafe { HANDSHAKES.get(key) };
        if let Some(value) = found {
            *to = *value;
        }
        found.is_some()
    }

    #[inline(always)]
    fn set_handshake(&self, key: &FlowKey, value: &Handshake) {
        let _full = HANDSHAKES.insert(key, value, BPF_ANY);
    }

    #[inline(always)]
    fn remove_handshake(&self, key: &FlowKey) {
        let _absent = HANDSHAKES.remove(key);
    }

    #[inline(always)]
    fn touch_connection(&self, key: &FlowKey, now_ns: u64) -> bool {
        let Some(value) = CONNECTIONS.get_ptr_mut(key) else { return false };
        // SAFETY: a map value is valid until the program ends.
        let connection = unsafe { &mut *value };
        if now_ns.saturating_sub(connection.last_ns) > SECOND_NS {
            connection.last_ns = now_ns;
        }
        true
    }

    #[inline(always)]
    fn connection(&self, key: &FlowKey, to: &mut Connection) -> Option<Cell> {
        let value = CONNECTIONS.get_ptr_mut(key)?;
        // SAFETY: a map value is valid until the program ends.
        let connection = unsafe { &mut *value };
        *to = *connection;
        Some(Cell(&raw mut connection.ended))
    }

    #[inline(always)]
    fn make_connection(&self, key: &FlowKey, value: &Connection) -> bool {
        CONNECTIONS.insert(key, value, BPF_NOEXIST).is_ok()
    }

    #[inline(always)]
    fn remove_connection(&self, key: &FlowKey) -> bool {
        CONNECTIONS.remove(key).is_ok()
    }

    #[inline(always)]
    fn find_open(&self, key: &LimitKey) -> Option<Cell> {
        OPEN.get_ptr_mut(key).map(Cell)
    }

    #[inline(always)]
    fn open_cell(&self, key: &LimitKey) -> Option<Cell> {
        if let Some(cell) = self.find_open(key) {
            return Some(cell);
        }
        let _raced = OPEN.insert(key, 0_u64, BPF_NOEXIST);
        self.find_open(key)
    }

    #[inline(always)]
    fn recent(&self, key: &RecentKey, to: &mut RecentValue) -> bool {
        // SAFETY: read at once, before any other map operation.
        let found = unsafe { RECENT.get(key) };
        if let Some(value) = found {
            *to = *value;
        }
        found.is_some()
    }

    #[inline(always)]
    fn set_recent(&self, key: &RecentKey, value: &RecentValue) {
        let _full = RECENT.insert(key, value, BPF_ANY);
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentVerdict> {
        // SAFETY: read at once, before any other map operation.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, value: &FragmentVerdict) {
        let _full = FRAGMENTS.insert(key, value, BPF_ANY);
    }

    #[inline(always)]
    fn alias(&self, tuple: &Tuple, to: &mut Tuple) -> bool {
        // SAFETY: read at once, before any other map operation.
        let found = unsafe { ALIASES.get(tuple) };
        if let Some(value) = found {
            *to = *value;
        }
        found.is_some()
    }

    #[inline(always)]
    fn set_alias(&self, tuple: &Tuple, canonical: &Tuple) {
        let _full = ALIASES.insert(tuple, canonical, BPF_ANY);
    }

    #[inline(always)]
    fn remove_alias(&self, tuple: &Tuple) {
        let _absent = ALIASES.remove(tuple);
    }

    #[inline(always)]
    fn take_flow(&self, key: &FlowKey) -> Option<FlowEntry> {
        FLOWS.get_ptr_mut(key).and_then(NonNull::new).map(FlowEntry::new)
    }

    #[inline(always)]
    fn put_flow(&self, _flow: FlowEntry) {}

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, BPF_ANY).is_ok()
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        let _absent = FLOWS.remove(key);
    }

    #[inline(never)]
    fn listener(&self, key: &ListenerKey, event: ListenerEvent, now_ns: u64) {
        let mut found = LISTENERS.get_ptr_mut(key);
        if found.is_none() {
            let _raced = LISTENERS.insert(key, &NO_COUNTS, BPF_NOEXIST);
            found = LISTENERS.get_ptr_mut(key);
        }
        let Some(counts) = found else {
            self.count(Counter::ListenerTableFull);
            return;
        };
        // SAFETY: a map value is valid until the program ends.
        let counts = unsafe { &mut *counts };
        counts.last_ns = now_ns;
        atomic_add(
            match event {
                ListenerEvent::Opened => &raw mut counts.opened,
                ListenerEvent::Http => &raw mut counts.http,
                ListenerEvent::H2c => &raw mut counts.h2c,
                ListenerEvent::Tls => &raw mut counts.tls,
                ListenerEvent::Other => &raw mut counts.other,
                ListenerEvent::Closed => &raw mut counts.closed,
                ListenerEvent::Silent => &raw mut counts.silent,
            },
            1,
        );
    }

    #[inline(always)]
    fn decide<P: PacketBytes>(&self, outcome: Outcome, _packet: &P, work: &mut Work) -> Decision {
        let word = if DIRECT {
            outline::sensor_decide(self.skb.as_ptr(), work, outcome as u32)
        } else {
            outline::sensor_decide_socket(self.skb.as_ptr(), work, outcome as u32)
        };
        Decision::from_word(word)
    }

    #[inline(always)]
    fn charge_requests(&self, work: &mut Work) -> Decision {
        let word = if DIRECT {
            outline::sensor_requests(self.skb.as_ptr(), work)
        } else {
            outline::sensor_requests_socket(self.skb.as_ptr(), work)
        };
        Decision::from_word(word)
    }

    #[inline(always)]
    fn swift<P: PacketBytes>(&self, _packet: &P, work: &mut Work) -> u32 {
        if DIRECT {
            outline::sensor_swift(self.skb.as_ptr(), work)
        } else {
            outline::sensor_swift_socket(self.skb.as_ptr(), work)
        }
    }

    #[inline(always)]
    fn concerns4(&self, work: &mut Work) -> bool {
        outline::sensor_concerns4(work) != 0
    }

    #[inline(always)]
    fn concerns6(&self, ends: u32, work: &mut Work) -> bool {
        outline::sensor_concerns6(ends, work) != 0
    }

    #[inline(always)]
    fn begin(&self, list: ListId, end: End, work: &mut Work) -> bool {
        outline::sensor_begin(work, list as u32, end as u32) != 0
    }

    #[inline(always)]
    fn next_entry(&self, list: ListId, work: &mut Work) -> ControlFlow<()> {
        // Masked, because a stage's answer is any number for all the verifier knows, and the loop's callback may only say 0 or 1.
        if and_mask::<1>(outline::sensor_probe(work, list as u32)) == 0 {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    #[inline(always)]
    fn observe<P: PacketBytes>(&self, _packet: &P, work: &mut Work) -> u32 {
        if DIRECT {
            outline::sensor_observe(self.skb.as_ptr(), work)
        } else {
            outline::sensor_observe_socket(self.skb.as_ptr(), work)
        }
    }

    #[inline(always)]
    fn read_payload<P: PacketBytes>(&self, _packet: &P, work: &mut Work, flow: &mut Flow) -> u32 {
        if DIRECT {
            outline::sensor_payload(self.skb.as_ptr(), work, flow)
        } else {
            outline::sensor_payload_socket(self.skb.as_ptr(), work, flow)
        }
    }

    #[inline(always)]
    fn detect(&self, work: &mut Work, common: &Common) -> Detect {
        Detect::from_word(outline::sensor_detect(work, common))
    }

    #[inline(never)]
    fn emit(&self, work: &mut Work, from: u32) -> bool {
        emit::emit(work, from, self.settings.wake_bytes)
    }

    #[inline(always)]
    fn emit_first(&self, work: &mut Work) -> bool {
        emit::emit_first(work, self.settings.wake_bytes)
    }
}
