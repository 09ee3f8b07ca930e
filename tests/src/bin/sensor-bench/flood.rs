//! `flood DEVICE MAC COUNT CPU`: sends SYNs of blocked sources out of a device from one CPU, as fast as it goes.
//!
//! A veth pair hands a packet to its peer in the softirq of the sending CPU, so the time that the sending thread (and that CPU's softirq
//! thread, when it had to help) ran is the whole way of a packet: sent, received, dropped. What else runs there does not count. Bound: COUNT packets; the sources are [`SOURCES`] addresses of 100.64.0.0/10.

use std::{
    fs,
    io::IoSlice,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, sendmmsg, socket,
    },
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

use crate::packets::{SYN, Segment};

/// Sources, all of them blocked.
const SOURCES: u32 = 256;
/// Packets of one system call.
const BATCH: usize = 64;

/// The source of a packet: neighbours in no order that a table would like.
pub(crate) fn source(at: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x6440_0000 | (at % SOURCES).wrapping_mul(0x9e37_79b1) >> 10)
}

/// Prints every source, one a line.
pub(crate) fn sources() {
    for at in 0..SOURCES {
        println!("{}", source(at));
    }
}

/// Sends, and prints the nanoseconds of one packet.
pub(crate) fn flood(device: &str, mac: &str, count: u32, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)?;
    let destination = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<Vec<u8>, _>>()
        .context("a MAC address, as aa:bb:cc:dd:ee:ff")?;
    ensure!(destination.len() == 6, "a MAC address has six parts");
    let frames: Vec<Vec<u8>> = (0..SOURCES)
        .map(|at| {
            let client = source(at);
            let mut frame =
                Segment { client, port: 40_000, seq: 1, flags: SYN, payload: &[0; 6] }.frame();
            frame.splice(..6, destination.iter().copied());
            let sum = checksum(frame.get(14..34).unwrap_or_default());
            frame.splice(24..26, sum.to_be_bytes());
            frame
        })
        .collect();
    let socket = open(device)?;
    let mut headers: MultiHeaders<LinkAddr> = MultiHeaders::preallocate(BATCH, None);
    let mut sent = 0_u32;
    let started = ran(cpu)?;
    for batch in frames.chunks(BATCH).cycle() {
        let slices: Vec<[IoSlice<'_>; 1]> =
            batch.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let results = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            vec![None; slices.len()],
            [],
            MsgFlags::empty(),
        )?;
        sent += u32::try_from(results.count())?;
        if sent >= count {
            break;
        }
    }
    println!("{:.2}", ran(cpu)?.saturating_sub(started).as_secs_f64() * 1e9 / f64::from(sent));
    Ok(())
}

/// Time that this thread and the softirq thread of a CPU ran so far.
fn ran(cpu: usize) -> Result<Duration> {
    let own = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let name = format!("ksoftirqd/{cpu}\n");
    let softirq = fs::read_dir("/proc")?.flatten().find_map(|entry| {
        let path = entry.path();
        (fs::read_to_string(path.join("comm")).ok()? == name).then(|| {
            fs::read_to_string(path.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        })?
    });
    Ok(Duration::from(own) + Duration::from_nanos(softirq.context("no softirq thread")?))
}

/// Checksum of an IPv4 header whose own is zero (RFC 1071): the stack drops what has a wrong one before prerouting.
fn checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    u16::try_from(sum ^ 0xffff).unwrap_or(0)
}

/// A packet socket of one device that receives nothing.
fn open(device: &str) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let index = nix::net::if_::if_nametoindex(device).with_context(|| device.to_owned())?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(index)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads an initialised sockaddr_ll of exactly this size.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            u32::try_from(size_of_val(&address))?,
        )
    };
    ensure!(bound == 0, "bind to {device}: {}", std::io::Error::last_os_error());
    Ok(socket)
}
