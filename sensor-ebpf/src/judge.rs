//! One sighting from end to end: headers, verdict, flow, heads. Moves exactly one bucket of the ledger.
//!
//! NAT: a segment keeps its numbers when addresses change. The first sighting's tuple is the canonical one; where more than two hooks
//! are attached, SYN, SYN-ACK and the first segment of a flow are remembered in `RECENT`, and another tuple with the same
//! numbers within [`SAME_SEGMENT_NS`] becomes an alias of the first.

use crate::{
    abi::{
        counter::Counter,
        flow_key::{FlowKey, Tuple},
        settings::Settings,
    },
    packet::{Headers, Link, Outcome, PacketBytes, TcpFlags, parse},
    tables::{CHARGED_ANYWHERE, CHARGED_CONNECTION, CHARGED_PACKET, FIRST_TUPLE, Tables},
    tracker::{self, Class, Common, Flow, Position, Whole, flow_flag, state, stream_flag},
    verdict::{Decision, concerns, high, low, now},
    work::Work,
};

/// Two sightings of the same numbers within this time are one segment.
pub const SAME_SEGMENT_NS: u64 = 1_000_000_000;

/// Bytes that may come before the first segment that we see of a connection.
const FIRST_WINDOW: u32 = 1 << 16;

/// With so many hooks (one device) a segment cannot come by with two tuples.
pub(crate) const HOOKS_OF_ONE_DEVICE: u32 = 2;

