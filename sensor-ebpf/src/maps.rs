//! Every map of the programs. The agent may give the big ones other sizes at load; these are the defaults.

use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        flow_key::{FlowKey, Tuple},
        policy::{
            FAILSAFE_MAX, FailsafeEntry, LIMITS_MAX, Limit, LimitKey, PolicyEntry, RULES_MAX, Rule,
            RuleHits,
        },
        settings::{ListenerCounts, ListenerKey, Settings},
    },
    packet::Headers,
    tables::{FragmentKey, FragmentVerdict, RecentKey, RecentValue},
    tracker::Flow,
    work::Work,
};

/// Flows at a time; 300 B each, so 20 MiB.
const FLOWS_MAX: usize = 65_536;
/// Listeners (server address and port) whose connections are counted; more are counted as lost coverage.
const LISTENERS_MAX: usize = 4_096;
/// Segments that can wait for their second sighting; each lives for a second.
const RECENT_MAX: usize = 32_768;
/// Tuples that are another name of a flow, both directions each.
const ALIASES_MAX: usize = 131_072;
/// Fragmented packets in flight.
const FRAGMENTS_MAX: usize = 4_096;
/// Clients under a limit at a time, for all limits together.
const LIMIT_STATE_MAX: usize = 131_072;
/// Entries of each address list.
const PREFIXES_MAX: usize = 1_048_576;
/// Bytes of the ring: 10 ms of 50 000 heads of 512 B a second is 300 KiB.
const RING_BYTES: usize = 8 << 20;
/// Without preallocation (`BPF_F_NO_PREALLOC`).
const NO_PREALLOC: usize = 1;

/// Records on their way to the agent.
#[btf_map]
pub(crate) static RING: RingBuf<[u8; 0], RING_BYTES> = RingBuf::new();
/// The ledger: one u64 a counter and CPU.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();
/// What changes while running.
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1> = Array::new();
/// What does not fit on the stack, one per CPU (a program is never interrupted by another one of ours on its CPU).
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();
/// Flow table; the least recently used entry makes room.
#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, FLOWS_MAX> = LruHashMap::new();
/// Connections by listener; never evicted, so that counts stay exact.
#[btf_map]
pub(crate) static LISTENERS: HashMap<ListenerKey, ListenerCounts, LISTENERS_MAX, NO_PREALLOC> =
    HashMap::new();
/// First sightings of segments that may come again with other addresses.
#[btf_map]
pub(crate) static RECENT: LruHashMap<RecentKey, RecentValue, RECENT_MAX> = LruHashMap::new();
/// Tuple to canonical tuple, direction kept.
#[btf_map]
pub(crate) static ALIASES: LruHashMap<Tuple, Tuple, ALIASES_MAX> = LruHashMap::new();
/// Verdicts of first fragments.
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentVerdict, FRAGMENTS_MAX> =
    LruHashMap::new();
/// Clients that are never dropped, IPv4.
#[btf_map]
pub(crate) static ALLOW4: LpmTrie<[u8; 4], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Clients that are never dropped, IPv6.
#[btf_map]
pub(crate) static ALLOW6: LpmTrie<[u8; 16], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Blocked clients, IPv4.
#[btf_map]
pub(crate) static BLOCK4: LpmTrie<[u8; 4], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Blocked clients, IPv6.
#[btf_map]
pub(crate) static BLOCK6: LpmTrie<[u8; 16], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Limited clients, IPv4.
#[btf_map]
pub(crate) static LIMIT4: LpmTrie<[u8; 4], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Limited clients, IPv6.
#[btf_map]
pub(crate) static LIMIT6: LpmTrie<[u8; 16], PolicyEntry, PREFIXES_MAX> = LpmTrie::new();
/// Rules by number.
#[btf_map]
pub(crate) static RULES: Array<Rule, { RULES_MAX as usize }> = Array::new();
/// Their hits.
#[btf_map]
pub(crate) static RULE_HITS: PerCpuArray<RuleHits, { RULES_MAX as usize }> = PerCpuArray::new();
/// What is never dropped, in order, up to the first unused entry.
#[btf_map]
pub(crate) static FAILSAFE: Array<FailsafeEntry, { FAILSAFE_MAX as usize }> = Array::new();
/// Limits by number.
#[btf_map]
pub(crate) static LIMITS: Array<Limit, { LIMITS_MAX as usize }> = Array::new();
/// Headers of a packet that is being answered, one per CPU.
#[btf_map]
pub(crate) static RESET_HEADERS: PerCpuArray<Headers, 1> = PerCpuArray::new();
/// Theoretical arrival time of the next reset that may be sent: the bound of the whole host.
#[btf_map]
pub(crate) static RESETS: Array<u64, 1> = Array::new();
/// Theoretical arrival time by limit and client.
#[btf_map]
pub(crate) static LIMIT_STATE: LruHashMap<LimitKey, u64, LIMIT_STATE_MAX> = LruHashMap::new();
