//! Whether the host itself has completed the handshake of a packet's connection, and as what: asked of its sockets.
//!
//! A socket that still waits for the handshake's last segment (`TCP_NEW_SYN_RECV`), listens or is on its way out does not count: so a
//! forged address never does. `unsafe` here calls two helpers and reads one field of the socket between them.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_sk_release, bpf_skc_lookup_tcp},
};
use sensor_ebpf::{abi::sample::Hook, work::Work};

/// include/net/tcp_states.h: established, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT.
const OPEN_STATES: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;
/// `TCP_LISTEN`.
const LISTEN: u32 = 10;
/// The network namespace of the skb's device.
const CURRENT_NETNS: u64 = u64::MAX;
const TUPLE4_BYTES: u32 = 12;
const TUPLE6_BYTES: u32 = 36;

/// Whether a socket has the packet's connection.
#[inline(always)]
pub(crate) fn established(skb: *mut __sk_buff, work: &Work) -> bool {
    (OPEN_STATES >> (state(skb, work, 0) & 31)) & 1 != 0
}

/// Whether the packet's sender is the server: it goes out and a socket listens on its address and port, or it comes in for a connection that
/// the host made.
#[inline(always)]
pub(crate) fn serves(skb: *mut __sk_buff, work: &Work) -> bool {
    let listens = state(skb, work, 1) == LISTEN;
    if work.cursor.hook == Hook::Egress as u32 {
        return listens;
    }
    !listens && established(skb, work)
}

/// State of the socket of the packet in `work.headers`, or with `listener` of the one that listens for such; 0 when there is none.
#[inline(never)]
fn state(skb: *mut __sk_buff, work: &Work, listener: u32) -> u32 {
    let packet = &work.headers.tuple;
    let out = work.cursor.hook == Hook::Egress as u32;
    // The socket's far end comes first.
    let (far, near, far_port, near_port) = if out {
        (&packet.dst, &packet.src, packet.dst_port, packet.src_port)
    } else {
        (&packet.src, &packet.dst, packet.src_port, packet.dst_port)
    };
    // No connection has port 0 at its far end.
    let far_port = if listener == 0 { far_port } else { 0 };
    let ports = u32::from(far_port.to_be()) | u32::from(near_port.to_be()) << 16;
    let [far0, far1, far2, far3] = words(far);
    let [near0, near1, near2, near3] = words(near);
    let (mut tuple, bytes) = if work.headers.family == 4 {
        ([far3, near3, ports, 0, 0, 0, 0, 0, 0], TUPLE4_BYTES)
    } else {
        ([far0, far1, far2, far3, near0, near1, near2, near3, ports], TUPLE6_BYTES)
    };
    // SAFETY: the skb of this sighting, and a tuple of at least `bytes` bytes.
    let socket =
        unsafe { bpf_skc_lookup_tcp(skb.cast(), (&raw mut tuple).cast(), bytes, CURRENT_NETNS, 0) };
    if socket.is_null() {
        return 0;
    }
    // SAFETY: a socket that the helper returned and that is not released yet.
    let state = unsafe { (*socket).state };
    // SAFETY: as above; it is not used behind this line.
    unsafe { bpf_sk_release(socket.cast()) };
    state
}

/// An address as four words of network order.
#[inline(always)]
fn words(address: &[u8; 16]) -> [u32; 4] {
    let (words, _) = address.as_chunks::<4>();
    let word = |at: usize| words.get(at).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    [word(0), word(1), word(2), word(3)]
}