/// Judges one packet at one hook.
#[inline(always)]
pub fn judge<P: PacketBytes, T: Tables>(
    link: Link,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Decision {
    tables.count(Counter::Sightings);
    work.cursor.now_ns = 0;
    work.headers.first_fragment = 0;
    work.headers.later_fragment = 0;
    work.headers.ip_id = 0;
    work.headers.tcp_flags = 0;
    work.cursor.resume = 0;
    work.requests.limits = 0;
    work.requests.over = 0;
    let outcome = parse(link, packet, &mut work.headers);
    match outcome {
        Outcome::NotIp => tables.count(Counter::NotIp),
        Outcome::NotTransport => tables.count(Counter::NotTransport),
        Outcome::Malformed => tables.count(Counter::Malformed),
        Outcome::LaterFragment | Outcome::ExtensionLimit | Outcome::Tcp | Outcome::Udp => {
            return judge_transport(outcome, packet, tables, work);
        }
    }
    Decision::Pass
}

#[inline(always)]
fn judge_transport<P: PacketBytes, T: Tables>(
    outcome: Outcome,
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Decision {
    let decision =
        if concerns(tables, work) { tables.decide(outcome, packet, work) } else { Decision::Pass };
    let bucket = match (decision, outcome) {
        (Decision::Blocked | Decision::BlockedReset, _) => Counter::Blocked as u32,
        (Decision::Limited | Decision::LimitedReset, _) => Counter::Limited as u32,
        (Decision::OwnReset, _) => Counter::OwnReset as u32,
        (Decision::Pass, Outcome::Tcp) => {
            let bucket = match tables.swift(packet, work) {
                UNFIT => tables.observe(packet, work),
                bucket => bucket,
            };
            if T::LIMITS && work.requests.limits != 0 {
                return requests(bucket, tables, work);
            }
            bucket
        }
        (Decision::Pass, Outcome::Udp) => Counter::Udp as u32,
        (Decision::Pass, Outcome::ExtensionLimit) => {
            tables.count(Counter::ExtensionLimit);
            Counter::NotTransport as u32
        }
        (Decision::Pass, _) => Counter::Fragment as u32,
    };
    tables.count_index(bucket, 1);
    decision
}

/// Charges the request heads that were found to the limits that were found before.
#[inline(always)]
fn requests<T: Tables>(bucket: u32, tables: &T, work: &mut Work) -> Decision {
    let decision = if work.requests.heads | work.requests.refused == 0 {
        Decision::Pass
    } else {
        tables.charge_requests(work)
    };
    let dropped = !matches!(decision, Decision::Pass);
    tables.count_index(if dropped { Counter::Limited as u32 } else { bucket }, 1);
    decision
}

/// What [`swift`] gives where [`observe`] is to be asked: no counter's index.
pub const UNFIT: u32 = u32::MAX;

/// Observes the commonest segments of known flows in one short function: whole heads, and what needs no look. Gives the
/// bucket, or [`UNFIT`] and has changed nothing but scratch.
#[inline(always)]
pub fn swift<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> u32 {
    let headers = &work.headers;
    if headers.payload_len == 0
        || headers.tcp_flags & (TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) != 0
        || work.requests.over != 0
    {
        return UNFIT;
    }
    work.cursor.side = canonical(&headers.tuple, &mut work.key);
    let Some(mut flow) = tables.take_flow(&work.key) else { return UNFIT };
    let bucket = match passed_over(&flow.common) {
        Some(Counter::SampledOut) if work.requests.limits != 0 => UNFIT,
        Some(bucket) => bucket as u32,
        None => match tracker::whole_head(packet, tables, work, &mut flow) {
            Whole::Head => Counter::Emitted as u32,
            Whole::Body => Counter::NoHead as u32,
            Whole::Rest => {
                work.cursor.resume = 1;
                UNFIT
            }
            Whole::Unfit => UNFIT,
        },
    };
    tables.put_flow(flow);
    bucket
}

/// The bucket of payload that is not looked at.
#[inline(always)]
fn passed_over(common: &Common) -> Option<Counter> {
    if common.has(flow_flag::NEGATIVE) {
        Some(Counter::NegativeFlow)
    } else if common.class == Class::Http as u8 && !common.has(flow_flag::SAMPLED) {
        Some(Counter::SampledOut)
    } else {
        None
    }
}

/// Observes a TCP segment; gives its bucket (as a number: it is returned by a separately verified function).
#[inline(always)]
pub fn observe<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> u32 {
    let flags = work.headers.tcp_flags;
    let payload = work.headers.payload_len != 0;
    if flags & TcpFlags::SYN != 0 {
        return handshake(packet, tables, work) as u32;
    }
    if !payload && flags & (TcpFlags::FIN | TcpFlags::RST) == 0 {
        return Counter::NoPayload as u32;
    }
    work.tuple = work.headers.tuple;
    work.cursor.side = canonical(&work.tuple, &mut work.key);
    let found = match tables.take_flow(&work.key) {
        Some(flow) => Some(flow),
        None => find_or_join(packet, tables, work),
    };
    let Some(mut flow) = found else { return Counter::NoPayload as u32 };
    let bucket = follow(packet, tables, work, &mut flow);
    tables.put_flow(flow);
    bucket
}

/// A segment of a known flow.
#[inline(always)]
fn follow<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
) -> u32 {
    let flags = work.headers.tcp_flags;
    let payload = work.headers.payload_len != 0;
    work.cursor.head_seen = 0;
    let bucket = if !payload {
        Counter::NoPayload as u32
    } else if work.cursor.resume != 0 {
        tables.read_payload(packet, work, flow)
    } else if let Some(bucket) = passed_over(&flow.common) {
        if work.requests.limits != 0 && matches!(bucket, Counter::SampledOut) {
            // Its requests are counted all the same; nothing of them is sent.
            tables.read_payload(packet, work, flow);
        }
        bucket as u32
    } else {
        tables.read_payload(packet, work, flow)
    };
    if flags & (TcpFlags::FIN | TcpFlags::RST) != 0 {
        if !flow.common.has(flow_flag::JOINED) && flags & TcpFlags::FIN != 0 {
            opened(tables, work, flow);
        }
        tracker::close(tables, work, flow, flags & TcpFlags::RST != 0);
    }
    bucket
}

#[inline(never)]
fn opened<T: Tables>(tables: &T, work: &mut Work, flow: &mut Flow) {
    tracker::open_listener(tables, work, &mut flow.common);
}

/// Reads the payload of a segment whose flow is of interest; gives the bucket.
#[inline(always)]
pub fn read_payload<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
) -> u32 {
    if work.cursor.resume != 0 {
        tracker::go_on(packet, tables, work, flow);
        return Counter::Emitted as u32;
    }
    if !flow.common.has(flow_flag::PAYLOAD) {
        flow.common.flags |= flow_flag::PAYLOAD;
        if !flow.common.has(flow_flag::JOINED) {
            opened(tables, work, flow);
        }
    }
    let mut position = tracker::locate(packet, tables, work, flow);
    if matches!(position, Position::Lost) {
        tracker::give_up(tables, work, flow);
        position = tracker::locate(packet, tables, work, flow);
    }
    match position {
        Position::Duplicate => Counter::Duplicate as u32,
        Position::Ignore | Position::Lost => Counter::NoHead as u32,
        Position::Take(skip) => {
            if tables.settings().hooks > HOOKS_OF_ONE_DEVICE {
                refresh_recent(packet, tables, work, flow);
            }
            tracker::run(packet, tables, work, flow, skip);
            if work.cursor.head_seen != 0 {
                Counter::Emitted as u32
            } else {
                Counter::NoHead as u32
            }
        }
    }
}

