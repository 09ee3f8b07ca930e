//! What is local to this host: its addresses, and the interfaces that workloads are behind. Pure.
//!
//! From it come the role of an exchange (states.md) and the trust in a sender's cgroup. Where two observed
//! namespaces have the same interface number and disagree, the weaker answer counts: unknown, never wrong.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use sensor_core::{
    http::{Exchange, OwnerHint},
    state::Role,
};
use sensor_ebpf::abi::sample::Hook;

use super::netlink::record::{Address, Link};

/// How sure it is that a workload of this host is behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// No reason to think so.
    None,
    /// A veth into another namespace that carries no default route of ours: a pod, or a router namespace.
    Loose,
    /// Also enslaved to a bridge, or without an address but host routes: what container runtimes make.
    Strict,
}

/// One namespace's part.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamespaceView {
    addresses: HashSet<IpAddr>,
    interfaces: HashMap<u32, Workload>,
}

impl NamespaceView {
    /// Derives the view from what netlink told. `attached` are the interfaces that we see packets of.
    pub(crate) fn new<'a>(
        links: impl Iterator<Item = &'a Link>,
        addresses: &HashSet<Address>,
        default_routes: &HashSet<u32>,
        is_bridge: impl Fn(u32) -> bool,
    ) -> Self {
        let with_subnet: HashSet<u32> = addresses
            .iter()
            .filter(|address| address.global && address.prefix_len != host_prefix(address.ip))
            .map(|address| address.ifindex)
            .collect();
        let interfaces = links
            .map(|link| {
                let only_host_routes = !with_subnet.contains(&link.ifindex);
                let bridged = link.master.is_some_and(&is_bridge);
                let into_namespace = &*link.kind == "veth" && link.peer_elsewhere;
                let workload = match into_namespace && !default_routes.contains(&link.ifindex) {
                    false => Workload::None,
                    true if bridged || (link.master.is_none() && only_host_routes) => Workload::Strict,
                    true => Workload::Loose,
                };
                (link.ifindex, workload)
            })
            .collect();
        Self { addresses: addresses.iter().map(|address| address.ip).collect(), interfaces }
    }
}

const fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// All observed namespaces together.
#[derive(Clone, Debug, Default)]
pub struct LocalView {
    namespaces: Vec<NamespaceView>,
}

impl LocalView {
    pub(crate) fn new(namespaces: Vec<NamespaceView>) -> Self {
        Self { namespaces }
    }

    /// Whether an address is one of this host's own (in an observed namespace).
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.namespaces.iter().any(|view| view.addresses.contains(&address))
    }

    /// What is behind an interface, the weakest answer where numbers collide.
    #[must_use]
    pub fn workload(&self, ifindex: u32) -> Workload {
        let known = self.namespaces.iter().filter_map(|view| view.interfaces.get(&ifindex));
        known.min().copied().unwrap_or(Workload::None)
    }

    /// How sure it is that the server is behind an interface of this host: its response came in there, or the
    /// request went out there.
    #[must_use]
    pub fn server_behind(&self, request: &OwnerHint, response: &OwnerHint) -> Workload {
        let response = if came_in(response) { self.workload(response.ifindex) } else { Workload::None };
        let request = if went_out(request) { self.workload(request.ifindex) } else { Workload::None };
        response.max(request)
    }

    /// How sure it is that the client is behind an interface of this host.
    #[must_use]
    pub fn client_behind(&self, request: &OwnerHint, response: &OwnerHint) -> Workload {
        let request = if came_in(request) { self.workload(request.ifindex) } else { Workload::None };
        let response = if went_out(response) { self.workload(response.ifindex) } else { Workload::None };
        request.max(response)
    }

    /// The role of an exchange (states.md): own addresses are certain, a container's interface nearly so, and a
    /// veth into some other namespace decides only where nothing else does.
    #[must_use]
    pub fn role(&self, exchange: &Exchange) -> Role {
        let server = self.server_behind(&exchange.client_hint, &exchange.server_hint);
        let client = self.client_behind(&exchange.client_hint, &exchange.server_hint);
        if self.is_own(exchange.server.ip()) || server == Workload::Strict {
            Role::Server
        } else if self.is_own(exchange.client.ip()) {
            Role::Client
        } else if server == Workload::Loose {
            Role::Server
        } else if client == Workload::None {
            Role::Transit
        } else {
            Role::Client
        }
    }

    /// Whether the cgroup of a segment's sender is to be believed: the socket is ours (egress, with our own
    /// address), or the segment came straight out of a container.
    ///
    /// On any other path the kernel leaves the socket of a *remote* namespace, or of a proxy, on the packet.
    #[must_use]
    pub fn sender_is_trusted(&self, sender: IpAddr, hint: &OwnerHint) -> bool {
        (went_out(hint) && self.is_own(sender)) || (came_in(hint) && self.workload(hint.ifindex) == Workload::Strict)
    }
}

