//! Keeps one network namespace observed: interfaces come and go, each wanted one is attached at once.
//!
//! One thread per namespace. It reads rtnetlink events, attaches and lets go, and publishes two things: the
//! status of the interfaces and the namespace's part of what is local. Lost events cause a full re-read.
//! Bounds: [`INTERFACES_MAX`] attachments per namespace; status at most every [`PUBLISH_MS`].

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use zerocopy::IntoBytes;

use super::{
    attach::{AttachError, Attacher, Attachment, HookKind, Programs},
    caps, namespace,
    netlink::{
        message::Request,
        record::{self, Address, AddressHeader, Link, LinkHeader, RouteHeader},
        socket::{Events, Socket},
    },
    select::{Namespace, Selection},
    status::{InterfaceState, InterfaceStatus, Shared},
    sys::TcHook,
    view::NamespaceView,
};

/// Interfaces that are attached to in one namespace.
pub(crate) const INTERFACES_MAX: usize = 8192;
/// Packet sockets opened at start for `--hook socket`.
const SOCKETS: usize = 64;
/// How often everything is read again and our place in each chain is checked.
const RECHECK: Duration = Duration::from_secs(5);
/// Least time between two publications while events pour in.
const PUBLISH_MS: u64 = 50;
/// Reads of the event socket before attaching what they told.
const READS_PER_ROUND: usize = 64;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A running watch; dropping it detaches everything of its namespace.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// What a watch needs to start.
pub(crate) struct WatchConfig {
    pub(crate) namespace: Namespace,
    /// The namespace's place in [`Shared`].
    pub(crate) index: usize,
    pub(crate) selection: Arc<Selection>,
    pub(crate) hook: HookKind,
    pub(crate) programs: Arc<Programs>,
    pub(crate) shared: Arc<Shared>,
}

