//! Attaches the programs to one interface: TCX at the head of the chain, else `clsact`, or a packet socket.
//!
//! The program is chosen by the device's link type: with an Ethernet header, or raw IP (tun, WireGuard). Others
//! are refused by name. Runs in the interface's network namespace. Never deletes a qdisc, never touches a
//! filter of somebody else.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    netlink::{
        filter::{self, Handle, Install, Place},
        record::Link,
        socket::Socket,
    },
    object,
    pin::LinkPins,
    sys::{self, TcHook},
};

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
const ARPHRD_NONE: u16 = 0xfffe;
const ARPHRD_RAWIP: u16 = 519;
const ARPHRD_TUNNEL: u16 = 768;
const ARPHRD_SIT: u16 = 776;
const ARPHRD_IPGRE: u16 = 778;
const ARPHRD_TUNNEL6: u16 = 769;

/// What the packets of a device begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    RawIp,
}

impl LinkLayer {
    /// Reads a device's ARPHRD number; `None` for one that the programs do not read.
    #[must_use]
    pub const fn of_device(arphrd: u16) -> Option<Self> {
        match arphrd {
            ARPHRD_ETHER | ARPHRD_LOOPBACK => Some(Self::Ethernet),
            ARPHRD_NONE | ARPHRD_RAWIP | ARPHRD_TUNNEL | ARPHRD_TUNNEL6 | ARPHRD_SIT
            | ARPHRD_IPGRE => Some(Self::RawIp),
            _ => None,
        }
    }
}

/// How an interface is (to be) observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookKind {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// TCX link.
    Tcx,
    /// Filter of a clsact qdisc.
    Clsact,
    /// AF_PACKET socket: observes only.
    Socket,
}

/// Programs of one loaded object, by descriptor; those that the verifier refused are absent.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    ingress_eth: Option<OwnedFd>,
    egress_eth: Option<OwnedFd>,
    ingress_ip: Option<OwnedFd>,
    egress_ip: Option<OwnedFd>,
    socket_eth: Option<OwnedFd>,
    /// Kernel ids of all of them: tells ours from others'.
    pub(crate) ids: Vec<u32>,
}

impl Programs {
    /// Whether a filter's program is one of these; one of which the kernel tells no id is not.
    pub(crate) fn has(&self, program: Option<u32>) -> bool {
        program.is_some_and(|id| self.ids.contains(&id))
    }

    /// Keeps a loaded program by its name; one that is attached nowhere (`sensor_empty`) is not kept.
    pub(crate) fn insert(&mut self, name: &str, program: OwnedFd) {
        match name {
            "sensor_tc_ingress_eth" => self.ingress_eth = Some(program),
            "sensor_tc_egress_eth" => self.egress_eth = Some(program),
            "sensor_tc_ingress_ip" => self.ingress_ip = Some(program),
            "sensor_tc_egress_ip" => self.egress_ip = Some(program),
            "sensor_socket_eth" => self.socket_eth = Some(program),
            _ => {}
        }
    }

    /// Name of the program of a hook.
    pub(crate) const fn name(hook: TcHook, layer: LinkLayer) -> &'static str {
        match (hook, layer) {
            (TcHook::Ingress, LinkLayer::Ethernet) => "sensor_tc_ingress_eth",
            (TcHook::Egress, LinkLayer::Ethernet) => "sensor_tc_egress_eth",
            (TcHook::Ingress, LinkLayer::RawIp) => "sensor_tc_ingress_ip",
            (TcHook::Egress, LinkLayer::RawIp) => "sensor_tc_egress_ip",
        }
    }

    fn tc(&self, hook: TcHook, layer: LinkLayer) -> Option<(&'static str, BorrowedFd<'_>)> {
        let program = match (hook, layer) {
            (TcHook::Ingress, LinkLayer::Ethernet) => &self.ingress_eth,
            (TcHook::Egress, LinkLayer::Ethernet) => &self.egress_eth,
            (TcHook::Ingress, LinkLayer::RawIp) => &self.ingress_ip,
            (TcHook::Egress, LinkLayer::RawIp) => &self.egress_ip,
        };
        program.as_ref().map(|program| (Self::name(hook, layer), program.as_fd()))
    }
}