/// After hooks were added, each flow is remembered once more, so that a new hook's tuple finds it.
#[inline(always)]
fn refresh_recent<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
) {
    let hooks = (tables.settings().hooks & 0xffff) as u16;
    if flow.common.recent_hooks == hooks {
        return;
    }
    flow.common.recent_hooks = hooks;
    recent_key(FIRST_TUPLE, packet, work);
    let time = now(tables, work);
    remember(time, tables, work);
}

/// SYN and SYN-ACK. A SYN-ACK with a new number is remembered; the flow is made at its first payload, so that SYNs fill no table of flows.
#[inline(never)]
fn handshake<P: PacketBytes, T: Tables>(packet: &P, tables: &T, work: &mut Work) -> Counter {
    work.tuple = work.headers.tuple;
    let many_hooks = tables.settings().hooks > HOOKS_OF_ONE_DEVICE;
    let answer = work.headers.tcp_flags & TcpFlags::ACK != 0;
    if many_hooks {
        recent_key(FIRST_TUPLE, packet, work);
        match first_sighting(tables, work) {
            Sighting::SameTuple => return Counter::Duplicate,
            Sighting::OtherTuple => {
                make_alias(tables, work);
                return Counter::Duplicate;
            }
            Sighting::First if answer => {
                tables.alias(&work.headers.tuple, &mut work.tuple);
            }
            Sighting::First => {
                // A new connection: what its addresses meant before does not hold any more.
                tables.remove_alias(&work.headers.tuple);
                reverse(&work.headers.tuple, &mut work.back);
                tables.remove_alias(&work.back);
            }
        }
        let time = now(tables, work);
        remember(time, tables, work);
    }
    if answer { synchronize(tables, work) } else { Counter::NoPayload }
}

/// A SYN-ACK: both ends' next numbers are known.
#[inline(never)]
fn synchronize<T: Tables>(tables: &T, work: &mut Work) -> Counter {
    work.cursor.side = canonical(&work.tuple, &mut work.key);
    // A client that sends a SYN-ACK of its own would pass for a server: where both ends did, neither is taken for one.
    let mut disputed = 0;
    if let Some(flow) = tables.take_flow(&work.key) {
        let same =
            flow.common.server_isn == work.headers.seq && !flow.common.has(flow_flag::JOINED);
        if !flow.common.has(flow_flag::server(work.cursor.side))
            && !flow.common.has(flow_flag::JOINED)
        {
            disputed = 1;
        }
        tables.put_flow(flow);
        if same {
            return Counter::Duplicate;
        }
        tables.remove_flow(&work.key);
    }
    if tables.handshake(&work.key, &mut work.handshake) {
        if work.handshake.server_isn == work.headers.seq {
            return Counter::Duplicate;
        }
        if work.handshake.server != work.cursor.side || work.handshake.answered != 0 {
            disputed = 1;
        }
    }
    work.handshake.time_ns = now(tables, work);
    work.handshake.server_isn = work.headers.seq;
    work.handshake.client_next = work.headers.ack;
    work.handshake.server = work.cursor.side;
    work.handshake.answered = disputed;
    tables.set_handshake(&work.key, &work.handshake);
    Counter::NoPayload
}

/// Makes the flow of `work.key` where its handshake was seen and the segment goes on from there.
#[inline(always)]
fn from_handshake<T: Tables>(tables: &T, work: &mut Work) -> bool {
    if !tables.handshake(&work.key, &mut work.handshake) {
        return false;
    }
    let shake = &work.handshake;
    let (server, client) = (shake.server & 1, (shake.server & 1) ^ 1);
    let (server_next, client_next) = (shake.server_isn.wrapping_add(1), shake.client_next);
    let by_server = work.cursor.side == server;
    let (own, other) =
        if by_server { (server_next, client_next) } else { (client_next, server_next) };
    if work.headers.seq.wrapping_sub(own) > FIRST_WINDOW
        || work.headers.ack.wrapping_sub(other) > FIRST_WINDOW
    {
        return false;
    }
    fresh_flow(tables, work);
    let flow = &mut work.fresh;
    flow.common.set_client(client);
    if work.handshake.answered == 0 {
        flow.common.flags |= flow_flag::server(server);
    }
    flow.common.server_isn = work.handshake.server_isn;
    flow.stream(server).next_seq = server_next;
    flow.stream(client).next_seq = client_next;
    let [low, high] = &mut flow.streams;
    low.flags = stream_flag::SEEN;
    high.flags = stream_flag::SEEN;
    insert(tables, work);
    tables.remove_handshake(&work.key);
    true
}

