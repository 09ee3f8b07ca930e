//! Where a segment lies in its stream: new, seen before, behind a gap, or at the start of a burst.
//!
//! Bound: a segment more than [`BEHIND_MAX`] behind is not a retransmission but another connection.

use super::{
    emit::truncate,
    flow::{Class, Common, Flow, IDLE_BURST_NS, state, stream_flag},
};
use crate::{
    abi::counter::Counter,
    http_head::{DECIDED_BYTES, Detect},
    packet::PacketBytes,
    tables::Tables,
    verdict::now,
    work::Work,
};

/// Largest distance of a retransmission (Linux' largest receive window is below it by default).
const BEHIND_MAX: i32 = 1 << 26;

/// What to do with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// All of it was seen.
    Duplicate,
    /// Nothing in it can be used.
    Ignore,
    /// The position is lost: say so with [`give_up`], then locate again.
    Lost,
    /// Consume it from this payload offset on.
    Take(u32),
}

/// Places a segment with payload. A function of its own: its spills must not be in the frame below the loop's.
#[inline(never)]
pub fn locate<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    flow: &mut Flow,
) -> Position {
    let (seq, ack, len) = (work.headers.seq, work.headers.ack, work.headers.payload_len);
    let [low, high] = &mut flow.streams;
    let (stream, other) = if work.cursor.side == 0 { (low, &*high) } else { (high, &*low) };
    let common = &flow.common;
    let first = !stream.has(stream_flag::SEEN);
    if first {
        stream.flags |= stream_flag::SEEN;
        stream.next_seq = seq;
    }
    let distance = seq.wrapping_sub(stream.next_seq).cast_signed();
    let end_distance = seq.wrapping_add(len).wrapping_sub(stream.next_seq).cast_signed();
    if end_distance <= 0 && end_distance > -BEHIND_MAX {
        return Position::Duplicate;
    }
    let turn = first || ack != stream.last_ack;
    let last_ack = stream.last_ack;
    stream.last_ack = ack;
    if distance == 0 && stream.state != state::DOUBT && !(turn && stream.has(stream_flag::UNPROVEN))
    {
        return Position::Take(0);
    }
    if end_distance <= 0 {
        tables.count(Counter::GapsInFlow);
        stream.last_ack = last_ack;
        return Position::Lost;
    } else if distance < 0 {
        if stream.state == state::DOUBT {
            stream.next_seq = seq.wrapping_add(len);
            return Position::Ignore;
        }
        return Position::Take(distance.unsigned_abs());
    } else if distance > 0 {
        tables.count(Counter::GapsInFlow);
        match gap(stream, distance.unsigned_abs()) {
            Gap::Bridged => stream.next_seq = seq,
            Gap::Wait => {
                if !(turn && peek(packet, tables, work, common)) {
                    return Position::Ignore;
                }
                stream.doubt();
                stream.next_seq = seq;
            }
            Gap::Lost => {
                stream.last_ack = last_ack;
                return Position::Lost;
            }
        }
    }
    if stream.state == state::DOUBT {
        let time = now(tables, work);
        let idle = time.saturating_sub(stream.last_ns) >= IDLE_BURST_NS;
        stream.last_ns = time;
        if !turn && !idle {
            stream.next_seq = seq.wrapping_add(len);
            return Position::Ignore;
        }
        try_head(stream);
        let client = common.client_side() == Some(work.cursor.side);
        if client && common.requests != 0 && stream.head_ack == ack {
            stream.flags |= stream_flag::REFUSE;
        }
        return Position::Take(0);
    }
    // A position that rests on a doubtful head is given up when the exchange is over and something like a head comes.
    if turn
        && stream.has(stream_flag::UNPROVEN)
        && matches!(stream.state, state::BODY..=state::UNTIL_CLOSE)
    {
        let client = common.client_side() == Some(work.cursor.side);
        let answered = common.responses == common.requests;
        let over = if client { answered && other.state == state::EXPECT } else { !answered };
        if over && common.class == Class::Http as u8 && peek(packet, tables, work, common) {
            stream.doubt();
            try_head(stream);
        }
    }
    Position::Take(0)
}

/// Ends the head that was being read; the stream goes on in doubt at this segment.
#[inline(always)]
pub fn give_up<T: Tables>(tables: &T, work: &mut Work, flow: &mut Flow) {
    let [low, high] = &mut flow.streams;
    let stream = if work.cursor.side == 0 { low } else { high };
    truncate(tables, work, stream, &flow.common);
    stream.doubt();
    stream.next_seq = work.headers.seq;
}

#[inline(always)]
fn try_head(stream: &mut super::Stream) {
    stream.state = state::EXPECT;
    stream.carry_len = 0;
    stream.flags |= stream_flag::TRYING;
}

enum Gap {
    /// The bytes missing were body.
    Bridged,
    /// They may still come.
    Wait,
    /// The position is lost.
    Lost,
}

#[inline(always)]
fn gap(stream: &mut super::Stream, missing: u32) -> Gap {
    match stream.state {
        state::EXPECT => Gap::Wait,
        state::BODY | state::CHUNK_DATA if stream.left >= u64::from(missing) => {
            stream.left -= u64::from(missing);
            if stream.left == 0 {
                stream.state =
                    if stream.state == state::BODY { state::EXPECT } else { state::CHUNK_SIZE };
            }
            Gap::Bridged
        }
        state::UNTIL_CLOSE | state::DOUBT => Gap::Bridged,
        _ => Gap::Lost,
    }
}

/// Whether the segment begins with a head.
#[inline(never)]
fn peek<P: PacketBytes, T: Tables>(
    packet: &P,
    tables: &T,
    work: &mut Work,
    common: &Common,
) -> bool {
    let len = work.headers.payload_len;
    let len = if len < DECIDED_BYTES { len } else { DECIDED_BYTES };
    if !packet.load_window(work.headers.payload, len, 0, &mut work.window) {
        return false;
    }
    work.cursor.scan = 0;
    work.cursor.end = len;
    matches!(tables.detect(work, common), Detect::Request(_) | Detect::Response(_))
}
