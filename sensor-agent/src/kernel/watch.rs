//! Keeps one network namespace observed: interfaces come and go, each wanted one is attached at once.
//!
//! One thread per namespace. It reads rtnetlink events, attaches and lets go, and publishes two things: the
//! status of the interfaces and the namespace's part of what is local. Nothing is attached before [`Watch::attach`]. Lost events cause a
//! full re-read. Bounds: [`INTERFACES_MAX`] attachments per namespace; status at most every [`PUBLISH_MS`]; [`FRONTED_MAX`] times an
//! hour an interface's program is put in front of others again.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
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
    attach::{AttachError, Attacher, Attachment, HookKind, LinkLayer, Programs},
    caps,
    load::{Copies, Mode},
    namespace,
    netlink::{
        filter::Handle,
        message::Request,
        record::{self, Address, AddressHeader, Link, LinkHeader, RouteHeader},
        socket::{Events, Socket},
    },
    pin::LinkPins,
    select::{Namespace, Selection},
    sockets::Sockets,
    status::{InterfaceState, InterfaceStatus, Shared, WatchCounts},
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
/// Somebody else must stand in front of us at so many looks before we go in front again.
const LOOKS_BEHIND: u32 = 2;
/// Times per hour that we go in front of others at one interface: two tools that both want to be first must not fight for ever.
const FRONTED_MAX: u32 = 3;
const FRONTED_SPAN: Duration = Duration::from_hours(1);
/// Pins are compared with what is attached in every so many looks.
const SWEEP_EVERY: u32 = 12;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

/// A running watch; dropping it ends it, and detaches everything of its namespace that is not pinned.
#[derive(Debug)]
pub(crate) struct Watch {
    orders: Arc<Orders>,
    done: Receiver<()>,
    /// Namespace of the watch as links are named by it.
    pub(crate) space: Option<u64>,
    thread: Option<JoinHandle<()>>,
    sockets: Option<Sockets>,
}

/// What a watch needs to start.
pub(crate) struct WatchConfig {
    pub(crate) namespace: Namespace,
    /// The namespace's place in [`Shared`].
    pub(crate) index: usize,
    pub(crate) selection: Arc<Selection>,
    pub(crate) hook: HookKind,
    pub(crate) mode: Mode,
    pub(crate) handle: Handle,
    /// Folder of pinned links.
    pub(crate) links: Option<PathBuf>,
    pub(crate) programs: Arc<Programs>,
    pub(crate) copies: Arc<Copies>,
    pub(crate) shared: Arc<Shared>,
}

/// What the thread is asked to do, as bits.
#[derive(Debug)]
struct Orders {
    wake: EventFd,
    bits: AtomicU32,
}

const STOP: u32 = 1;
/// Attach to everything that is wanted, beside what an earlier agent left.
const ATTACH_BESIDE: u32 = 1 << 1;
/// The same, in the place of it.
const ATTACH: u32 = 1 << 2;
/// Remove what an earlier agent left.
const RETIRE: u32 = 1 << 3;

impl Orders {
    fn give(&self, order: u32) -> bool {
        self.bits.fetch_or(order, Ordering::AcqRel);
        self.wake.write(1).is_ok()
    }

    fn take(&self) -> u32 {
        // Nothing to read is as good as read.
        let _empty = self.wake.read();
        self.bits.swap(0, Ordering::AcqRel)
    }
}

