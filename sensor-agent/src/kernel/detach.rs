//! `detach --all`: removes what an agent left attached, in this namespace and all named ones.
//!
//! Removed are BPF filters with our handle and one of our names, and TCX links whose program has one of our
//! names (of a process that still runs: they end with it otherwise). Qdiscs and everybody else's filters stay.

use std::io;

use serde::Serialize;
use zerocopy::IntoBytes;

use super::{
    namespace,
    netlink::{
        filter,
        message::Request,
        record::{self, LinkHeader},
        socket::Socket,
    },
    select::Namespace,
    sys::{self, TcHook},
};
use nix::libc;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detached {
    /// Filters removed, as `namespace interface priority name`.
    pub filters: Vec<String>,
    /// TCX links detached, as `interface number program`.
    pub links: Vec<String>,
    /// What could not be looked at or removed.
    pub errors: Vec<String>,
}

/// Prefix that all our programs' names have; the kernel keeps 15 characters of a name.
const PROGRAM_PREFIX: &str = "sensor_tc_";

/// Removes everything of ours. Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN for other namespaces and others' links.
pub fn detach_all() -> Detached {
    let mut done = Detached::default();
    detach_namespace(&Namespace::Own, &mut done);
    for place in namespace::named() {
        detach_namespace(&place, &mut done);
    }
    match sys::tcx_links() {
        Ok(links) => {
            for link in links.into_iter().filter(|link| link.program.starts_with(PROGRAM_PREFIX)) {
                match sys::link_detach(link.id) {
                    Ok(()) => done.links.push(format!("{} {}", link.ifindex, link.program)),
                    Err(error) => done.errors.push(format!("detach TCX link {}: {error}", link.id)),
                }
            }
        }
        Err(error) => done.errors.push(format!("list BPF links: {error}")),
    }
    done
}

/// Removes our filters of one network namespace.
pub fn detach_namespace(place: &Namespace, done: &mut Detached) {
    match namespace::within(place, detach_filters) {
        Ok(found) => {
            done.filters
                .extend(found.removed.into_iter().map(|filter| format!("{place} {filter}")));
            done.errors.extend(found.errors);
        }
        Err(error) => done.errors.push(format!("network namespace {place}: {error}")),
    }
}

#[derive(Default)]
struct Found {
    removed: Vec<String>,
    errors: Vec<String>,
}

/// Removes our filters in the calling thread's namespace.
fn detach_filters() -> io::Result<Found> {
    let mut socket = Socket::open()?;
    let header = LinkHeader::default();
    let links = socket.dump(
        || Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP).push(header.as_bytes()),
        Vec::new,
        |links, _, payload| links.extend(record::link(payload)),
    )?;
    let mut found = Found::default();
    for link in links {
        for hook in TcHook::ALL {
            let there = filter::filters(&mut socket, link.ifindex, hook)?;
            for filter in there.into_iter().filter(filter::Filter::is_ours) {
                match filter::remove(&mut socket, link.ifindex, hook, filter.priority) {
                    Ok(()) => found
                        .removed
                        .push(format!("{} {} {}", link.name, filter.priority, filter.name)),
                    Err(error) => {
                        found.errors.push(format!("{} {}: {error}", link.name, filter.name));
                    }
                }
            }
        }
    }
    Ok(found)
}
