//! The entry of the flow table: what is remembered between segments.
//!
//! Bound: [`CARRY_BYTES`] of an unfinished line per direction; a longer line is judged by its first bytes and skipped to its end.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of an unfinished line that are kept: `Content-Length: ` with 20 digits, or `Transfer-Encoding: gzip, chunked`, fit.
pub const CARRY_BYTES: u32 = 48;

/// Data after so long a silence begins a burst (a request is not paused within its head for that long).
pub const IDLE_BURST_NS: u64 = 20_000_000;

/// What a flow carries. Value of [`Common::class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Not known yet.
    Unknown = 0,
    /// HTTP/1.
    Http = 1,
    /// HTTP/2 with prior knowledge.
    H2c = 2,
    /// TLS.
    Tls = 3,
    /// Something else.
    Other = 4,
}

/// Bits of [`Common::flags`].
pub mod flow_flag {
    /// The handshake was not seen.
    pub const JOINED: u16 = 1;
    /// Chosen by sampling.
    pub const SAMPLED: u16 = 1 << 1;
    /// Nothing more to be read in it: negative verdict.
    pub const NEGATIVE: u16 = 1 << 2;
    /// Counted as opened at its listener.
    pub const OPENED: u16 = 1 << 3;
    /// Counted as closed, and reported.
    pub const CLOSED: u16 = 1 << 4;
    /// Payload was seen.
    pub const PAYLOAD: u16 = 1 << 5;
    /// By the handshake the low end of the flow key is the server.
    pub const SERVER_LOW: u16 = 1 << 6;
    /// The high end is. Neither where the handshake was not seen, or both ends sent a SYN-ACK.
    pub const SERVER_HIGH: u16 = 1 << 7;

    /// The flag of an end as the server.
    #[inline(always)]
    #[must_use]
    pub const fn server(side: u32) -> u16 {
        if side == 0 { SERVER_LOW } else { SERVER_HIGH }
    }
}

/// Values of [`Stream::state`].
pub mod state {
    /// A head is expected next (empty lines before it are skipped).
    pub const EXPECT: u8 = 0;
    /// In a head.
    pub const HEAD: u8 = 1;
    /// In a body of known length (`left`).
    pub const BODY: u8 = 2;
    /// At the line of a chunk's size.
    pub const CHUNK_SIZE: u8 = 3;
    /// In a chunk's data and the line end behind it (`left`).
    pub const CHUNK_DATA: u8 = 4;
    /// In the trailer section.
    pub const TRAILERS: u8 = 5;
    /// In a body that ends with the connection.
    pub const UNTIL_CLOSE: u8 = 6;
    /// The position is not known: heads are taken only at the start of a burst.
    pub const DOUBT: u8 = 7;
    /// In a ClientHello (`left`).
    pub const HELLO: u8 = 8;
    /// In a PROXY protocol header: of `left` more bytes, or, where that is 0, up to the end of its line.
    pub const PROXY: u8 = 9;
}

/// Bits of [`Stream::flags`].
pub mod stream_flag {
    /// `next_seq` is valid.
    pub const SEEN: u32 = 1;
    /// The head's first line is not over.
    pub const FIRST_LINE: u32 = 1 << 1;
    /// The line was longer than the carry: skip to its end.
    pub const LONG: u32 = 1 << 2;
    /// The head has a Content-Length (in `left`).
    pub const LENGTH: u32 = 1 << 3;
    /// The head has a Transfer-Encoding that ends in chunked.
    pub const CHUNKED: u32 = 1 << 4;
    /// The head has a Transfer-Encoding that does not.
    pub const CODED: u32 = 1 << 5;
    /// The head's framing cannot be told (contradicting or overlong fields).
    pub const UNCLEAR: u32 = 1 << 6;
    /// A record of this head was lost: no more of it is sent.
    pub const LOST: u32 = 1 << 7;
    /// This head is not sent (interim response, or the flow is not sampled).
    pub const MUTE: u32 = 1 << 8;
    /// The head was cut at `head_bytes_max`: no more of it is sent.
    pub const CUT: u32 = 1 << 9;
    /// The head's first record was sent.
    pub const STARTED: u32 = 1 << 10;
    /// The head was taken on doubt.
    pub const ON_DOUBT: u32 = 1 << 11;
    /// In `EXPECT`, but only trying: back to `DOUBT` when it is not a head.
    pub const TRYING: u32 = 1 << 12;
    /// Trying only to count what is refused.
    pub const REFUSE: u32 = 1 << 13;
    /// The position rests on a head that was taken on doubt.
    pub const UNPROVEN: u32 = 1 << 14;
    /// FIN was seen.
    pub const FIN: u32 = 1 << 15;
    /// The current head is a response's (else a request's).
    pub const RESPONSE: u32 = 1 << 16;
    /// No request of this response was seen.
    pub const ORPHAN: u32 = 1 << 17;
    /// The current request's method is CONNECT, or the response answers one.
    pub const CONNECT: u32 = 1 << 18;
    /// The current request's method is HEAD, or the response answers one.
    pub const HEAD_METHOD: u32 = 1 << 19;

