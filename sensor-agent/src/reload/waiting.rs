//! A policy in force to the sockets of local servers whose client a `reset` rule names and that only wait.
//!
//! A packet of either end is answered by the kernel; a connection without packets is ended here. Asked is the image that the
//! kernel has, so allow rules, failsafe, percentages and times hold here too; only rules of one interface do not apply, because a socket
//! has none. Servers in other namespaces are not reached: their next packet is.

use std::net::{IpAddr, SocketAddr};

use sensor_core::policy::image::{Decided, PolicyImage, Sighting, Verdicts, View, explain};
use sensor_ebpf::abi::{
    image::{Action, Line},
    policy::RuleDirection,
};

use crate::kernel::{self, Kernel};

const PROTO_TCP: u8 = 6;

/// Ends what the image names.
pub(super) fn end(image: &PolicyImage, kernel: &Kernel) {
    let Some(view) = View::new(image.lines.as_slice()) else { return };
    let resets = |number| view.rule(number).is_some_and(|rule| rule.action == Action::Reset as u8);
    if !(0..view.header.rules_count).any(resets) {
        return;
    }
    let now_ns = kernel::now().0;
    let shared = kernel.shared_sources();
    let is_shared = |address: SocketAddr| {
        shared.iter().any(|(source, until)| *until > now_ns && *source == mapped(address.ip()))
    };
    let ended = kernel.end_sockets(|local, remote| {
        is_reset(&view, now_ns, (local, is_shared(local)), (remote, is_shared(remote)))
    });
    if ended.ended > 0 || ended.refused > 0 {
        tracing::info!(
            ended = ended.ended,
            refused = ended.refused,
            "connections of clients that a reset rule names were ended"
        );
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Whether a packet of this connection, either way, would be answered by a reset.
fn is_reset(
    view: &View<'_, [Line]>,
    now_ns: u64,
    local: (SocketAddr, bool),
    remote: (SocketAddr, bool),
) -> bool {
    let ways = [(remote, local, RuleDirection::Ingress), (local, remote, RuleDirection::Egress)];
    ways.into_iter().any(|((src, src_shared), (dst, dst_shared), direction)| {
        let packet = Sighting {
            src: src.ip(),
            dst: dst.ip(),
            ports: Some((src.port(), dst.port())),
            protocol: PROTO_TCP,
            direction,
            ifindex: None,
            now_ns,
            shared: (src_shared, dst_shared),
            verdicts: Verdicts::default(),
        };
        matches!(explain(view, &packet).decided, Decided::Blocked { reset: true, .. })
    })
}