const fn came_in(hint: &OwnerHint) -> bool {
    hint.hook == Hook::Ingress as u8 || hint.hook == Hook::SocketIn as u8
}

const fn went_out(hint: &OwnerHint) -> bool {
    hint.hook == Hook::Egress as u8 || hint.hook == Hook::SocketOut as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(ifindex: u32, master: Option<u32>) -> Link {
        Link { ifindex, name: "veth".into(), arphrd: 1, master, kind: "veth".into(), peer_elsewhere: true }
    }

    fn address(ifindex: u32, address: [u8; 4], prefix_len: u8) -> Address {
        Address { ifindex, ip: address.into(), prefix_len, global: true }
    }

    fn view(links: &[Link], addresses: &[Address], default_routes: &[u32]) -> LocalView {
        let addresses = addresses.iter().copied().collect();
        let routes = default_routes.iter().copied().collect();
        LocalView::new(vec![NamespaceView::new(links.iter(), &addresses, &routes, |index| index == 9)])
    }

    fn hint(ifindex: u32, hook: Hook) -> OwnerHint {
        OwnerHint { cgroup_id: 1, ifindex, hook: hook as u8 }
    }

    #[test]
    fn a_veth_on_a_bridge_or_with_host_routes_only_is_strict() {
        let links = [veth(1, Some(9)), veth(2, None), veth(3, None), veth(4, None)];
        let addresses = [address(2, [169, 254, 1, 1], 32), address(3, [10, 0, 0, 1], 24)];
        let view = view(&links, &addresses, &[4]);
        assert_eq!([1, 2, 3, 4, 5].map(|index| view.workload(index)), {
            use Workload::{Loose, None, Strict};
            [Strict, Strict, Loose, None, None]
        });
    }

    #[test]
    fn a_sender_is_believed_at_our_egress_and_out_of_a_container_only() {
        let own = IpAddr::from([10, 0, 0, 1]);
        let other = IpAddr::from([10, 0, 0, 2]);
        let view = view(&[veth(1, Some(9)), veth(3, None)], &[address(3, [10, 0, 0, 1], 24)], &[]);
        assert!(view.sender_is_trusted(own, &hint(3, Hook::Egress)));
        assert!(!view.sender_is_trusted(other, &hint(3, Hook::Egress)));
        assert!(!view.sender_is_trusted(other, &hint(3, Hook::Ingress)));
        assert!(view.sender_is_trusted(other, &hint(1, Hook::Ingress)));
    }

    fn exchange(client: [u8; 4], server: [u8; 4], request: OwnerHint, response: OwnerHint) -> Exchange {
        Exchange {
            time: sensor_core::time::UnixNs(0),
            client: (client, 40_000).into(),
            server: (server, 80).into(),
            method: sensor_core::http::Method::Get,
            host: None,
            target: b"/".to_vec().into(),
            status: Some(200),
            latency_ns: None,
            request: sensor_core::http::RequestFacts::default(),
            response: sensor_core::http::ResponseFacts::default(),
            weight: 1,
            client_hint: request,
            server_hint: response,
        }
    }

    #[test]
    fn roles_follow_addresses_then_interfaces() {
        // 1: container on a bridge, 3: veth with a subnet, 5: the outside; 10.0.0.1 is ours.
        let view = view(&[veth(1, Some(9)), veth(3, None)], &[address(3, [10, 0, 0, 1], 24)], &[]);
        let role = |client, server, request, response| view.role(&exchange(client, server, request, response));
        let (ours, pod, far) = ([10, 0, 0, 1], [10, 9, 0, 2], [203, 0, 113, 9]);
        let (ingress, egress) = (Hook::Ingress, Hook::Egress);
        assert_eq!(role(far, ours, hint(5, ingress), hint(5, egress)), Role::Server);
        assert_eq!(role(ours, far, hint(5, egress), hint(5, ingress)), Role::Client);
        assert_eq!(role(far, pod, hint(5, ingress), hint(1, ingress)), Role::Server);
        assert_eq!(role(pod, far, hint(1, ingress), hint(5, ingress)), Role::Client);
        assert_eq!(role(ours, pod, hint(1, egress), hint(1, ingress)), Role::Server);
        assert_eq!(role(far, [10, 0, 0, 7], hint(5, ingress), hint(3, ingress)), Role::Server);
        assert_eq!(role(ours, [10, 0, 0, 7], hint(3, egress), hint(3, ingress)), Role::Client);
        assert_eq!(role(far, [203, 0, 113, 8], hint(5, ingress), hint(5, ingress)), Role::Transit);
    }

    #[test]
    fn colliding_interface_numbers_give_the_weaker_answer() {
        let mut view = view(&[veth(1, Some(9))], &[], &[]);
        view.namespaces.push(NamespaceView { interfaces: HashMap::from([(1, Workload::None)]), ..Default::default() });
        assert_eq!(view.workload(1), Workload::None);
        assert!(view.is_own(IpAddr::from([127, 0, 0, 5])));
    }
}
