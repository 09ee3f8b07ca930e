//! However many packets hit a reset rule, at most 1 000 a second are answered, and the rest is counted.

use std::{
    net::SocketAddr,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt,
    },
};
use sensor_tests::is_root_or_skips;

use super::scene::{Family, Offload, PORT, Place, Scene};

/// Connections that are tried at once: under the usual limit of open files, and far more than may be answered at once.
const ATTEMPTS: usize = 900;

#[test]
fn more_packets_than_the_bound_are_dropped_in_silence_and_counted() {
    if !is_root_or_skips("more_packets_than_the_bound") {
        return;
    }
    let scene = Scene::new(Place::Local, Family::V4, Offload::On);
    scene.serve();
    let sensor = scene.sensor();
    scene.forbid("");
    thread::sleep(Duration::from_secs(1));
    let SocketAddr::V4(server) = scene.address(PORT) else { panic!("not IPv4") };
    let began = Instant::now();
    let attempts = scene.client.inside(|| {
        let attempts: Vec<_> = (0..ATTEMPTS)
            .map(|_| {
                let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
                let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
                match connect(fd.as_raw_fd(), &SockaddrIn::from(server)) {
                    Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED) => Ok(fd),
                    Err(error) => Err(error),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(attempts)
    });
    // Before the first retransmission, which would be answered a second later.
    thread::sleep(Duration::from_millis(400));
    let attempts = attempts.unwrap();
    let refused = attempts
        .iter()
        .filter(|fd| getsockopt(fd, sockopt::SocketError).unwrap() == libc::ECONNREFUSED)
        .count();
    let status = sensor.status().unwrap();
    let counter = |name: &str| status["ledger"]["kernel"][name].as_u64().unwrap();
    let most = 201.0 + 800.0 * began.elapsed().as_secs_f64();
    let (sent, suppressed) = (counter("resets_sent"), counter("resets_suppressed"));
    eprintln!("{ATTEMPTS} SYNs at once: {sent} answered, {suppressed} dropped in silence");
    assert!((200..ATTEMPTS).contains(&refused), "{refused} refused");
    assert!(suppressed > 0, "{sent} sent, {suppressed} suppressed");
    assert!(
        u32::try_from(sent).is_ok_and(|sent| f64::from(sent) <= most),
        "{sent} sent, {most:.0} are the most"
    );
    assert_eq!(counter("resets_failed"), 0);
}