impl Watch {
    /// Starts the thread and returns once the namespace's interfaces are known.
    pub(crate) fn start(config: WatchConfig) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let orders =
            Arc::new(Orders { wake: EventFd::from_flags(flags)?, bits: AtomicU32::new(0) });
        let (ready, started) = mpsc::sync_channel(1);
        let (did, done) = mpsc::sync_channel(1);
        let asked = Arc::clone(&orders);
        let thread =
            std::thread::Builder::new().name("sensor-watch".into()).spawn(
                move || match Worker::new(config) {
                    Ok(mut worker) => {
                        // In the namespace, where this thread is.
                        let sockets = Sockets::open();
                        if ready.send(Ok((worker.space(), sockets))).is_ok() {
                            worker.run(&asked, &did);
                        }
                        worker.release();
                    }
                    Err(error) => drop(ready.send(Err(error))),
                },
            )?;
        let (space, sockets) = started
            .recv()
            .map_err(|_| io::Error::other("the interface watch ended at its start"))??;
        let sockets = sockets
            .map_err(|error| tracing::warn!(%error, "sockets of waiting clients cannot be ended"));
        Ok(Self { orders, done, space, thread: Some(thread), sockets: sockets.ok() })
    }

    /// Lets it attach; [`Watch::attached`] waits for it.
    pub(crate) fn attach(&self, beside: bool) {
        self.orders.give(if beside { ATTACH_BESIDE } else { ATTACH });
    }

    /// Waits until all interfaces that are there have been attached to.
    pub(crate) fn attached(&self) {
        // An error is the thread's end.
        let _ended = self.done.recv();
    }

    /// Removes filters that an earlier agent left.
    pub(crate) fn retire(&self) {
        self.orders.give(RETIRE);
    }

    /// The namespace's sockets, where they can be asked for.
    pub(crate) fn sockets(&self) -> Option<Sockets> {
        self.sockets.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.orders.give(STOP) {
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
    layer: Option<LinkLayer>,
    /// Looks in a row at which somebody else was in front.
    behind: u32,
    /// When we went in front again, within the last hour.
    fronted: Vec<Instant>,
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
    counts: WatchCounts,
    looks: u32,
    published: Instant,
    /// Nothing is attached before it is asked for.
    active: bool,
}

impl Worker {
    fn new(config: WatchConfig) -> io::Result<Self> {
        namespace::enter(&config.namespace)?;
        let pins = config.links.clone().map(LinkPins::of_this_thread).transpose()?;
        let programs = Arc::clone(&config.programs);
        let attacher = Attacher::new(programs, config.hook, config.handle, pins, SOCKETS)?;
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
            counts: WatchCounts::default(),
            looks: 0,
            published: Instant::now(),
            active: false,
            config,
        };
        worker.resync()?;
        worker.publish();
        Ok(worker)
    }

    fn space(&self) -> Option<u64> {
        self.attacher.pins().map(LinkPins::space)
    }

    fn run(&mut self, orders: &Orders, done: &SyncSender<()>) {
        let mut dirty = false;
        let mut checked = Instant::now();
        loop {
            let wait = if dirty { Duration::from_millis(PUBLISH_MS) } else { RECHECK };
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
                PollFd::new(orders.wake.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted wait is as good as one that ended: then nothing is ready.
            let _ready = poll(&mut fds, timeout);
            let order = orders.take();
            if order & STOP != 0 {
                return;
            }
            dirty |= self.read_events();
            if order != 0 {
                self.carry_out(order);
                if order & (ATTACH | ATTACH_BESIDE) != 0 {
                    // Nobody may wait for it any more.
                    let _nobody = done.try_send(());
                }
            }
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

    fn carry_out(&mut self, order: u32) {
        if order & (ATTACH | ATTACH_BESIDE) != 0 {
            self.active = true;
            self.attacher.beside = order & ATTACH_BESIDE != 0;
            self.reconcile();
        }
        if order & (ATTACH | RETIRE) != 0 {
            self.attacher.beside = false;
            self.sweep_filters();
        }
        if order & (ATTACH | ATTACH_BESIDE) != 0 {
            self.sweep_pins();
        }
        self.publish();
    }

    /// Removes filters of this instance that are not ours: an earlier agent's, or of another way to attach.
    fn sweep_filters(&mut self) {
        for link in self.links.values() {
            match self.attacher.sweep(link.ifindex) {
                Ok(swept) => self.counts.swept += swept as u64,
                Err(error) => {
                    tracing::debug!(interface = &*link.name, %error, "filters were not swept");
                }
            }
        }
    }

    /// Removes pins of links to devices that are gone or not wanted any more.
    fn sweep_pins(&mut self) {
        let Some(pins) = self.attacher.pins() else { return };
        let attached = |index| self.attached.get(&index);
        let is_tcx =
            |index| attached(index).is_some_and(|one| one.attachment.kind() == HookKind::Tcx);
        self.counts.swept += pins.sweep(is_tcx) as u64;
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
                    self.counts.resyncs += 1;
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
        if !self.active {
            return;
        }
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
                self.look_at_chain(&mut status, &attachment);
                let layer = LinkLayer::of_device(link.arphrd);
                let (behind, fronted) = (0, Vec::new());
                let attached = Attached { attachment, status, layer, behind, fronted };
                self.attached.insert(link.ifindex, attached);
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
        let Some(Attached { attachment, .. }) = self.attached.remove(&ifindex) else {
            return;
        };
        self.config.shared.hooks_sub(attachment.hooks());
        if !self.links.contains_key(&ifindex) {
            self.attacher.vanished(ifindex, attachment);
        } else if let Err(error) = self.attacher.detach(ifindex, attachment) {
            tracing::warn!(ifindex, %error, "could not detach");
        }
    }

    fn look_at_chain(&mut self, status: &mut InterfaceStatus, attachment: &Attachment) {
        status.ingress = self.attacher.chain(status.ifindex, TcHook::Ingress, attachment);
        status.egress = self.attacher.chain(status.ifindex, TcHook::Egress, attachment);
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
            self.look_at_chain(&mut entry.status, &entry.attachment);
            self.stay_in_front(entry);
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
        self.looks = self.looks.wrapping_add(1);
        if self.active && self.looks.is_multiple_of(SWEEP_EVERY) {
            self.sweep_pins();
        }
    }

    /// Goes in front of a program that came in front of ours. In mode observe it is only said: nothing gets past us there.
    fn stay_in_front(&mut self, entry: &mut Attached) {
        if entry.status.is_first() {
            entry.behind = 0;
            return;
        }
        entry.behind += 1;
        entry.fronted.retain(|at| at.elapsed() < FRONTED_SPAN);
        let often = entry.fronted.len() >= FRONTED_MAX as usize;
        if entry.behind < LOOKS_BEHIND || often || self.config.mode == Mode::Observe {
            return;
        }
        let (ifindex, Some(layer)) = (entry.status.ifindex, entry.layer) else { return };
        for hook in TcHook::ALL {
            if entry.status.chain(hook).is_none_or(|chain| chain.ahead.is_empty()) {
                continue;
            }
            let copy = || self.config.copies.copy(hook, layer);
            match self.attacher.go_first(ifindex, hook, copy, &mut entry.attachment) {
                Ok(()) => self.counts.fronted += 1,
                Err(error) => {
                    let interface = &*entry.status.name;
                    tracing::warn!(interface, ?hook, %error, "another program stays in front of ours");
                }
            }
        }
        entry.fronted.push(Instant::now());
        self.look_at_chain(&mut entry.status, &entry.attachment);
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
        self.counts.unpinned = self.attacher.unpinned;
        self.config.shared.publish(self.config.index, view, interfaces, self.counts);
    }

    /// Detaches everything when the agent ends in order, unless it is to go on without it.
    fn release(&mut self) {
        if self.attacher.pins().is_some() {
            self.attached.clear();
        }
        let indices: Vec<_> = self.attached.keys().copied().collect();
        for ifindex in indices {
            self.let_go(ifindex);
        }
        self.publish();
    }
}
