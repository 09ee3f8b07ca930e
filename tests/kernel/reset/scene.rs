//! A client, a host with the sensor, and a server on the host or behind it; a policy that can be put into force while they talk.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use sensor_tests::lab::{Lab, Namespace, Sensor, SensorOptions};

/// What the issue allows between the rule and the client's error.
pub(super) const WITHIN: Duration = Duration::from_millis(100);
/// Port of the server that the rule is about.
pub(super) const PORT: u16 = 80;
/// Port of the server that no rule is about.
pub(super) const FREE_PORT: u16 = 81;

const ATTEMPT: Duration = Duration::from_secs(2);

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On the host itself.
    Local,
    /// Behind the host, which routes.
    Routed,
    /// Behind the host, which routes and translates the address that clients know (nft DNAT).
    Translated,
    /// Behind the host, which bridges.
    Bridged,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Who fills in checksums and cuts segments: the card (an skb may be 64 KiB) or the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offload {
    On,
    Off,
}

/// One test's network.
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) client: Namespace,
    pub(super) host: Namespace,
    server: Option<Namespace>,
    family: Family,
    place: Place,
}

impl Scene {
    pub(super) fn new(place: Place, family: Family, offload: Offload) -> Self {
        let lab = Lab::new().unwrap();
        let (client, host) = (lab.namespace("c").unwrap(), lab.namespace("h").unwrap());
        let server = (place != Place::Local).then(|| lab.namespace("s").unwrap());
        let bridged = place == Place::Bridged;
        let own = if bridged { "" } else { "10.1.0.1/24" };
        lab.veth((&host, "outer", own), (&client, "eth0", "10.1.0.2/24")).unwrap();
        client.sh("ip address add fd01::2/64 dev eth0 nodad").unwrap();
        match &server {
            None => drop(host.sh("ip address add fd01::1/64 dev outer nodad").unwrap()),
            Some(server) if bridged => {
                lab.veth((&host, "inner", ""), (server, "eth0", "10.1.0.1/24")).unwrap();
                server.sh("ip address add fd01::1/64 dev eth0 nodad").unwrap();
                host.sh("ip link add br0 type bridge; ip link set br0 up; ip link set outer master br0; ip link set inner master br0").unwrap();
            }
            Some(server) => {
                lab.veth((&host, "inner", "10.2.0.1/24"), (server, "eth0", "10.2.0.2/24")).unwrap();
                host.sh("ip address add fd01::1/64 dev outer nodad; ip address add fd02::1/64 dev inner nodad; sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").unwrap();
                server.sh("ip address add fd02::2/64 dev eth0 nodad; ip route add default via 10.2.0.1; ip -6 route add default via fd02::1").unwrap();
                client
                    .sh("ip route add default via 10.1.0.1; ip -6 route add default via fd01::1")
                    .unwrap();
            }
        }
        if place == Place::Translated {
            host.sh("nft add table inet t; nft 'add chain inet t p { type nat hook prerouting priority -100; }'; nft 'add rule inet t p iifname outer ip daddr 10.1.0.1 dnat ip to 10.2.0.2'; nft 'add rule inet t p iifname outer ip6 daddr fd01::1 dnat ip6 to fd02::2'").unwrap();
        }
        if offload == Offload::Off {
            for namespace in [Some(&client), Some(&host), server.as_ref()].into_iter().flatten() {
                namespace.sh("for d in $(ls /sys/class/net); do [ $d = lo ] || ethtool -K $d tx off gso off tso off gro off >/dev/null 2>&1 || true; done").unwrap();
            }
        }
        Self { lab, client, host, server, family, place }
    }

    /// The namespace that the server is in.
    pub(super) fn server(&self) -> &Namespace {
        self.server.as_ref().unwrap_or(&self.host)
    }

