//! Ten rates, two CPUs sending as fast as they can, counted by nftables behind the sensor: what passes is the burst and the rate times the
//! time, within 1 % and one packet. Then the same in super-segments (UDP GSO), and rates of bytes.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt::UdpGsoSegment},
    unistd::Pid,
};
use sensor_tests::is_root_or_skips;

use super::{SERVER, Scene};

const RATES: [u64; 10] = [1, 7, 50, 100, 500, 1_000, 3_000, 10_000, 20_000, 40_000];
/// Bytes a second: less than a packet in 10 ms, and many.
const BYTE_RATES: [u64; 2] = [50_000, 5_000_000];
const PORT: u16 = 9_000;
const PAYLOAD: usize = 64;
/// Headers of IPv4 and UDP.
const HEADERS: u64 = 28;
/// What one packet takes of a limit of bytes.
const WIRE_BYTES: f64 = 92.0;
/// A CPU that is taken away from its sender at the end of a try loses what came back meanwhile: too little is tried again, too much is never excused.
const TRIES: usize = 4;

/// How a client sends.
#[derive(Clone, Copy, PartialEq)]
enum Skb {
    /// One packet in each.
    Plain,
    /// So many packets in each.
    Super(u16),
}

/// What nftables counted of a client so far.
fn counted(scene: &Scene, client: Ipv4Addr) -> (u64, u64) {
    let text = scene.server.sh(&format!("nft list counter ip t {}", name(client))).unwrap();
    let mut words = text.split_whitespace();
    let mut after = |word: &str| {
        words.find(|own| *own == word).unwrap();
        words.next().unwrap().parse::<u64>().unwrap()
    };
    (after("packets"), after("bytes"))
}

fn name(client: Ipv4Addr) -> String {
    format!("c{}", client.octets()[2])
}

fn client(number: usize) -> Ipv4Addr {
    // Each in a network of its own: nobody answers, so a network's clients share an allowance.
    Ipv4Addr::new(10, 66, u8::try_from(number).unwrap(), 1)
}

/// Sends on two CPUs for a time; gives how long it took, first to last.
fn send(scene: &Scene, client: Ipv4Addr, skb: Skb, time: Duration) -> Duration {
    scene
        .clients
        .inside(|| {
            let started = Instant::now();
            let sender = |cpu: usize| {
                let mut cpus = CpuSet::new();
                cpus.set(cpu).unwrap();
                // A machine of one CPU sends from one.
                let _one = sched_setaffinity(Pid::from_raw(0), &cpus);
                let socket = UdpSocket::bind((client, 0)).unwrap();
                socket.connect((SERVER, PORT)).unwrap();
                let mut bytes = vec![0; PAYLOAD];
                if let Skb::Super(count) = skb {
                    bytes.resize(PAYLOAD * usize::from(count), 0);
                    setsockopt(&socket.as_fd(), UdpGsoSegment, &i32::try_from(PAYLOAD).unwrap())
                        .unwrap();
                }
                while started.elapsed() < time {
                    for _ in 0..16 {
                        let _full = socket.send(&bytes);
                    }
                }
                started.elapsed()
            };
            Ok(std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    // The namespace belongs to the thread that made this one.
                    sender(1)
                });
                let own = sender(0);
                own.max(other.join().unwrap())
            }))
        })
        .unwrap()
}

/// Wire packets of a client that passed, and what was to be.
struct Outcome {
    passed: f64,
    expected: f64,
}

impl Outcome {
    fn slack(&self) -> f64 {
        self.expected / 100.0 + 1.0
    }

    fn is_too_much(&self, largest: f64) -> bool {
        self.passed > self.expected + self.slack() + (largest - 1.0)
    }

    fn is_too_little(&self, largest: f64) -> bool {
        self.passed < self.expected - self.slack() - (largest - 1.0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test")]
fn measure(scene: &Scene, at: usize, per_second: u64, skb: Skb, bytes: bool) -> Outcome {
    let client = client(at);
    let took = send(scene, client, skb, Duration::from_millis(1_200));
    let (skbs, all) = counted(scene, client);
    let packets = (all - skbs * HEADERS) / PAYLOAD as u64;
    let passed = if bytes { all } else { packets };
    let expected = per_second as f64 * (1.0 + took.as_secs_f64());
    eprintln!("{per_second}/s: {passed} of {expected:.0} in {took:?}");
    Outcome { passed: passed as f64, expected }
}

fn check(kind: &str, rates: &[u64], skb: Skb) {
    let scene = Scene::new();
    let bytes = kind == "bytes";
    let all = rates.len() * TRIES;
    scene.addresses((0..all).map(client));
    let of = |at: usize| rates[at % rates.len()];
    let mut limits = String::new();
    let mut rules = String::from(
        "add table ip t\nadd chain ip t c { type filter hook prerouting priority -300; }\n",
    );
    for at in 0..all {
        let (client, name) = (client(at), name(client(at)));
        let of = of(at);
        let limit = format!("  - id: l{at}\n    clients: [{client}]\n    {kind}: {{rate: {of}}}\n");
        limits.push_str(&limit);
        let rule = format!(
            "add counter ip t {name}\nadd rule ip t c ip saddr {client} counter name {name} drop\n"
        );
        rules.push_str(&rule);
    }
    let file = scene.lab.folder().join("nft");
    std::fs::write(&file, rules).unwrap();
    scene.server.sh(&format!("nft -f {}", file.display())).unwrap();
    let _sensor = scene.sensor(&limits);
    // Neither in the middle of an skb nor of a packet does a limit cut.
    let largest = match skb {
        Skb::Super(count) => f64::from(count),
        Skb::Plain if bytes => WIRE_BYTES,
        Skb::Plain => 1.0,
    };
    for rate in 0..rates.len() {
        let mut tries = (0..TRIES).map(|attempt| {
            let at = rate + attempt * rates.len();
            let outcome = measure(&scene, at, of(at), skb, bytes);
            let (passed, expected) = (outcome.passed, outcome.expected);
            assert!(!outcome.is_too_much(largest), "{}/s: {passed} of {expected}", of(at));
            outcome.is_too_little(largest)
        });
        assert!(tries.any(|too_little| !too_little), "{}/s: too little each time", rates[rate]);
    }
}

#[test]
fn ten_rates_are_kept_within_one_per_cent_and_a_packet() {
    if is_root_or_skips("ten_rates_are_kept") {
        check("packets", &RATES, Skb::Plain);
    }
}

#[test]
fn rates_are_kept_when_the_packets_come_in_super_segments() {
    if is_root_or_skips("rates_are_kept_in_super_segments") {
        check("packets", &RATES, Skb::Super(40));
    }
}

#[test]
fn rates_of_bytes_are_kept() {
    if is_root_or_skips("rates_of_bytes_are_kept") {
        check("bytes", &BYTE_RATES, Skb::Plain);
    }
}
