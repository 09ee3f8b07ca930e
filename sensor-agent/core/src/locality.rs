//! Which addresses are this host's or its workloads', and whom a packet's sender may be taken for.
//!
//! From it come the role of an exchange (states.md) and the trust in a sender's cgroup. Addresses are certain; an
//! interface that a workload is behind is nearly so ([`Workload`]); all else is unknown, never wrong. Bound: at most
//! [`WORKLOADS_MAX`] addresses are learned to be workloads'.

use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use sensor_ebpf::abi::sample::Hook;

use crate::{
    http::{Exchange, OwnerHint},
    state::Role,
};

/// Addresses of servers behind a workload's interface that are remembered.
pub const WORKLOADS_MAX: usize = 8192;

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

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// An address of this host itself.
    Own,
    /// A workload's on this host.
    Workload,
    /// Not known to be here.
    Elsewhere,
}

/// Addresses that count as local. The shell keeps it current from the network interfaces.
#[derive(Clone, Debug)]
pub enum Locality {
    /// Every server is taken for local: a capture does not say where it was taken.
    Everything,
    /// What was found on this host.
    Host(LocalAddresses),
}

/// Addresses of this host and of workloads on it, and the interfaces that workloads are behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses {
    addresses: HashSet<u128, RandomState>,
    prefixes: Vec<IpNet>,
    interfaces: HashMap<u32, Workload, RandomState>,
    /// Servers that answered from behind a workload's interface.
    learned: HashSet<u128, RandomState>,
}

impl LocalAddresses {
    /// Makes a set of single addresses and prefixes of workloads (pods); IPv4-mapped addresses are IPv4.
    #[must_use]
    pub fn new(
        addresses: impl IntoIterator<Item = IpAddr>,
        prefixes: impl IntoIterator<Item = IpNet>,
    ) -> Self {
        Self {
            addresses: addresses.into_iter().map(number).collect(),
            prefixes: prefixes.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds what is behind interfaces, by number. Where a number comes twice (two namespaces), the weaker answer counts.
    #[must_use]
    pub fn with_interfaces(
        mut self,
        interfaces: impl IntoIterator<Item = (u32, Workload)>,
    ) -> Self {
        for (ifindex, workload) in interfaces {
            let known = self.interfaces.entry(ifindex).or_insert(workload);
            *known = workload.min(*known);
        }
        self
    }

    /// Whether an address is on this host.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_own(address) || self.learned.contains(&number(address))
    }

    /// Whether an address is known to be on this host without having seen traffic.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        if self.addresses.contains(&number(address)) {
            return true;
        }
        let address = address.to_canonical();
        address.is_loopback() || self.prefixes.iter().any(|prefix| prefix.contains(&address))
    }

    /// What is behind an interface.
    #[must_use]
    pub fn workload(&self, ifindex: u32) -> Workload {
        self.interfaces.get(&ifindex).copied().unwrap_or(Workload::None)
    }

    /// How sure it is that the sender of one segment and the receiver of the other are behind an interface of this
    /// host: the one came in there, or the other went out there.
    fn behind(&self, from: &OwnerHint, to: &OwnerHint) -> Workload {
        let from = if came_in(from) { self.workload(from.ifindex) } else { Workload::None };
        let to = if went_out(to) { self.workload(to.ifindex) } else { Workload::None };
        from.max(to)
    }

    /// The role of an exchange (states.md): own addresses are certain, a container's interface nearly so, and a veth
    /// into some other namespace decides only where nothing else does.
    #[must_use]
    pub fn role(&self, exchange: &Exchange) -> Role {
        let ours = self.is_own(exchange.server.ip());
        self.role_with(exchange, ours, || self.is_own(exchange.client.ip()))
    }

    /// As [`LocalAddresses::role`], for whoever knows already which ends are this host's own.
    fn role_with(
        &self,
        exchange: &Exchange,
        server_is_own: bool,
        client_is_own: impl FnOnce() -> bool,
    ) -> Role {
        if server_is_own {
            return Role::Server;
        }
        let server = self.behind(&exchange.server_hint, &exchange.client_hint);
        if server == Workload::Strict {
            Role::Server
        } else if client_is_own() {
            Role::Client
        } else if server == Workload::Loose {
            Role::Server
        } else if self.behind(&exchange.client_hint, &exchange.server_hint) == Workload::None {
            Role::Transit
        } else {
            Role::Client
        }
    }

    /// Whether the cgroup of a segment's sender is to be believed: the socket is ours (egress, with our own
    /// address), or the segment came straight out of a container. On any other path the kernel leaves the socket of
    /// a remote namespace, or of a proxy, on the packet.
    #[must_use]
    pub fn sender_is_trusted(&self, sender: IpAddr, hint: &OwnerHint) -> bool {
        self.is_trusted(hint, || self.is_own(sender))
    }

    fn is_trusted(&self, hint: &OwnerHint, sender_is_own: impl FnOnce() -> bool) -> bool {
        (went_out(hint) && sender_is_own())
            || (came_in(hint) && self.workload(hint.ifindex) == Workload::Strict)
    }

    fn learn(&mut self, address: IpAddr) {
        if self.learned.len() < WORKLOADS_MAX {
            self.learned.insert(number(address));
        }
    }
}

