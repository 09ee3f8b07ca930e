//! Every map of the programs. The agent may give the big ones other sizes at load; these are the defaults.

use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        dynamic::{
            CLIENT_VERDICTS_MAX, CONNECTIONS_MAX, Connection, DROPS_MAX, DropKey, DropValue,
            FLOW_VERDICTS_MAX, HANDSHAKES_MAX, Handshake, NETWORKS_MAX, PENALISED_MAX, PROVEN_MAX,
            SHARED_MAX, Verdict,
        },
        flow_key::{FlowKey, Tuple},
        image::{ANY4_WORDS, FILTER6_WORDS, HITS_SLOTS, Line, SLOTS},
        near::{NEAR_SLOTS, NEAR_WORDS},
        policy::{LimitKey, RuleHits},
        repeat::{REPEATS_PER_CPU, Repeat},
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
/// Bytes of the ring: 10 ms of 50 000 heads of 512 B a second is 300 KiB.
const RING_BYTES: usize = 8 << 20;
/// Without preallocation (`BPF_F_NO_PREALLOC`).
const NO_PREALLOC: usize = 1;
/// The agent writes through memory (`BPF_F_MMAPABLE`).
const MMAPABLE: usize = 1 << 10;
/// The same, and of any length (`BPF_F_INNER_MAP`).
const IMAGE_FLAGS: usize = MMAPABLE | 1 << 12;

/// Records on their way to the agent.
#[btf_map]
pub(crate) static RING: RingBuf<[u8; 0], RING_BYTES> = RingBuf::new();
/// The ledger: one u64 a counter and CPU.
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::COUNT }> = PerCpuArray::new();
/// What changes while running.
#[btf_map]
pub(crate) static SETTINGS: Array<Settings, 1, MMAPABLE> = Array::new();
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
/// The policy images by slot: arrays of lines of any length, made and filled by the agent.
#[btf_map]
pub(crate) static POLICY: ArrayOfMaps<Array<Line, 1, IMAGE_FLAGS>, { SLOTS as usize }> =
    ArrayOfMaps::new();
/// Bitmaps of IPv4 /24s with block entries, by slot; one is there only for a policy that has such entries.
#[btf_map]
pub(crate) static ANY4: ArrayOfMaps<Array<[u64; ANY4_WORDS], 1, MMAPABLE>, { SLOTS as usize }> =
    ArrayOfMaps::new();
/// Filters of IPv6 anchors with block entries, by slot, likewise.
#[btf_map]
pub(crate) static FILTER6: ArrayOfMaps<
    Array<[u64; FILTER6_WORDS], 1, MMAPABLE>,
    { SLOTS as usize },
> = ArrayOfMaps::new();
/// Filters of block entries, by slot and family; one is there only for a policy that has many of it.
#[btf_map]
pub(crate) static NEAR: ArrayOfMaps<
    Array<[u64; NEAR_WORDS], 1, MMAPABLE>,
    { NEAR_SLOTS as usize },
> = ArrayOfMaps::new();
/// Hits of rules; an index stays with a rule over all generations.
#[btf_map]
pub(crate) static RULE_HITS: PerCpuArray<RuleHits, { HITS_SLOTS as usize }> = PerCpuArray::new();
/// Headers of a packet that is being answered, one per CPU.
#[btf_map]
pub(crate) static RESET_HEADERS: PerCpuArray<Headers, 1> = PerCpuArray::new();
/// Theoretical arrival time of the next reset that may be sent: the bound of the whole host.
#[btf_map]
pub(crate) static RESETS: Array<u64, 1> = Array::new();
/// Theoretical arrival time by limit and client, of clients that completed a handshake.
#[btf_map]
pub(crate) static LIMIT_STATE: LruHashMap<LimitKey, u64, LIMIT_STATE_MAX> = LruHashMap::new();
/// The same of clients over a limit: no flood takes their place.
#[btf_map]
pub(crate) static PENALISED: HashMap<LimitKey, u64, { PENALISED_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
/// The same of networks, for clients that may be forged, and of clients that a UDP server answered.
#[btf_map]
pub(crate) static NETWORKS: LruHashMap<LimitKey, u64, { NETWORKS_MAX as usize }> =
    LruHashMap::new();
/// Addresses known to complete handshakes, and since when.
#[btf_map]
pub(crate) static PROVEN: LruHashMap<[u8; 16], u64, { PROVEN_MAX as usize }> = LruHashMap::new();
/// SYN-ACKs whose connection has sent nothing yet, and conversations by UDP.
#[btf_map]
pub(crate) static HANDSHAKES: LruHashMap<FlowKey, Handshake, { HANDSHAKES_MAX as usize }> =
    LruHashMap::new();
/// Open connections that limits count.
#[btf_map]
pub(crate) static CONNECTIONS: HashMap<
    FlowKey,
    Connection,
    { CONNECTIONS_MAX as usize },
    NO_PREALLOC,
> = HashMap::new();
/// How many are open, by limit and client.
#[btf_map]
pub(crate) static OPEN: HashMap<LimitKey, u64, { CONNECTIONS_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
/// The agent's verdicts on flows.
#[btf_map]
pub(crate) static FLOW_VERDICTS: HashMap<
    FlowKey,
    Verdict,
    { FLOW_VERDICTS_MAX as usize },
    NO_PREALLOC,
> = HashMap::new();
/// The agent's verdicts on clients.
#[btf_map]
pub(crate) static CLIENT_VERDICTS: HashMap<
    [u8; 16],
    Verdict,
    { CLIENT_VERDICTS_MAX as usize },
    NO_PREALLOC,
> = HashMap::new();
/// Sources that many clients share, each until a time.
#[btf_map]
pub(crate) static SHARED: HashMap<[u8; 16], u64, { SHARED_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
/// Drops that come again and again; the agent gives it [`REPEATS_PER_CPU`] rows for each CPU, and takes what they count.
#[btf_map]
pub(crate) static REPEATS: Array<Repeat, { REPEATS_PER_CPU as usize }, MMAPABLE> = Array::new();
/// What was dropped, by client, rule and reason; rows that the agent has not taken away are never evicted.
#[btf_map]
pub(crate) static DROPS: HashMap<DropKey, DropValue, { DROPS_MAX as usize }, NO_PREALLOC> =
    HashMap::new();