/// A segment of no known flow: perhaps of one with another tuple, else of one that began before we looked.
#[inline(never)]
fn find_or_join<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
) -> Option<T::FlowRef> {
    let quiet = work.headers.tcp_flags & TcpFlags::RST != 0 && work.headers.payload_len == 0;
    if !quiet && from_handshake(tables, work) {
        return tables.take_flow(&work.key);
    }
    if tables.settings().hooks > HOOKS_OF_ONE_DEVICE {
        if tables.alias(&work.headers.tuple, &mut work.tuple) {
            work.cursor.side = canonical(&work.tuple, &mut work.key);
            if let Some(flow) = tables.take_flow(&work.key) {
                return Some(flow);
            }
            if !quiet && from_handshake(tables, work) {
                return tables.take_flow(&work.key);
            }
        }
        if work.headers.payload_len != 0 {
            recent_key(FIRST_TUPLE, packet, work);
            if matches!(first_sighting(tables, work), Sighting::OtherTuple) {
                make_alias(tables, work);
                work.tuple = work.seen.tuple;
                work.cursor.side = canonical(&work.tuple, &mut work.key);
                if let Some(flow) = tables.take_flow(&work.key) {
                    return Some(flow);
                }
            }
        }
    }
    if work.headers.payload_len == 0 {
        return None;
    }
    fresh_flow(tables, work);
    work.fresh.common.flags |= flow_flag::JOINED;
    let [low, high] = &mut work.fresh.streams;
    low.state = state::DOUBT;
    high.state = state::DOUBT;
    insert(tables, work);
    tables.take_flow(&work.key)
}

#[inline(always)]
fn insert<T: Tables>(tables: &T, work: &mut Work) {
    let made = tables.insert_flow(&work.key, &work.fresh);
    tables.count(if made { Counter::FlowsOpened } else { Counter::FlowTableFull });
}

#[inline(always)]
fn fresh_flow<T: Tables>(tables: &T, work: &mut Work) {
    let time = now(tables, work);
    let settings = tables.settings();
    let sampled = is_sampled(&work.key, settings);
    // Field by field: what is never set here stays zero, and clearing all 240 bytes would be a loop over bytes.
    let [low, high] = &mut work.fresh.streams;
    for stream in [low, high] {
        stream.next_seq = 0;
        stream.flags = 0;
        stream.state = state::EXPECT;
    }
    let common = &mut work.fresh.common;
    common.epoch_ns = time;
    common.weight = settings.sample_weight;
    common.server_isn = 0;
    common.client = 0;
    common.flags = if sampled { flow_flag::SAMPLED } else { 0 };
}

enum Sighting {
    First,
    SameTuple,
    /// The first one's tuple is in `work.seen.tuple`.
    OtherTuple,
}

#[inline(always)]
fn first_sighting<T: Tables>(tables: &T, work: &mut Work) -> Sighting {
    let time = now(tables, work);
    if !tables.recent(&work.recent, &mut work.seen)
        || time.saturating_sub(work.seen.time_ns) >= SAME_SEGMENT_NS
    {
        return Sighting::First;
    }
    if work.seen.tuple == work.headers.tuple { Sighting::SameTuple } else { Sighting::OtherTuple }
}

/// `work.headers.tuple` is another name of `work.seen.tuple`: from now on its segments belong to the first one's flow.
#[inline(never)]
fn make_alias<T: Tables>(tables: &T, work: &mut Work) {
    if tables.alias(&work.headers.tuple, &mut work.back) && work.back == work.seen.tuple {
        return;
    }
    tables.set_alias(&work.headers.tuple, &work.seen.tuple);
    reverse(&work.headers.tuple, &mut work.back);
    reverse(&work.seen.tuple, &mut work.canonical_back);
    tables.set_alias(&work.back, &work.canonical_back);
    // A flow that was begun under the other name would be counted twice.
    canonical(&work.headers.tuple, &mut work.key);
    tables.remove_flow(&work.key);
    canonical(&work.seen.tuple, &mut work.key);
    if !is_sampled(&work.key, tables.settings()) {
        return;
    }
    work.window.put_tuple(&work.seen.tuple);
    work.tuple = work.headers.tuple;
    work.fresh.common.epoch_ns = 0;
    work.fresh.common.flags = flow_flag::SAMPLED;
    work.fresh.common.weight = tables.settings().sample_weight;
    tracker::send_alias(tables, work, 0);
}

