//! A server whose responses make verdicts: the ring's thread, the pipeline, a detector and the kernel, in namespaces of their own.
//!
//! The same calls as the agent's. For each verdict it keeps how long after the response it was in the map, and whether the thread
//! could have found the response a round earlier: the first depends on the machine's scheduler, the second on nothing but us.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
        sockopt::{ReuseAddr, SendTimeout},
    },
    time::{TimeVal, TimeValLike as _},
};
use sensor_agent::{
    kernel::{HookKind, Kernel, KernelConfig, Mode, Selection},
    source::{
        budget::Sampling,
        ring_buffer::{POLL_DECIDING_MS, Polling, RingThread, Round},
    },
};
use sensor_core::{
    finding::{Consequence, Detector, FlowVerdict, Sentence, Subject},
    http::Exchange,
    inventory::Attached,
    pipeline::{Pipeline, Settings},
    time::{MonoNs, UnixNs},
};

use crate::{
    lab::{Lab, Namespace, Nginx},
    object::{load_config, object},
};

/// `/end` ends its flow, `/shut` shuts the client out for [`SHUT_OUT`], anything else is answered.
const SERVER: &str = "server { listen 80; location /end { return 418; } location /shut { return 451; } location / { return 200; } }";
const ADDRESS: &str = "10.1.0.1:80";
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// How long a client of `/shut` is shut out.
pub const SHUT_OUT: Duration = Duration::from_secs(2);
/// How long a verdict is waited for.
const VERDICT_WITHIN: Duration = Duration::from_secs(5);
/// How long a client waits to connect and to read.
const CLIENT_WAITS: Duration = Duration::from_secs(1);
/// The pauses between samples are of all lengths below this, so that the ring's thread is found at every point of its own.
const STAGGER_MS: usize = 160;

/// One verdict, as it came about.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From the response on the wire to the verdict in the map.
    pub latency: Duration,
    /// The thread began an earlier round after the response and did not find it there.
    pub passed_over: bool,
}

/// The running scene.
#[derive(Debug)]
pub struct Decided {
    taken: Arc<Mutex<Vec<Taken>>>,
    client: Namespace,
    // Dropped in this order: the thread before what it watches, the namespaces last.
    _ring: RingThread,
    _nginx: Nginx,
    _server: Namespace,
    _lab: Lab,
}

/// 418 ends the flow, 451 shuts the client out.
#[derive(Debug)]
struct Statuses {
    rule: Arc<str>,
    /// When the responses were on the wire, `CLOCK_BOOTTIME` ns.
    responses: Arc<Mutex<VecDeque<u64>>>,
}

impl Detector for Statuses {
    fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    fn on_exchange(&mut self, exchange: &Exchange) -> Option<Sentence> {
        let (subject, for_ns) = match exchange.status? {
            418 => (Subject::Flow, 60_000_000_000),
            451 => (Subject::Client, 2_000_000_000),
            _ => return None,
        };
        let response = exchange.time.0 + exchange.latency_ns?;
        locked(&self.responses).push_back(response);
        Some(Sentence { subject, consequence: Consequence::End, for_ns })
    }
}

/// What the ring's thread does in a round.
struct Rounds {
    pipeline: Pipeline,
    kernel: Arc<Kernel>,
    responses: Arc<Mutex<VecDeque<u64>>>,
    taken: Arc<Mutex<Vec<Taken>>>,
    before: MonoNs,
}

impl Rounds {
    fn on_round(&mut self, round: &mut Round<'_>) {
        assert!(round.idle_ms <= POLL_DECIDING_MS, "a pause of up to {} ms", round.idle_ms);
        let now = round.now;
        while round.next_record(|record| self.pipeline.on_record(now, record)).is_some() {
            for verdict in self.pipeline.take_verdicts().collect::<Vec<_>>() {
                self.carry_out(&verdict, now);
            }
        }
        self.before = now;
    }

    fn carry_out(&mut self, verdict: &FlowVerdict, now: MonoNs) {
        assert!(matches!(self.kernel.carry_out(verdict, 0, now), Ok(true)), "not in the map");
        if verdict.sentence.subject == Subject::Flow {
            assert!(self.kernel.end_flow(verdict), "too many wait");
        }
        let Some(response) = locked(&self.responses).pop_front() else { return };
        let latency = Duration::from_nanos(sensor_agent::kernel::now().0.saturating_sub(response));
        locked(&self.taken).push(Taken { latency, passed_over: self.before.0 > response });
    }
}