impl Locality {
    /// Whether a listener at this address is on this host.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        match self {
            Self::Everything => true,
            Self::Host(local) => local.contains(address),
        }
    }

    /// How near an address is; a capture does not say.
    #[must_use]
    pub fn nearness(&self, address: IpAddr) -> Nearness {
        match self {
            Self::Host(local) if local.addresses.contains(&number(address)) => Nearness::Own,
            Self::Host(local) if local.contains(address) => Nearness::Workload,
            Self::Host(_) | Self::Everything => Nearness::Elsewhere,
        }
    }

    /// The role of an exchange; its senders' cgroups are taken out where they are not to be believed, and a server
    /// behind a workload's interface is remembered as local.
    pub fn place(&mut self, exchange: &mut Exchange) -> Role {
        let Self::Host(local) = self else { return Role::Server };
        let server_is_own = local.is_own(exchange.server.ip());
        let client = exchange.client.ip();
        let role = local.role_with(exchange, server_is_own, || local.is_own(client));
        if role == Role::Server && !server_is_own {
            local.learn(exchange.server.ip());
        }
        // An id that is not there needs no look-up.
        let from_client = &mut exchange.client_hint;
        if from_client.cgroup_id != 0 && !local.sender_is_trusted(client, from_client) {
            from_client.cgroup_id = 0;
        }
        let from_server = &mut exchange.server_hint;
        if from_server.cgroup_id != 0 && !local.is_trusted(from_server, || server_is_own) {
            from_server.cgroup_id = 0;
        }
        role
    }

    /// Puts another set in force; what was learned from traffic stays.
    pub fn replace(&mut self, new: Self) {
        let old = std::mem::replace(self, new);
        if let (Self::Host(old), Self::Host(new)) = (old, self) {
            new.learned = old.learned;
        }
    }
}