/// Why an interface is not observed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The programs cannot read its packets.
    #[error("device type {0} is neither Ethernet nor raw IP")]
    LinkLayer(u16),
    /// The program for this hook is not loaded.
    #[error("the program for {0:?} was refused at load (see `degraded` in the status)")]
    NoProgram(TcHook),
    /// The kernel said no.
    #[error("{step}: {source}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// Older kernels (seen on 6.1) let a socket be charged 20 KiB for its filter, and ours is larger.
    #[error(
        "the kernel gives sockets too little memory for a filter of this size: \
         sysctl -w net.core.optmem_max=131072 (newer kernels have that by default), then start again"
    )]
    FilterMemory,
    /// All packet sockets that were opened at start are in use.
    #[error("no packet socket left: CAP_NET_RAW was given up after {0} had been opened")]
    NoSocket(usize),
}

/// A TCX link with the number that it has in the chain.
#[derive(Debug)]
pub(crate) struct TcxLink {
    _fd: OwnedFd,
    id: u32,
}

/// An attachment; dropping it detaches TCX links that are not pinned and parks packet sockets, `clsact` filters want
/// [`Attacher::detach`].
#[derive(Debug)]
pub(crate) enum Attachment {
    Tcx { links: [TcxLink; 2] },
    Clsact { priorities: [u16; 2] },
    Socket { socket: OwnedFd },
}

impl Attachment {
    /// The hook in use.
    pub(crate) const fn kind(&self) -> HookKind {
        match self {
            Self::Tcx { .. } => HookKind::Tcx,
            Self::Clsact { .. } => HookKind::Clsact,
            Self::Socket { .. } => HookKind::Socket,
        }
    }

    /// Hooks that see each packet of the interface once.
    pub(crate) const fn hooks(&self) -> u32 {
        match self {
            Self::Socket { .. } => 1,
            Self::Tcx { .. } | Self::Clsact { .. } => 2,
        }
    }
}

/// Attaches in one network namespace.
#[derive(Debug)]
pub(crate) struct Attacher {
    programs: Arc<Programs>,
    hook: HookKind,
    handle: Handle,
    /// Where TCX links are kept for the next agent.
    pins: Option<LinkPins>,
    /// Filters of an earlier agent stay beside ours: what they enforce is not in our maps yet.
    pub(crate) beside: bool,
    /// Links that could not be pinned.
    pub(crate) unpinned: u64,
    netlink: Socket,
    /// Packet sockets opened while CAP_NET_RAW was there.
    sockets: Vec<OwnedFd>,
    sockets_opened: usize,
}

impl Attacher {
    /// Makes one for the calling thread's namespace; opens `sockets` packet sockets for `HookKind::Socket`.
    pub(crate) fn new(
        programs: Arc<Programs>,
        hook: HookKind,
        handle: Handle,
        pins: Option<LinkPins>,
        sockets: usize,
    ) -> io::Result<Self> {
        let sockets = match hook {
            HookKind::Socket => {
                (0..sockets).map(|_| sys::packet_socket()).collect::<io::Result<Vec<_>>>()?
            }
            HookKind::Auto | HookKind::Tcx | HookKind::Clsact => Vec::new(),
        };
        Ok(Self {
            programs,
            hook,
            handle,
            pins,
            beside: false,
            unpinned: 0,
            netlink: Socket::open()?,
            sockets_opened: sockets.len(),
            sockets,
        })
    }

    /// Attaches to an interface.
    pub(crate) fn attach(&mut self, link: &Link) -> Result<Attachment, AttachError> {
        let layer = LinkLayer::of_device(link.arphrd).ok_or(AttachError::LinkLayer(link.arphrd))?;
        match self.hook {
            HookKind::Tcx => self.tcx(link.ifindex, layer),
            HookKind::Clsact => self.clsact(link.ifindex, layer),
            HookKind::Socket => self.socket(link, layer),
            HookKind::Auto => match self.tcx(link.ifindex, layer) {
                // A kernel without TCX does not know the attach type: that, not its version, is asked.
                Err(AttachError::Refused { source, .. })
                    if source.raw_os_error() == Some(nix::libc::EINVAL) =>
                {
                    self.clsact(link.ifindex, layer)
                }
                other => other,
            },
        }
    }