impl Watch {
    /// Starts the thread and returns once all interfaces that are there have been attached to.
    pub(crate) fn start(config: WatchConfig) -> io::Result<Self> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (ready, started) = mpsc::sync_channel(1);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("sensor-watch".into()).spawn(move || {
            let outcome = Worker::new(config);
            match outcome {
                Ok(mut worker) => {
                    if ready.send(Ok(())).is_ok() {
                        worker.run(&stopped);
                    }
                    worker.release();
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        })?;
        started
            .recv()
            .map_err(|_| io::Error::other("the interface watch ended at its start"))??;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.stop.write(1).is_err() {
            return;
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[derive(Debug)]
struct Attached {
    attachment: Attachment,
    status: InterfaceStatus,
}

struct Worker {
    config: WatchConfig,
    attacher: Attacher,
    netlink: Socket,
    events: Socket,
    links: HashMap<u32, Link>,
    addresses: HashSet<Address>,
    default_routes: HashSet<u32>,
    attached: HashMap<u32, Attached>,
    /// Wanted interfaces that could not be attached to, with the reason.
    failed: HashMap<u32, InterfaceStatus>,
    resyncs: u64,
    published: Instant,
}

impl Worker {
    fn new(config: WatchConfig) -> io::Result<Self> {
        namespace::enter(&config.namespace)?;
        let attacher = Attacher::new(Arc::clone(&config.programs), config.hook, SOCKETS)?;
        caps::give_up_start_only()?;
        let mut worker = Self {
            attacher,
            netlink: Socket::open()?,
            // Events before the first read, so that nothing falls between them.
            events: Socket::events()?,
            links: HashMap::new(),
            addresses: HashSet::new(),
            default_routes: HashSet::new(),
            attached: HashMap::new(),
            failed: HashMap::new(),
            resyncs: 0,
            published: Instant::now(),
            config,
        };
        worker.resync()?;
        worker.reconcile();
        worker.publish();
        Ok(worker)
    }

    fn run(&mut self, stop: &EventFd) {
        let mut dirty = false;
        let mut checked = Instant::now();
        loop {
            let wait = if dirty { Duration::from_millis(PUBLISH_MS) } else { RECHECK };
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted wait is as good as one that ended: then nothing is ready.
            let ready = poll(&mut fds, timeout).unwrap_or(0);
            if ready > 0 && fds[1].any().unwrap_or(false) {
                return;
            }
            dirty |= self.read_events();
            if checked.elapsed() >= RECHECK {
                checked = Instant::now();
                self.recheck();
                dirty = true;
            }
            if dirty {
                self.reconcile();
            }
            if dirty && self.published.elapsed() >= Duration::from_millis(PUBLISH_MS) {
                self.publish();
                dirty = false;
            }
        }
    }

    /// Reads what waits; `true` when something changed.
    fn read_events(&mut self) -> bool {
        let mut changes = Vec::new();
        for _ in 0..READS_PER_ROUND {
            let outcome = self.events.read_events(&mut |kind, payload| {
                changes.push((kind, payload.to_vec()));
            });
            match outcome {
                Ok(Events::Some) => {}
                Ok(Events::None) => break,
                Ok(Events::Lost) | Err(_) => {
                    self.resyncs += 1;
                    if let Err(error) = self.resync() {
                        tracing::warn!(%error, "interfaces could not be read again");
                    }
                    return true;
                }
            }
        }
        let mut routes_changed = false;
        for (kind, payload) in &changes {
            routes_changed |= self.apply(*kind, payload);
        }
        if routes_changed && let Err(error) = self.read_routes() {
            tracing::warn!(%error, "default routes could not be read");
        }
        !changes.is_empty()
    }

    /// Applies one event; `true` when default routes have to be read again.
    fn apply(&mut self, kind: u16, payload: &[u8]) -> bool {
        match kind {
            libc::RTM_NEWLINK if record::is_plain_link(payload) => {
                if let Some(link) = record::link(payload) {
                    self.links.insert(link.ifindex, link);
                }
            }
            libc::RTM_DELLINK if record::is_plain_link(payload) => {
                if let Some(link) = record::link(payload) {
                    self.links.remove(&link.ifindex);
                    self.addresses.retain(|address| address.ifindex != link.ifindex);
                }
            }
            libc::RTM_NEWADDR => self.addresses.extend(record::address(payload)),
            libc::RTM_DELADDR => {
                if let Some(address) = record::address(payload) {
                    self.addresses.remove(&address);
                }
            }
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
                return !record::default_route(payload).is_empty();
            }
            _ => {}
        }
        false
    }

    fn resync(&mut self) -> io::Result<()> {
        let link_header = LinkHeader::default();
        self.links = self.netlink.dump(
            || {
                Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP)
                    .push(link_header.as_bytes())
                    .attr(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
            },
            HashMap::new,
            |links, _, payload| {
                links.extend(record::link(payload).map(|link| (link.ifindex, link)));
            },
        )?;
        let address_header = AddressHeader::default();
        self.addresses = self.netlink.dump(
            || Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP).push(address_header.as_bytes()),
            HashSet::new,
            |addresses, _, payload| addresses.extend(record::address(payload)),
        )?;
        self.read_routes()
    }

    fn read_routes(&mut self) -> io::Result<()> {
        let header = RouteHeader::default();
        self.default_routes = self.netlink.dump(
            || Request::new(libc::RTM_GETROUTE, libc::NLM_F_DUMP).push(header.as_bytes()),
            HashSet::new,
            |routes, _, payload| routes.extend(record::default_route(payload)),
        )?;
        Ok(())
    }

    /// Attaches to what is wanted and lets go of what is gone or not wanted any more.
    fn reconcile(&mut self) {
        let wanted = |link: &Link| self.config.selection.wants(&self.config.namespace, &link.name);
        let gone: Vec<_> = self
            .attached
            .keys()
            .copied()
            .filter(|index| !self.links.get(index).is_some_and(wanted))
            .collect();
        let new: Vec<_> = self
            .links
            .values()
            .filter(|link| !self.attached.contains_key(&link.ifindex) && wanted(link))
            .filter(|link| !self.failed.contains_key(&link.ifindex))
            .cloned()
            .collect();
        self.failed.retain(|index, _| self.links.contains_key(index));
        for ifindex in gone {
            self.let_go(ifindex);
        }
        for link in new {
            self.attach(&link);
        }
    }

    fn attach(&mut self, link: &Link) {
        let mut status = InterfaceStatus::new(&self.config.namespace, link);
        if self.attached.len() >= INTERFACES_MAX {
            status.error = Some(format!("more than {INTERFACES_MAX} interfaces in this namespace"));
            self.failed.insert(link.ifindex, status);
            return;
        }
        // The programs skip the look for duplicates while there is one device: tell them before there are two.
        self.config.shared.hooks_add(2);
        match self.attacher.attach(link) {
            Ok(attachment) => {
                if attachment.hooks() == 1 {
                    self.config.shared.hooks_sub(1);
                }
                status.hook = Some(attachment.kind());
                self.look_at_chain(&mut status);
                self.attached.insert(link.ifindex, Attached { attachment, status });
            }
            Err(error) => {
                self.config.shared.hooks_sub(2);
                tracing::debug!(interface = &*link.name, %error, "not attached");
                if matches!(error, AttachError::LinkLayer(_)) {
                    status.state = InterfaceState::Unsupported;
                }
                status.error = Some(error.to_string());
                self.failed.insert(link.ifindex, status);
            }
        }
    }

    fn let_go(&mut self, ifindex: u32) {
        let Some(Attached { attachment, .. }) = self.attached.remove(&ifindex) else { return };
        self.config.shared.hooks_sub(attachment.hooks());
        if !self.links.contains_key(&ifindex) {
            self.attacher.vanished(attachment);
        } else if let Err(error) = self.attacher.detach(ifindex, attachment) {
            tracing::warn!(ifindex, %error, "could not detach");
        }
    }

    fn look_at_chain(&mut self, status: &mut InterfaceStatus) {
        let hook = status.hook.unwrap_or(HookKind::Auto);
        status.ingress = self.attacher.chain(status.ifindex, TcHook::Ingress, hook);
        status.egress = self.attacher.chain(status.ifindex, TcHook::Egress, hook);
        status.judge();
    }

    /// Reads everything again, tries failed interfaces again, and checks that we are where we think we are.
    fn recheck(&mut self) {
        if let Err(error) = self.resync() {
            tracing::warn!(%error, "interfaces could not be read again");
        }
        self.failed.clear();
        let mut lost = Vec::new();
        let mut attached = std::mem::take(&mut self.attached);
        for (ifindex, entry) in &mut attached {
            self.look_at_chain(&mut entry.status);
            // A filter vanishes with a qdisc that another tool deletes: put it back. A TCX link is only ever
            // detached from outside on purpose (`detach --all`): leave it, the status says so.
            let hooks = [&entry.status.ingress, &entry.status.egress];
            let missing =
                hooks.iter().any(|chain| chain.as_ref().is_some_and(|chain| !chain.attached));
            if missing && entry.status.hook == Some(HookKind::Clsact) {
                lost.push(*ifindex);
            }
        }
        self.attached = attached;
        for ifindex in lost {
            if let Some(entry) = self.attached.remove(&ifindex) {
                self.config.shared.hooks_sub(entry.attachment.hooks());
            }
        }
    }

    fn publish(&mut self) {
        self.published = Instant::now();
        let bridges = |index| {
            self.links
                .get(&index)
                .is_some_and(|link| matches!(&*link.kind, "bridge" | "openvswitch"))
        };
        let view =
            NamespaceView::new(self.links.values(), &self.addresses, &self.default_routes, bridges);
        let mut interfaces: Vec<_> =
            self.attached.values().map(|entry| entry.status.clone()).collect();
        interfaces.extend(self.failed.values().cloned());
        for name in self.config.selection.literal_names(&self.config.namespace) {
            if !self.links.values().any(|link| *link.name == *name) {
                interfaces.push(InterfaceStatus::missing(&self.config.namespace, name));
            }
        }
        interfaces.sort_by_key(|interface| interface.ifindex);
        self.config.shared.publish(self.config.index, view, interfaces, self.resyncs);
    }

    /// Detaches everything: `clsact` filters too, when the agent ends in order.
    fn release(&mut self) {
        let indices: Vec<_> = self.attached.keys().copied().collect();
        for ifindex in indices {
            self.let_go(ifindex);
        }
        self.publish();
    }
}