    /// The address that clients connect to.
    pub(super) fn address(&self, port: u16) -> SocketAddr {
        let ip: IpAddr = match (self.family, self.place) {
            (Family::V4, Place::Routed) => [10, 2, 0, 2].into(),
            (Family::V4, _) => [10, 1, 0, 1].into(),
            (Family::V6, Place::Routed) => "fd02::2".parse().unwrap(),
            (Family::V6, _) => "fd01::1".parse().unwrap(),
        };
        (ip, port).into()
    }

    pub(super) fn blocked(&self) -> &'static str {
        match self.family {
            Family::V4 => "10.1.0.2/32",
            Family::V6 => "fd01::2/128",
        }
    }

    /// Starts the sensor on the host, with a policy that says nothing about the client.
    pub(super) fn sensor(&self) -> Sensor {
        self.write("192.0.2.66/32", "");
        let policy = self.policy();
        let options = SensorOptions::default().with(&[
            "--mode",
            "enforce",
            "--policy",
            policy.to_str().unwrap(),
        ]);
        Sensor::start(&self.lab, &self.host, &options).unwrap()
    }

    fn policy(&self) -> std::path::PathBuf {
        self.lab.folder().join("policy.yaml")
    }

    fn write(&self, clients: &str, more: &str) {
        let text = format!(
            "version: 1\nblock:\n  - id: ended\n    clients: [{clients}]\n    action: reset\n    reason: CHG-1\n    ports: [{PORT}]\n{more}"
        );
        let fresh = self.lab.folder().join("policy.new");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, self.policy()).unwrap();
    }

    /// Puts the rule into force; returns the moment at which it was seen to be.
    pub(super) fn forbid(&self, more: &str) -> Instant {
        self.write(self.blocked(), more);
        let began = Instant::now();
        loop {
            if self.connect(PORT).is_err() {
                return Instant::now();
            }
            assert!(began.elapsed() < Duration::from_secs(20), "the rule never came into force");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Connects from the client.
    pub(super) fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let address = self.address(port);
        let stream = self.client.inside(|| Ok(TcpStream::connect_timeout(&address, ATTEMPT)));
        let stream = stream.unwrap()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        stream.set_write_timeout(Some(ATTEMPT))?;
        Ok(stream)
    }

    /// Starts a server on both ports: it does as the first byte of a connection says.
    pub(super) fn serve(&self) {
        for port in [PORT, FREE_PORT] {
            let any: IpAddr = match self.family {
                Family::V4 => [0, 0, 0, 0].into(),
                Family::V6 => "::".parse().unwrap(),
            };
            let listener =
                self.server().inside(|| Ok(TcpListener::bind(SocketAddr::from((any, port)))?));
            let listener = listener.unwrap();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || drop(one(stream)));
                }
            });
        }
    }

    /// Sockets of the server that are not closed, of a client that is not gone by its own will.
    pub(super) fn sockets(&self) -> String {
        let line = format!(
            "ss -Htn state established state fin-wait-1 state close-wait state last-ack 'sport = :{PORT}'"
        );
        self.server().sh(&line).unwrap()
    }

    /// Requires that the server's socket is gone soon.
    pub(super) fn no_socket_is_left(&self) {
        let began = Instant::now();
        loop {
            let left = self.sockets();
            if left.is_empty() {
                return;
            }
            assert!(began.elapsed() < WITHIN * 5, "the server still holds {left}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// When a server that was told `t` speaks.
pub(super) const SPEAKS_AFTER: Duration = Duration::from_secs(4);

/// `e` echoes, `d` sends without end, `t` sends once after [`SPEAKS_AFTER`], anything else waits for more.
fn one(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut wish = [0];
    stream.read_exact(&mut wish)?;
    if wish == *b"t" {
        thread::sleep(SPEAKS_AFTER);
        stream.write_all(b"time")?;
    }
    loop {
        if wish == *b"d" {
            stream.write_all(&buffer)?;
            continue;
        }
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if wish == *b"e" {
            stream.write_all(buffer.get(..read).unwrap_or_default())?;
        }
    }
}