impl Decided {
    /// Starts server, sensor and client.
    pub fn start() -> Result<Self> {
        let lab = Lab::new()?;
        let (server, client) = (lab.namespace("s")?, lab.namespace("c")?);
        lab.veth((&server, "eth0", "10.1.0.1/24"), (&client, "eth0", "10.1.0.2/24"))?;
        let nginx = Nginx::start(&lab, &server, 80, SERVER)?;
        let include = vec!["eth0".parse()?];
        let object = object()?;
        let (kernel, ring) = server.inside(|| {
            let selection = Selection { include, exclude: Vec::new() };
            let config = KernelConfig::new(load_config(Mode::Enforce), selection, HookKind::Auto);
            Ok(Kernel::start(&object, config)?)
        })?;
        let responses = Arc::new(Mutex::new(VecDeque::new()));
        let mut pipeline =
            Pipeline::new(Settings { attached: Attached::Now, ..Settings::default() });
        pipeline.set_clock(MonoNs(0), UnixNs(0));
        pipeline.add_detector(Box::new(Statuses {
            rule: "statuses".into(),
            responses: Arc::clone(&responses),
        }));
        let taken = Arc::default();
        let mut rounds = Rounds {
            pipeline,
            kernel: Arc::new(kernel),
            responses,
            taken: Arc::clone(&taken),
            before: MonoNs(0),
        };
        let polling =
            Polling { pause_ms: 10, idle_ms: POLL_DECIDING_MS, sampling: Sampling::Fixed };
        let ring = RingThread::spawn(ring, polling, move |round| rounds.on_round(round))?;
        Ok(Self { taken, client, _ring: ring, _nginx: nginx, _server: server, _lab: lab })
    }

    /// A connection of the client's.
    pub fn connect(&self) -> Result<std::io::Result<TcpStream>> {
        let address: SocketAddr = ADDRESS.parse()?;
        let stream =
            self.client.inside(|| Ok(TcpStream::connect_timeout(&address, CLIENT_WAITS)))?;
        if let Ok(stream) = &stream {
            stream.set_read_timeout(Some(CLIENT_WAITS))?;
        }
        Ok(stream)
    }

    /// A connection from a port of the client's choice.
    pub fn connect_from(&self, port: u16) -> Result<TcpStream> {
        let SocketAddr::V4(server) = ADDRESS.parse()? else { bail!("not an IPv4 address") };
        self.client.inside(|| {
            let (family, kind) = (AddressFamily::Inet, SockType::Stream);
            let socket = socket(family, kind, SockFlag::empty(), None)?;
            setsockopt(&socket, ReuseAddr, &true)?;
            setsockopt(&socket, SendTimeout, &TimeVal::seconds(1))?;
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(CLIENT, port)))?;
            connect(socket.as_raw_fd(), &SockaddrIn::from(server))?;
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(CLIENT_WAITS))?;
            Ok(stream)
        })
    }

    /// Waits until `count` verdicts are in the map.
    pub fn verdicts(&self, count: usize) -> Result<()> {
        let began = Instant::now();
        while locked(&self.taken).len() < count {
            ensure!(began.elapsed() < VERDICT_WITHIN, "no verdict within {VERDICT_WITHIN:?}");
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Ends `count` flows, one after the other; `after` gets each connection once its verdict is in the map.
    pub fn end_flows(
        &self,
        count: usize,
        mut after: impl FnMut(TcpStream) -> Result<()>,
    ) -> Result<Vec<Taken>> {
        let already = locked(&self.taken).len();
        for sample in 0..count {
            let mut stream = self.connect()?.context("connect")?;
            ensure!(get(&mut stream, "/fine")? > 0, "no answer");
            ensure!(get(&mut stream, "/end")? > 0, "no answer");
            self.verdicts(already + sample + 1)?;
            after(stream)?;
            thread::sleep(Duration::from_millis(u64::try_from(sample * 7 % STAGGER_MS)?));
        }
        Ok(locked(&self.taken)[already..].to_vec())
    }
}

/// Sends a request and reads the answer; the bytes read.
pub fn get(stream: &mut TcpStream, path: &str) -> std::io::Result<usize> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n").as_bytes())?;
    stream.read(&mut [0; 4096])
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
