//! Socket filter on an AF_PACKET socket: the observe-only hook. It keeps 0 bytes, so nothing is copied to the socket.

use aya_ebpf::{macros::socket_filter, programs::SkBuffContext};
use sensor_ebpf::{abi::sample::Hook, judge::judge, packet::Link};

use crate::{
    context::Skb,
    kernel::{Kernel, work},
};

const PACKET_OUTGOING: u32 = 4;
const KEEP_NOTHING: i64 = 0;

#[socket_filter]
pub(crate) fn sensor_socket_eth(ctx: SkBuffContext) -> i64 {
    let skb = Skb::<false>::new(ctx.skb.skb);
    let hook = if skb.pkt_type() == PACKET_OUTGOING { Hook::SocketOut } else { Hook::SocketIn };
    if let Some(work) = work()
        && let Some(tables) = Kernel::new(skb, hook, work)
    {
        let _observed = judge(Link::Ethernet, &skb, &tables, work);
    }
    KEEP_NOTHING
}