    /// Undoes [`Attacher::attach`] on an interface that is still there.
    pub(crate) fn detach(&mut self, ifindex: u32, attachment: Attachment) -> io::Result<()> {
        if let Some(pins) = &self.pins {
            pins.remove(ifindex);
        }
        if let Attachment::Clsact { priorities } = &attachment {
            for (hook, priority) in TcHook::ALL.into_iter().zip(priorities) {
                self.remove_filter(ifindex, hook, *priority)?;
            }
        }
        drop(attachment);
        Ok(())
    }

    /// Removes our filter of a priority, after looking that it is one with a program of ours.
    fn remove_filter(&mut self, ifindex: u32, hook: TcHook, priority: u16) -> io::Result<()> {
        let (handle, programs) = (self.handle, Arc::clone(&self.programs));
        let there = filter::filters(&mut self.netlink, ifindex, hook)?;
        let ours = there.iter().any(|filter| {
            filter.priority == priority && filter.is_of(handle) && programs.has(filter.program)
        });
        if ours {
            filter::remove(&mut self.netlink, &Place { ifindex, hook, handle, priority })?;
        }
        Ok(())
    }

    /// Removes filters of this instance that an earlier agent left and that are not the attachment; returns how many.
    pub(crate) fn sweep(&mut self, ifindex: u32) -> io::Result<usize> {
        let (handle, programs) = (self.handle, Arc::clone(&self.programs));
        let mut swept = 0;
        for hook in TcHook::ALL {
            let there = filter::filters(&mut self.netlink, ifindex, hook)?;
            for old in there.iter().filter(|old| old.is_of(handle) && !programs.has(old.program)) {
                let place = Place { ifindex, hook, handle, priority: old.priority };
                filter::remove(&mut self.netlink, &place)?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Takes back what is left of an attachment whose interface has vanished.
    pub(crate) fn vanished(&mut self, ifindex: u32, attachment: Attachment) {
        if let Some(pins) = &self.pins {
            pins.remove(ifindex);
        }
        // The kernel has unbound the packet socket; it can be bound again without CAP_NET_RAW.
        if let Attachment::Socket { socket } = attachment {
            self.sockets.push(socket);
        }
    }

    /// Who is in front of us and behind us at a hook, `None` where that cannot be told.
    pub(crate) fn chain(
        &mut self,
        ifindex: u32,
        hook: TcHook,
        attachment: &Attachment,
    ) -> Option<Chain> {
        match attachment {
            Attachment::Tcx { links: [ingress, egress] } => {
                let ours = if hook == TcHook::Ingress { ingress.id } else { egress.id };
                let chain = sys::tcx_chain(ifindex, hook).ok()?;
                let at = chain.iter().position(|entry| entry.link == ours);
                Some(Chain::around(at, chain.iter().map(ToString::to_string)))
            }
            Attachment::Clsact { .. } => {
                let filters = filter::filters(&mut self.netlink, ifindex, hook).ok()?;
                // TCX programs run before all filters; an older kernel has none.
                let tcx = sys::tcx_chain(ifindex, hook).unwrap_or_default();
                let at = filters.iter().position(|filter| filter.is_of(self.handle));
                let names = tcx.iter().map(ToString::to_string);
                let names = names.chain(filters.iter().map(ToString::to_string));
                Some(Chain::around(at.map(|at| at + tcx.len()), names))
            }
            Attachment::Socket { .. } => None,
        }
    }

    fn program(
        &self,
        hook: TcHook,
        layer: LinkLayer,
    ) -> Result<(&'static str, BorrowedFd<'_>), AttachError> {
        self.programs.tc(hook, layer).ok_or(AttachError::NoProgram(hook))
    }

    fn tcx(&mut self, ifindex: u32, layer: LinkLayer) -> Result<Attachment, AttachError> {
        let ingress = self.tcx_hook(ifindex, TcHook::Ingress, layer)?;
        let egress = self.tcx_hook(ifindex, TcHook::Egress, layer)?;
        Ok(Attachment::Tcx { links: [ingress, egress] })
    }

    /// Gives the link that an earlier agent left our program, else attaches one at the head and pins it.
    fn tcx_hook(
        &mut self,
        ifindex: u32,
        hook: TcHook,
        layer: LinkLayer,
    ) -> Result<TcxLink, AttachError> {
        let refused = |step| move |source| AttachError::Refused { step, source };
        let (_, program) = self.program(hook, layer)?;
        let left = self.pins.as_ref().and_then(|pins| pins.open(ifindex, hook));
        if let Some(fd) = left {
            match object::link_update(fd.as_fd(), program) {
                Ok(()) => return TcxLink::of(fd).map_err(refused("read a TCX link")),
                // Ours goes in front of it, then takes its place in the folder: it ends with its descriptor.
                Err(error) => {
                    tracing::warn!(ifindex, ?hook, %error, "a link could not be taken over");
                }
            }
        }
        let fd =
            sys::tcx_attach_first(program, ifindex, hook).map_err(refused("attach a TCX link"))?;
        self.keep(ifindex, hook, fd.as_fd());
        TcxLink::of(fd).map_err(refused("read a TCX link"))
    }

    /// Pins a link; one that cannot be pinned works all the same, until the agent ends.
    fn keep(&mut self, ifindex: u32, hook: TcHook, link: BorrowedFd<'_>) {
        let Some(pins) = &self.pins else { return };
        if let Err(error) = object::pin_over(link, &pins.path(ifindex, hook)) {
            self.unpinned += 1;
            tracing::warn!(ifindex, ?hook, %error, "a TCX link is not pinned: it ends with the agent");
        }
    }

    /// Goes to the head of a chain: by TCX with a fresh `copy` of our program (the kernel takes none twice), by clsact at a smaller priority.
    /// The old place is left when the new one is taken, so nothing passes in between.
    pub(crate) fn go_first(
        &mut self,
        ifindex: u32,
        hook: TcHook,
        copy: impl FnOnce() -> io::Result<OwnedFd>,
        attachment: &mut Attachment,
    ) -> io::Result<()> {
        let side = usize::from(hook == TcHook::Egress);
        match attachment {
            Attachment::Tcx { links } => {
                let fd = sys::tcx_attach_first(copy()?.as_fd(), ifindex, hook)?;
                self.keep(ifindex, hook, fd.as_fd());
                if let Some(link) = links.get_mut(side) {
                    *link = TcxLink::of(fd)?;
                }
                Ok(())
            }
            Attachment::Clsact { priorities } => {
                let Some(priority) = priorities.get_mut(side) else { return Ok(()) };
                let old = *priority;
                *priority = self.smaller_priority(ifindex, hook, old)?;
                self.remove_filter(ifindex, hook, old)
            }
            Attachment::Socket { .. } => Ok(()),
        }
    }

    /// Adds our filter once more where it runs earlier.
    fn smaller_priority(&mut self, ifindex: u32, hook: TcHook, old: u16) -> io::Result<u16> {
        let programs = Arc::clone(&self.programs);
        let there = filter::filters(&mut self.netlink, ifindex, hook)?;
        let ours = there.iter().find(|filter| filter.is_of(self.handle) && filter.priority == old);
        let layers = [LinkLayer::Ethernet, LinkLayer::RawIp];
        let mut candidates = layers.into_iter().filter_map(|layer| programs.tc(hook, layer));
        let found = candidates.find(|(name, _)| ours.is_some_and(|ours| *ours.name == **name));
        let (name, program) = found.ok_or(io::ErrorKind::NotFound)?;
        let mut last = io::Error::other("every smaller priority is taken");
        for priority in filter::PRIORITIES.into_iter().filter(|priority| *priority < old) {
            let place = Place { ifindex, hook, handle: self.handle, priority };
            match filter::install(&mut self.netlink, &place, name, program, Install::Add) {
                Ok(()) => return Ok(priority),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The pins of this namespace's links.
    pub(crate) const fn pins(&self) -> Option<&LinkPins> {
        self.pins.as_ref()
    }

    fn clsact(&mut self, ifindex: u32, layer: LinkLayer) -> Result<Attachment, AttachError> {
        filter::ensure_clsact(&mut self.netlink, ifindex)
            .map_err(|source| AttachError::Refused { step: "add the clsact qdisc", source })?;
        let ingress = self.clsact_hook(ifindex, TcHook::Ingress, layer)?;
        match self.clsact_hook(ifindex, TcHook::Egress, layer) {
            Ok(egress) => Ok(Attachment::Clsact { priorities: [ingress, egress] }),
            Err(error) => {
                // Half an attachment would see requests without responses.
                self.remove_filter(ifindex, TcHook::Ingress, ingress).map_err(|source| {
                    AttachError::Refused { step: "remove the ingress filter again", source }
                })?;
                Err(error)
            }
        }
    }

    /// Adopts the filter that an earlier agent left, else adds one at the first priority that is free for us.
    fn clsact_hook(
        &mut self,
        ifindex: u32,
        hook: TcHook,
        layer: LinkLayer,
    ) -> Result<u16, AttachError> {
        let refused = |step| move |source| AttachError::Refused { step, source };
        let programs = Arc::clone(&self.programs);
        let (name, program) = programs.tc(hook, layer).ok_or(AttachError::NoProgram(hook))?;
        let there = filter::filters(&mut self.netlink, ifindex, hook)
            .map_err(refused("list BPF filters"))?;
        let mut place = Place { ifindex, hook, handle: self.handle, priority: 0 };
        let left = there.iter().find(|filter| filter.is_of(self.handle) && *filter.name == *name);
        if let Some(old) = left.filter(|_| !self.beside) {
            place.priority = old.priority;
            filter::install(&mut self.netlink, &place, name, program, Install::Replace)
                .map_err(refused("adopt the BPF filter of an earlier agent"))?;
            return Ok(old.priority);
        }
        let mut last = io::Error::from_raw_os_error(nix::libc::EBUSY);
        for priority in filter::PRIORITIES {
            place.priority = priority;
            match filter::install(&mut self.netlink, &place, name, program, Install::Add) {
                Ok(()) => return Ok(priority),
                Err(error) => last = error,
            }
        }
        Err(AttachError::Refused { step: "add a BPF filter", source: last })
    }

    fn socket(&mut self, link: &Link, layer: LinkLayer) -> Result<Attachment, AttachError> {
        let refused = |step| move |source| AttachError::Refused { step, source };
        if layer != LinkLayer::Ethernet {
            return Err(AttachError::LinkLayer(link.arphrd));
        }
        let program =
            self.programs.socket_eth.as_ref().ok_or(AttachError::NoProgram(TcHook::Ingress))?;
        let socket = self.sockets.pop().ok_or(AttachError::NoSocket(self.sockets_opened))?;
        sys::socket_attach(socket.as_fd(), program.as_fd()).map_err(|error| {
            match error.raw_os_error() {
                Some(nix::libc::ENOMEM) => AttachError::FilterMemory,
                _ => refused("set the socket's filter")(error),
            }
        })?;
        sys::packet_bind(socket.as_fd(), link.ifindex)
            .map_err(refused("bind the packet socket"))?;
        Ok(Attachment::Socket { socket })
    }
}

impl TcxLink {
    fn of(fd: OwnedFd) -> io::Result<Self> {
        let id = object::link(fd.as_fd())?.id;
        Ok(Self { _fd: fd, id })
    }
}

/// Who else is at a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Our program is there.
    pub attached: bool,
    /// Runs before ours and may end the chain.
    pub ahead: Vec<String>,
    /// Runs after ours.
    pub behind: Vec<String>,
}

impl Chain {
    /// Splits the names of a chain at our place.
    fn around(at: Option<usize>, names: impl Iterator<Item = String> + Clone) -> Self {
        Self {
            attached: at.is_some(),
            ahead: names.clone().take(at.unwrap_or(0)).collect(),
            behind: names.skip(at.map_or(0, |at| at + 1)).collect(),
        }
    }
}
