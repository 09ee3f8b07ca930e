//! Ends sockets of local servers whose client only waits: no packet of theirs would ever meet the rule, or the verdict on the flow.
//!
//! The kernel's RSTs for them are bounded ([`RESETS_A_SECOND_MAX`]), so sockets are ended at that pace: some at once, by the caller, the
//! rest by a thread. A socket in a namespace that is not observed (a pod's, seen from the host's side of its veth) is not ended from here: to
//! enter it takes CAP_SYS_ADMIN, which the agent gives up once it runs. Its server's next packet becomes a RST. Bounds: [`WAITING_MAX`] sockets wait, and a later policy looks again;
//! [`VERDICTS_MAX`] flows wait. What waits is forgotten when the policy changes or enforcement is switched off.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use sensor_ebpf::verdict::reset::RESETS_A_SECOND_MAX;

use super::netlink::{
    diag::{self, TcpSocket},
    socket::Socket,
};

/// Sockets that are ended without a pause.
const AT_ONCE: usize = RESETS_A_SECOND_MAX as usize / 10;
/// Pause after each lot of them.
const PAUSE: Duration = Duration::from_millis(150);
/// Sockets that wait to be ended.
const WAITING_MAX: usize = 65_536;

/// What became of a look for sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndedSockets {
    /// Sockets with a peer that there were.
    pub seen: usize,
    /// Ended, or waiting for their turn.
    pub ended: usize,
    /// The kernel refused, or too many wait.
    pub refused: usize,
}

/// A netlink socket of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    netlink: Arc<Mutex<Socket>>,
}

impl Sockets {
    /// Opens it in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { netlink: Arc::new(Mutex::new(Socket::diag()?)) })
    }

    fn read(&self) -> io::Result<Vec<TcpSocket>> {
        diag::sockets(&mut self.netlink.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the socket between two addresses; false when there is none.
    fn end(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<bool> {
        let mut netlink = self.netlink.lock().unwrap_or_else(PoisonError::into_inner);
        match diag::find(&mut netlink, local, remote)? {
            Some(socket) => diag::destroy(&mut netlink, &socket),
            None => Ok(false),
        }
    }

    fn destroy(&self, socket: &TcpSocket) -> io::Result<bool> {
        diag::destroy(&mut self.netlink.lock().unwrap_or_else(PoisonError::into_inner), socket)
    }
}

/// Sockets that wait for their turn.
struct Waiting {
    namespace: Sockets,
    sockets: Vec<TcpSocket>,
    /// Under which decision: a later one takes it back.
    decision: u64,
}

/// Ends sockets in all observed namespaces.
#[derive(Debug)]
pub(crate) struct SocketEnder {
    namespaces: Vec<Sockets>,
    queue: mpsc::SyncSender<Waiting>,
    flows: mpsc::SyncSender<(SocketAddr, SocketAddr)>,
    /// Counted up with each decision that takes back the one before.
    decision: Arc<AtomicU64>,
}

impl SocketEnder {
    /// Starts the threads; they end with this value.
    pub(crate) fn start(namespaces: Vec<Sockets>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::sync_channel::<Waiting>(QUEUE_MAX);
        let decision = Arc::new(AtomicU64::new(0));
        let latest = Arc::clone(&decision);
        std::thread::Builder::new().name("sensor-ender".into()).spawn(move || {
            for Waiting { namespace, sockets, decision } in waiting {
                for lot in sockets.chunks(AT_ONCE) {
                    std::thread::sleep(PAUSE);
                    if latest.load(Ordering::Relaxed) != decision {
                        break;
                    }
                    for socket in lot {
                        if let Err(error) = namespace.destroy(socket) {
                            tracing::debug!(%error, "a socket could not be ended");
                        }
                    }
                }
            }
        })?;
        let (flows, ended) = mpsc::sync_channel::<(SocketAddr, SocketAddr)>(VERDICTS_MAX);
        let everywhere = namespaces.clone();
        std::thread::Builder::new().name("sensor-ends".into()).spawn(move || {
            for (local, remote) in ended {
                for namespace in &everywhere {
                    match namespace.end(local, remote) {
                        Ok(true) => break,
                        Ok(false) => {}
                        Err(error) => tracing::debug!(%error, "a flow's socket could not be ended"),
                    }
                }
            }
        })?;
        Ok(Self { namespaces, queue, flows, decision })
    }

    /// Takes back what waits: another policy is in force, or enforcement was switched off.
    pub(crate) fn take_back(&self) {
        self.decision.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the socket of one flow, soon and without waiting for it; false when too many wait: the flow's next packet is answered.
    pub(crate) fn end_flow(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        self.flows.try_send((local, remote)).is_ok()
    }

    /// Ends every socket (own address, peer's address) that `named` says.
    pub(crate) fn end(&self, named: impl Fn(SocketAddr, SocketAddr) -> bool) -> EndedSockets {
        let mut total = EndedSockets::default();
        let decision = self.decision.load(Ordering::Relaxed);
        for namespace in &self.namespaces {
            let sockets = match namespace.read() {
                Ok(sockets) => sockets,
                Err(error) => {
                    tracing::warn!(%error, "sockets cannot be read (CONFIG_INET_DIAG, module tcp_diag): clients of a reset rule that only wait learn it with their next packet");
                    continue;
                }
            };
            total.seen += sockets.len();
            let mut named: Vec<_> = sockets
                .into_iter()
                .filter(|socket| named(socket.local(), socket.remote()))
                .collect();
            let rest = named.split_off(named.len().min(AT_ONCE));
            for socket in &named {
                match namespace.destroy(socket) {
                    Ok(ended) => total.ended += usize::from(ended),
                    Err(error) => {
                        total.refused += 1;
                        tracing::debug!(%error, "a socket could not be ended");
                    }
                }
            }
            if rest.is_empty() {
                continue;
            }
            let count = rest.len();
            let waiting = Waiting { namespace: namespace.clone(), sockets: rest, decision };
            if count <= WAITING_MAX && self.queue.try_send(waiting).is_ok() {
                total.ended += count;
            } else {
                total.refused += count;
            }
        }
        total
    }
}

/// Flows under a verdict whose socket waits to be ended.
const VERDICTS_MAX: usize = 1_024;
/// Lots of waiting sockets: one for each policy and namespace.
const QUEUE_MAX: usize = 4;