/// Where the bytes begin by which a segment is known: a SYN has no payload, but options that NAT leaves alone behind the MSS (timestamps).
#[inline(always)]
fn first_bytes(headers: &Headers) -> u32 {
    let options = headers.payload.wrapping_sub(headers.transport);
    if headers.tcp_flags & TcpFlags::SYN != 0 && options >= 36 {
        headers.transport + 28
    } else {
        headers.payload
    }
}

/// Key of this segment in `RECENT`.
#[inline(never)]
pub(crate) fn recent_key<P: PacketBytes>(purpose: u8, packet: &P, work: &mut Work) {
    let headers = &work.headers;
    let hash = if purpose == CHARGED_CONNECTION {
        // A retransmission has the same addresses; its options differ (timestamps).
        let tuple = &headers.tuple;
        let ports = (u64::from(tuple.src_port) << 16) | u64::from(tuple.dst_port);
        let ends = mix(high(&tuple.src) ^ low(&tuple.src), high(&tuple.dst) ^ low(&tuple.dst));
        mix(ends, ports)
    } else if purpose == CHARGED_ANYWHERE {
        0
    } else {
        mix(packet.load_payload(first_bytes(headers)), u64::from(headers.tuple.protocol))
    };
    let key = &mut work.recent;
    key.hash = hash;
    key.seq = headers.seq;
    key.ack = headers.ack;
    key.len = headers.payload_len;
    key.ip_id = if purpose == CHARGED_PACKET { headers.ip_id } else { 0 };
    key.flags = headers.tcp_flags;
    key.purpose = purpose;
}

/// Remembers this sighting under `work.recent`.
#[inline(never)]
pub(crate) fn remember<T: Tables>(time_ns: u64, tables: &T, work: &mut Work) {
    let hook = tables.hook(work);
    let value = &mut work.sighting;
    value.time_ns = time_ns;
    value.tuple = work.tuple;
    value.ifindex = tables.ifindex();
    value.hook = hook;
    tables.set_recent(&work.recent, &work.sighting);
}

/// Puts the direction-free key of a tuple into `key`; gives the sender's side: 0 low, 1 high.
#[inline(always)]
pub fn canonical(tuple: &Tuple, key: &mut FlowKey) -> u32 {
    let (src, dst) = (u128::from_be_bytes(tuple.src), u128::from_be_bytes(tuple.dst));
    let src_is_low = src < dst || (src == dst && tuple.src_port <= tuple.dst_port);
    key.protocol = tuple.protocol;
    if src_is_low {
        key.low = tuple.src;
        key.high = tuple.dst;
        key.low_port = tuple.src_port;
        key.high_port = tuple.dst_port;
        0
    } else {
        key.low = tuple.dst;
        key.high = tuple.src;
        key.low_port = tuple.dst_port;
        key.high_port = tuple.src_port;
        1
    }
}

#[inline(always)]
fn reverse(tuple: &Tuple, to: &mut Tuple) {
    to.src = tuple.dst;
    to.dst = tuple.src;
    to.src_port = tuple.dst_port;
    to.dst_port = tuple.src_port;
    to.protocol = tuple.protocol;
}

/// Whether a flow is sampled: by a hash that a client cannot predict without the key.
#[inline(always)]
fn is_sampled(key: &FlowKey, settings: &Settings) -> bool {
    if settings.sample_threshold == u32::MAX {
        return true;
    }
    let [first, second] = settings.hash_key;
    let ports = (u64::from(key.low_port) << 16) | u64::from(key.high_port);
    let mut hash = first;
    hash = mix(hash ^ high(&key.low), second);
    hash = mix(hash ^ low(&key.low), second);
    hash = mix(hash ^ high(&key.high), second);
    hash = mix(hash ^ low(&key.high), second);
    hash = mix(hash ^ ports, second);
    (hash >> 32) as u32 <= settings.sample_threshold
}

/// One round of mixing (the finalizer of `MurmurHash3` and splitmix64, keyed).
#[inline(always)]
pub(crate) fn mix(value: u64, key: u64) -> u64 {
    let mut hash = value.wrapping_add(key).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9 ^ key << 1);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
