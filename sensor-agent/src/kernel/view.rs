//! What netlink tells of a namespace to what the core wants to know: own addresses, and what is behind an interface. Pure.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use sensor_core::locality::{LocalAddresses, Workload};

use super::netlink::record::{Address, Link};

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
                    true if bridged || (link.master.is_none() && only_host_routes) => {
                        Workload::Strict
                    }
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

/// All observed namespaces together, as the core wants them.
pub(crate) fn merge<'a>(
    namespaces: impl Iterator<Item = &'a NamespaceView> + Clone,
) -> LocalAddresses {
    let addresses = namespaces.clone().flat_map(|view| view.addresses.iter().copied());
    let interfaces = namespaces
        .flat_map(|view| view.interfaces.iter().map(|(index, workload)| (*index, *workload)));
    LocalAddresses::new(addresses, []).with_interfaces(interfaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(ifindex: u32, master: Option<u32>) -> Link {
        Link {
            ifindex,
            name: "veth".into(),
            arphrd: 1,
            master,
            kind: "veth".into(),
            peer_elsewhere: true,
        }
    }

    fn address(ifindex: u32, address: [u8; 4], prefix_len: u8) -> Address {
        Address { ifindex, ip: address.into(), prefix_len, global: true }
    }

    #[test]
    fn a_veth_on_a_bridge_or_with_host_routes_only_is_strict() {
        let links = [veth(1, Some(9)), veth(2, None), veth(3, None), veth(4, None)];
        let addresses =
            [address(2, [169, 254, 1, 1], 32), address(3, [10, 0, 0, 1], 24)].into_iter().collect();
        let routes = [4].into_iter().collect();
        let view = NamespaceView::new(links.iter(), &addresses, &routes, |index| index == 9);
        let local = merge([&view].into_iter());
        assert_eq!([1, 2, 3, 4, 5].map(|index| local.workload(index)), {
            use Workload::{Loose, None, Strict};
            [Strict, Strict, Loose, None, None]
        });
        assert!(local.is_own([10, 0, 0, 1].into()) && !local.is_own([10, 0, 0, 2].into()));
    }
}
