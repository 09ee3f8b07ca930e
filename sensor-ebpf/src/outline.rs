//! Stages as global functions: the verifier checks each once, for any arguments, instead of once for each path that leads to it.
//!
//! A global function takes the context, pointers to sized memory and scalars, and returns a scalar; pointers may be null for
//! all the verifier knows. Linux 6.1 does not take such memory as a map key, so the scratch is looked up again; it is an argument
//! all the same, so that the compiler knows that the callee uses it. `unsafe` here turns those pointers into references after that check.

use aya_ebpf::bindings::__sk_buff;
use sensor_ebpf::{
    abi::image::ListId,
    judge,
    packet::{Link, Outcome},
    tracker::{self, Common, Flow},
    verdict::{self, End},
    work::Work,
};

use crate::{
    context::Skb,
    globals::enforcing,
    kernel::{self, Kernel},
    reset,
};

macro_rules! stages {
    ($direct:literal, $decide:ident, $requests:ident, $swift:ident, $observe:ident, $payload:ident) => {
        /// The decision, as `Decision::to_word`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $decide(
            skb: *mut __sk_buff,
            given: *mut Work,
            outcome: u32,
        ) -> u32 {
            if given.is_null() {
                return 0;
            }
            let Some(work) = kernel::work() else { return 0 };
            let skb = Skb::<$direct>::new(skb);
            let Some(tables) = Kernel::resume(skb) else { return 0 };
            let outcome = if outcome == Outcome::Tcp as u32 {
                Outcome::Tcp
            } else if outcome == Outcome::Udp as u32 {
                Outcome::Udp
            } else if outcome == Outcome::LaterFragment as u32 {
                Outcome::LaterFragment
            } else {
                Outcome::ExtensionLimit
            };
            verdict::decide(outcome, &skb, &tables, work).to_word()
        }

        /// The decision by the request heads that were found, as `Decision::to_word`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $requests(skb: *mut __sk_buff, given: *mut Work) -> u32 {
            if given.is_null() {
                return 0;
            }
            let Some(work) = kernel::work() else { return 0 };
            let Some(tables) = Kernel::resume(Skb::<$direct>::new(skb)) else { return 0 };
            verdict::charge_requests(&tables, work).to_word()
        }

        /// The bucket of a common TCP segment, or `UNFIT`.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $swift(skb: *mut __sk_buff, given: *mut Work) -> u32 {
            if given.is_null() {
                return judge::UNFIT;
            }
            let Some(work) = kernel::work() else { return judge::UNFIT };
            let skb = Skb::<$direct>::new(skb);
            let Some(tables) = Kernel::resume(skb) else { return judge::UNFIT };
            judge::swift(&skb, &tables, work)
        }

        /// The bucket of a TCP segment.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $observe(skb: *mut __sk_buff, given: *mut Work) -> u32 {
            if given.is_null() {
                return 0;
            }
            let Some(work) = kernel::work() else { return 0 };
            let skb = Skb::<$direct>::new(skb);
            let Some(tables) = Kernel::resume(skb) else { return 0 };
            judge::observe(&skb, &tables, work)
        }

        /// The bucket of a segment with payload.
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub(crate) extern "C" fn $payload(
            skb: *mut __sk_buff,
            given: *mut Work,
            flow: *mut Flow,
        ) -> u32 {
            if given.is_null() {
                return 0;
            }
            let Some(work) = kernel::work() else { return 0 };
            // SAFETY: null is checked; otherwise the flow entry.
            let Some(flow) = (unsafe { flow.as_mut() }) else { return 0 };
            let skb = Skb::<$direct>::new(skb);
            let Some(tables) = Kernel::resume(skb) else { return 0 };
            judge::read_payload(&skb, &tables, work, flow)
        }
    };
}

stages!(true, sensor_decide, sensor_requests, sensor_swift, sensor_observe, sensor_payload);
stages!(
    false,
    sensor_decide_socket,
    sensor_requests_socket,
    sensor_swift_socket,
    sensor_observe_socket,
    sensor_payload_socket
);

/// What the window holds at the cursor, as `Detect::to_word`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_detect(work: *const Work, common: *const Common) -> u32 {
    // SAFETY: null is checked; otherwise the caller's scratch.
    let Some(work) = (unsafe { work.as_ref() }) else { return 0 };
    // SAFETY: null is checked; otherwise part of the flow entry.
    let Some(common) = (unsafe { common.as_ref() }) else { return 0 };
    tracker::detect(work, common).to_word()
}

/// What the TC hook returns for a segment that a `reset` rule hit: 1 go on (it is a RST now), 0 drop.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_reset(skb: *mut __sk_buff, given: *mut Work, link: u32) -> u32 {
    if given.is_null() || !enforcing() {
        return 0;
    }
    let Some(work) = kernel::work() else { return 0 };
    let link = if link == Link::RawIp as u32 { Link::RawIp } else { Link::Ethernet };
    let skb = Skb::<true>::new(skb);
    let Some(tables) = Kernel::resume(skb) else { return 0 };
    u32::from(reset::answer(link, skb, &tables, work))
}

/// 1 when a block entry may name the destination of an IPv4 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_concerns4(given: *mut Work) -> u32 {
    if given.is_null() {
        return 0;
    }
    let Some(work) = kernel::work() else { return 0 };
    let Some(tables) = Kernel::resume(Skb::<true>::new(core::ptr::null_mut())) else { return 0 };
    u32::from(verdict::concerns4(&tables, work))
}

/// 1 when a block entry may name an end of an IPv6 packet in one of whose first anchors one may be.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_concerns6(ends: u32, given: *mut Work) -> u32 {
    if given.is_null() {
        return 0;
    }
    let Some(work) = kernel::work() else { return 0 };
    let Some(tables) = Kernel::resume(Skb::<true>::new(core::ptr::null_mut())) else { return 0 };
    u32::from(verdict::concerns6(ends, &tables, work))
}

/// 1 when an entry of the list (`ListId`) may cover the address of the end (`End`).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_begin(given: *mut Work, list: u32, end: u32) -> u32 {
    if given.is_null() {
        return 0;
    }
    let Some(work) = kernel::work() else { return 0 };
    let Some(tables) = Kernel::resume(Skb::<true>::new(core::ptr::null_mut())) else { return 0 };
    let end = if end == End::Source as u32 { End::Source } else { End::Destination };
    u32::from(verdict::begin(list_of(list), end, &tables, work))
}

/// 0 when no length is left to be probed; else `work.search.pending` is what the probe found.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn sensor_probe(given: *mut Work, list: u32) -> u32 {
    if given.is_null() {
        return 0;
    }
    let Some(work) = kernel::work() else { return 0 };
    let Some(tables) = Kernel::resume(Skb::<true>::new(core::ptr::null_mut())) else { return 0 };
    u32::from(verdict::next_entry(list_of(list), &tables, work).is_continue())
}

#[inline(always)]
fn list_of(number: u32) -> ListId {
    if number == ListId::Block as u32 {
        ListId::Block
    } else if number == ListId::Allow as u32 {
        ListId::Allow
    } else {
        ListId::Limit
    }
}