    /// The current head was counted, and its flow classified.
    pub const ANNOUNCED: u32 = 1 << 20;

    /// What concerns one head only.
    pub const OF_HEAD: u32 = FIRST_LINE
        | LONG
        | LENGTH
        | CHUNKED
        | CODED
        | UNCLEAR
        | LOST
        | MUTE
        | CUT
        | STARTED
        | ON_DOUBT
        | TRYING
        | REFUSE
        | RESPONSE
        | ORPHAN
        | CONNECT
        | HEAD_METHOD
        | ANNOUNCED;
}

/// One direction of a flow. All zero: nothing seen.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Stream {
    /// Bytes of the body, chunk or hello that are still to come; in a head its Content-Length.
    pub left: u64,
    /// Last payload, ns (kept only while in doubt).
    pub last_ns: u64,
    /// The unfinished line's first bytes.
    pub carry: [u64; 6],
    /// Sequence number of the next new byte.
    pub next_seq: u32,
    /// Acknowledgement number of the last payload segment: a change means the other end has spoken.
    pub last_ack: u32,
    /// [`stream_flag`] bits.
    pub flags: u32,
    /// Acknowledgement number where the last head was taken: while it stays, no answer has begun.
    pub head_ack: u32,
    /// Bytes of the current head that were sent.
    pub head_bytes: u32,
    /// Ordinal of the current head.
    pub ordinal: u32,
    /// Status of the current response.
    pub status: u16,
    /// [`state`].
    pub state: u8,
    /// Bytes in `carry`.
    pub carry_len: u8,
    /// Always zero.
    pub pad: [u8; 4],
}

const _: () = assert!(size_of::<Stream>() == 96);

/// A flow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Flow {
    /// The streams, of the low and of the high end of the key. Each is written by packets of its own direction only.
    pub streams: [Stream; 2],
    /// What both directions share.
    pub common: Common,
}

const _: () = assert!(size_of::<Flow>() == 240);

/// What the two directions of a flow share.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Common {
    /// When the entry was made.
    pub epoch_ns: u64,
    /// Bit n: request n (modulo 64) was HEAD.
    pub head_bits: u64,
    /// Bit n: request n (modulo 64) was CONNECT.
    pub connect_bits: u64,
    /// Initial sequence number of the server, when the handshake was seen.
    pub server_isn: u32,
    /// Request heads so far.
    pub requests: u32,
    /// Requests answered so far (by a final response).
    pub responses: u32,
    /// Weight of its samples.
    pub weight: u32,
    /// [`flow_flag`] bits.
    pub flags: u16,
    /// Number of hooks when its segment was last put into `RECENT`.
    pub recent_hooks: u16,
    /// [`Class`].
    pub class: u8,
    /// The client's end: 0 not known, 1 low, 2 high.
    pub client: u8,
    /// Always zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<Common>() == 48);

impl Flow {
    /// The stream of one end.
    #[inline(always)]
    pub fn stream(&mut self, side: u32) -> &mut Stream {
        let [low, high] = &mut self.streams;
        if side == 0 { low } else { high }
    }
}

impl Common {
    /// Whether all bits of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// The client's side, when known.
    #[inline(always)]
    pub fn client_side(&self) -> Option<u32> {
        match self.client {
            1 => Some(0),
            2 => Some(1),
            _ => None,
        }
    }

    /// Sets the client's side.
    #[inline(always)]
    pub fn set_client(&mut self, side: u32) {
        self.client = if side == 0 { 1 } else { 2 };
    }
}

impl Stream {
    /// Whether all bits of `flags` are set.
    #[inline(always)]
    pub fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Forgets the position in the stream.
    #[inline(always)]
    pub fn doubt(&mut self) {
        self.state = state::DOUBT;
        self.carry_len = 0;
        self.flags &= !stream_flag::OF_HEAD;
        self.flags |= stream_flag::UNPROVEN;
    }
}
