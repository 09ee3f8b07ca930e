//! `detach --all`: removes what an agent left attached, in this namespace and all named ones.
//!
//! Removed are BPF filters with a sensor's handle and one of our names, TCX links whose program has one of our names, and everything that is
//! pinned in our folder of bpffs, the folder included. Qdiscs and everybody else's filters stay.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use serde::Serialize;
use zerocopy::IntoBytes;

use super::{
    namespace,
    netlink::{
        filter::{self, Filter, Handle},
        message::Request,
        record::{self, LinkHeader},
        socket::Socket,
    },
    object,
    pin::{self, Held},
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
    /// Folders of pins removed.
    pub pins: Vec<String>,
    /// What could not be looked at or removed.
    pub errors: Vec<String>,
}

/// What to remove.
#[derive(Clone, Copy, Debug)]
pub struct DetachScope<'a> {
    /// Our folder in bpffs.
    pub pin_folder: &'a Path,
    /// Only of this sensor of the host.
    pub instance: Option<&'a str>,
}

/// Prefix that all our programs' names have; the kernel keeps 15 characters of a name.
const PROGRAM_PREFIX: &str = "sensor_tc_";

/// Removes everything of ours. Needs CAP_NET_ADMIN, and CAP_SYS_ADMIN for other namespaces and others' links.
pub fn detach_all(scope: DetachScope<'_>) -> Detached {
    let mut done = Detached::default();
    detach_pinned(scope, &mut done);
    detach_namespace(&Namespace::Own, scope.instance, &mut done);
    for place in namespace::named() {
        detach_namespace(&place, scope.instance, &mut done);
    }
    if scope.instance.is_none() {
        detach_links(&mut done);
    }
    done
}

/// Links that a process holds without a pin.
fn detach_links(done: &mut Detached) {
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
}

/// Ends the pinned links, in whichever namespace they are, then removes the pins and their folders. Each folder is held while it is worked
/// in: it may be of somebody who would like root to remove something else.
fn detach_pinned(scope: DetachScope<'_>, done: &mut Detached) {
    let root = match Held::open(scope.pin_folder) {
        Ok(root) => root,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            done.errors.push(format!("{}: {error}", scope.pin_folder.display()));
            return;
        }
    };
    let wanted = |folder: &PathBuf| {
        scope.instance.is_none_or(|name| folder.file_name() == Some(name.as_ref()))
    };
    for instance in pin::folders(&root.path()).into_iter().filter(wanted) {
        let shown = scope.pin_folder.join(instance.file_name().unwrap_or_default());
        if let Err(error) = detach_instance(&instance, &shown, done) {
            done.errors.push(format!("{}: {error}", shown.display()));
        }
    }
    if pin::folders(&root.path()).is_empty() {
        // It is not there, or the next agent makes it again.
        drop(fs::remove_dir(scope.pin_folder));
    }
}

/// The same of one sensor; `shown` is its folder as a person knows it.
fn detach_instance(instance: &Path, shown: &Path, done: &mut Detached) -> io::Result<()> {
    let held = Held::open(instance)?;
    for layout in pin::folders(&held.path()) {
        let shown = shown.join(layout.file_name().unwrap_or_default());
        for path in pin::links_of(&layout) {
            match object::open(&path).and_then(|link| {
                let there = object::link(link.as_fd())?;
                object::link_detach(link.as_fd()).map(|()| there)
            }) {
                Ok(link) => {
                    done.links.push(format!("{} program {}", link.ifindex, link.program));
                }
                Err(error) => done.errors.push(format!("a link of {}: {error}", shown.display())),
            }
        }
        match pin::remove_layout(&layout) {
            Ok(()) => done.pins.push(shown.display().to_string()),
            Err(error) => done.errors.push(format!("{}: {error}", shown.display())),
        }
    }
    fs::remove_dir(instance)
}

/// Removes our filters of one network namespace.
pub fn detach_namespace(place: &Namespace, instance: Option<&str>, done: &mut Detached) {
    let handle = instance.map(Handle::of);
    let is_meant = |filter: &Filter| match handle {
        Some(handle) => filter.is_of(handle),
        None => filter.is_a_sensors(),
    };
    match namespace::within(place, || detach_filters(is_meant)) {
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
fn detach_filters(is_meant: impl Fn(&Filter) -> bool) -> io::Result<Found> {
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
            for filter in there.into_iter().filter(&is_meant) {
                match filter::remove_any(&mut socket, link.ifindex, hook, &filter) {
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