/// An address as one number, IPv4 as its mapped form: hashed in one step, and the same for both writings.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
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

    fn local() -> LocalAddresses {
        LocalAddresses::new(
            ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8::1"]
                .map(|text| text.parse().expect("an address")),
            ["10.244.0.0/24".parse().expect("a prefix")],
        )
    }

    #[test]
    fn own_addresses_workloads_and_loopback_are_local() {
        for address in [
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "10.0.0.2",
            "2001:db8::1",
            "10.244.0.7",
            "127.0.0.5",
            "::1",
        ] {
            assert!(local().contains(address.parse().expect("an address")), "{address}");
        }
        for address in ["10.0.0.3", "10.244.1.7", "2001:db8::2"] {
            assert!(!local().contains(address.parse().expect("an address")), "{address}");
        }
    }

    /// 1: container on a bridge, 3: veth with a subnet, 5: the outside; 10.0.0.1 is ours.
    fn node() -> LocalAddresses {
        let own = [IpAddr::from([10, 0, 0, 1])];
        LocalAddresses::new(own, []).with_interfaces([
            (1, Workload::Strict),
            (3, Workload::Loose),
            (5, Workload::None),
        ])
    }

    fn hint(ifindex: u32, hook: Hook) -> OwnerHint {
        OwnerHint { cgroup_id: 1, ifindex, hook: hook as u8, ..OwnerHint::default() }
    }

    fn exchange(
        client: [u8; 4],
        server: [u8; 4],
        request: OwnerHint,
        response: OwnerHint,
    ) -> Exchange {
        Exchange {
            time: crate::time::UnixNs(0),
            client: (client, 40_000).into(),
            server: (server, 80).into(),
            method: crate::http::Method::Get,
            host: None,
            target: b"/".to_vec().into(),
            status: Some(200),
            latency_ns: None,
            request: crate::http::RequestFacts::default(),
            response: crate::http::ResponseFacts::default(),
            weight: 1,
            client_hint: request,
            server_hint: response,
        }
    }

    const OURS: [u8; 4] = [10, 0, 0, 1];
    const POD: [u8; 4] = [10, 9, 0, 2];
    const FAR: [u8; 4] = [203, 0, 113, 9];

    #[test]
    fn roles_follow_addresses_then_interfaces() {
        let role = |client, server, request, response| {
            node().role(&exchange(client, server, request, response))
        };
        let (ingress, egress) = (Hook::Ingress, Hook::Egress);
        assert_eq!(role(FAR, OURS, hint(5, ingress), hint(5, egress)), Role::Server);
        assert_eq!(role(OURS, FAR, hint(5, egress), hint(5, ingress)), Role::Client);
        assert_eq!(role(FAR, POD, hint(5, ingress), hint(1, ingress)), Role::Server);
        assert_eq!(role(POD, FAR, hint(1, ingress), hint(5, ingress)), Role::Client);
        assert_eq!(role(OURS, POD, hint(1, egress), hint(1, ingress)), Role::Server);
        assert_eq!(role(FAR, [10, 0, 0, 7], hint(5, ingress), hint(3, ingress)), Role::Server);
        assert_eq!(role(OURS, [10, 0, 0, 7], hint(3, egress), hint(3, ingress)), Role::Client);
        assert_eq!(role(FAR, [203, 0, 113, 8], hint(5, ingress), hint(5, ingress)), Role::Transit);
    }

    #[test]
    fn a_sender_is_believed_at_our_egress_and_out_of_a_container_only() {
        let believed = |sender: [u8; 4], hint| node().sender_is_trusted(sender.into(), &hint);
        assert!(believed(OURS, hint(3, Hook::Egress)));
        assert!(!believed(POD, hint(3, Hook::Egress)));
        assert!(!believed(POD, hint(3, Hook::Ingress)));
        assert!(believed(POD, hint(1, Hook::Ingress)));
        let mut from_afar = exchange(FAR, OURS, hint(3, Hook::Ingress), hint(3, Hook::Egress));
        assert_eq!(Locality::Host(node()).place(&mut from_afar), Role::Server);
        assert_eq!((from_afar.client_hint.cgroup_id, from_afar.server_hint.cgroup_id), (0, 1));
    }

    #[test]
    fn a_server_behind_a_workloads_interface_is_local_from_then_on() {
        let mut locality = Locality::Host(node());
        assert!(!locality.is_local(POD.into()));
        locality.place(&mut exchange(FAR, POD, hint(5, Hook::Ingress), hint(1, Hook::Ingress)));
        assert!(locality.is_local(POD.into()));
        locality.replace(Locality::Host(node()));
        assert!(locality.is_local(POD.into()));
        // Learned addresses are not trusted as the host's own.
        let Locality::Host(local) = locality else { panic!("it was replaced by a host") };
        assert!(!local.is_own(POD.into()));
    }

    #[test]
    fn colliding_interface_numbers_give_the_weaker_answer() {
        assert_eq!(node().with_interfaces([(1, Workload::None)]).workload(1), Workload::None);
    }
}
