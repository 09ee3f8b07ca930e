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
    netlink::{filter, record::Link, socket::Socket},
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
    /// Kernel ids of all of them: tells ours from neighbours in a chain.
    pub(crate) ids: Vec<u32>,
}

impl Programs {
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

    fn tc(&self, hook: TcHook, layer: LinkLayer) -> Option<(&'static str, BorrowedFd<'_>)> {
        let (name, program) = match (hook, layer) {
            (TcHook::Ingress, LinkLayer::Ethernet) => ("sensor_tc_ingress_eth", &self.ingress_eth),
            (TcHook::Egress, LinkLayer::Ethernet) => ("sensor_tc_egress_eth", &self.egress_eth),
            (TcHook::Ingress, LinkLayer::RawIp) => ("sensor_tc_ingress_ip", &self.ingress_ip),
            (TcHook::Egress, LinkLayer::RawIp) => ("sensor_tc_egress_ip", &self.egress_ip),
        };
        program.as_ref().map(|program| (name, program.as_fd()))
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

/// An attachment; dropping it detaches TCX links and parks packet sockets, `clsact` filters want [`detach`].
#[derive(Debug)]
pub(crate) enum Attachment {
    Tcx { _links: [OwnedFd; 2] },
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
    netlink: Socket,
    /// Packet sockets opened while CAP_NET_RAW was there.
    sockets: Vec<OwnedFd>,
    sockets_opened: usize,
}

impl Attacher {
    /// Makes one for the calling thread's namespace; opens `sockets` packet sockets for `HookKind::Socket`.
    pub(crate) fn new(programs: Arc<Programs>, hook: HookKind, sockets: usize) -> io::Result<Self> {
        let sockets = match hook {
            HookKind::Socket => {
                (0..sockets).map(|_| sys::packet_socket()).collect::<io::Result<Vec<_>>>()?
            }
            HookKind::Auto | HookKind::Tcx | HookKind::Clsact => Vec::new(),
        };
        Ok(Self {
            programs,
            hook,
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
        if let Attachment::Clsact { priorities } = &attachment {
            for (hook, priority) in TcHook::ALL.into_iter().zip(priorities) {
                filter::remove(&mut self.netlink, ifindex, hook, *priority)?;
            }
        }
        drop(attachment);
        Ok(())
    }

    /// Takes back what is left of an attachment whose interface has vanished.
    pub(crate) fn vanished(&mut self, attachment: Attachment) {
        // The kernel has unbound the packet socket; it can be bound again without CAP_NET_RAW.
        if let Attachment::Socket { socket } = attachment {
            self.sockets.push(socket);
        }
    }

    /// Program ids in front of ours at a hook, `None` where that cannot be told.
    pub(crate) fn chain(&mut self, ifindex: u32, hook: TcHook, kind: HookKind) -> Option<Chain> {
        match kind {
            HookKind::Tcx => {
                let ids = sys::tcx_chain(ifindex, hook).ok()?;
                let at = ids.iter().position(|id| self.programs.ids.contains(id));
                let name = |id: &u32| format!("program {id}");
                Some(Chain {
                    attached: at.is_some(),
                    ahead: ids.iter().take(at.unwrap_or(0)).map(name).collect(),
                    behind: ids.iter().skip(at.map_or(0, |at| at + 1)).map(name).collect(),
                })
            }
            HookKind::Clsact => {
                let filters = filter::filters(&mut self.netlink, ifindex, hook).ok()?;
                let at = filters.iter().position(filter::Filter::is_ours);
                let name = |filter: &filter::Filter| {
                    format!("filter {} ({})", filter.priority, filter.name)
                };
                Some(Chain {
                    attached: at.is_some(),
                    ahead: filters.iter().take(at.unwrap_or(0)).map(name).collect(),
                    behind: filters.iter().skip(at.map_or(0, |at| at + 1)).map(name).collect(),
                })
            }
            HookKind::Auto | HookKind::Socket => None,
        }
    }

    fn program(
        &self,
        hook: TcHook,
        layer: LinkLayer,
    ) -> Result<(&'static str, BorrowedFd<'_>), AttachError> {
        self.programs.tc(hook, layer).ok_or(AttachError::NoProgram(hook))
    }

    fn tcx(&self, ifindex: u32, layer: LinkLayer) -> Result<Attachment, AttachError> {
        let attach = |hook| {
            let (_, program) = self.program(hook, layer)?;
            sys::tcx_attach_first(program, ifindex, hook)
                .map_err(|source| AttachError::Refused { step: "attach a TCX link", source })
        };
        Ok(Attachment::Tcx { _links: [attach(TcHook::Ingress)?, attach(TcHook::Egress)?] })
    }

    fn clsact(&mut self, ifindex: u32, layer: LinkLayer) -> Result<Attachment, AttachError> {
        filter::ensure_clsact(&mut self.netlink, ifindex)
            .map_err(|source| AttachError::Refused { step: "add the clsact qdisc", source })?;
        let ingress = self.clsact_hook(ifindex, TcHook::Ingress, layer)?;
        match self.clsact_hook(ifindex, TcHook::Egress, layer) {
            Ok(egress) => Ok(Attachment::Clsact { priorities: [ingress, egress] }),
            Err(error) => {
                // Half an attachment would see requests without responses.
                filter::remove(&mut self.netlink, ifindex, TcHook::Ingress, ingress).map_err(
                    |source| AttachError::Refused {
                        step: "remove the ingress filter again",
                        source,
                    },
                )?;
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
        if let Some(old) = there.iter().find(|filter| filter.is_ours() && *filter.name == *name) {
            filter::install(&mut self.netlink, ifindex, hook, old.priority, name, program, true)
                .map_err(refused("adopt the BPF filter of an earlier agent"))?;
            return Ok(old.priority);
        }
        let mut last = io::Error::from_raw_os_error(nix::libc::EBUSY);
        for priority in filter::PRIORITIES {
            match filter::install(&mut self.netlink, ifindex, hook, priority, name, program, false)
            {
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
