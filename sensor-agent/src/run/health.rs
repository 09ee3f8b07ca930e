//! Whether the host is well while a policy is on trial: what was attached when it began still is, and the configured check answers.
//!
//! Asked once a second, with nothing locked; [`FAILURES_MAX`] failures in a row are one too many. Bound: [`TIMEOUT`] a try, whatever
//! the other end does.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use sensor_core::time::MonoNs;

use crate::{config::HealthCheck, kernel::InterfaceStatus};

const FAILURES_MAX: u32 = 2;
const TIMEOUT: Duration = Duration::from_millis(800);
/// `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// The check with what it said so far.
#[derive(Debug)]
pub(super) struct Health {
    check: Option<HealthCheck>,
    /// The trial that failures are counted for, by its end.
    trial: Option<MonoNs>,
    failures: u32,
    /// Namespace and name of the interfaces that were in order when the trial began: what was wrong before says nothing about it.
    began: Option<Vec<(String, String)>>,
}

impl Health {
    pub(super) const fn new(check: Option<HealthCheck>) -> Self {
        Self { check, trial: None, failures: 0, began: None }
    }

    /// No policy is on trial: a trial that begins before the next look begins with these interfaces.
    pub(super) fn rest(&mut self, interfaces: &[InterfaceStatus]) {
        self.trial = None;
        self.failures = 0;
        self.began = Some(in_order(interfaces));
    }

    /// Looks once; says why, when it failed once too often.
    pub(super) fn failed(
        &mut self,
        trial: MonoNs,
        interfaces: &[InterfaceStatus],
    ) -> Option<String> {
        if self.trial.replace(trial) != Some(trial) {
            self.failures = 0;
        }
        let began = self.began.get_or_insert_with(|| in_order(interfaces));
        let asked = || self.check.as_ref().and_then(|check| ask(check).err());
        let problem = lost(began, interfaces).or_else(|| asked().map(|error| error.to_string()));
        let Some(problem) = problem else {
            self.failures = 0;
            return None;
        };
        self.failures += 1;
        (self.failures >= FAILURES_MAX).then(|| format!("the health check failed: {problem}"))
    }
}

fn in_order(interfaces: &[InterfaceStatus]) -> Vec<(String, String)> {
    let well = interfaces.iter().filter(|one| one.is_in_order());
    well.map(|one| (one.namespace.clone(), one.name.clone())).collect()
}

/// What was in order and is not any more. An interface that went away by itself, as those of pods do, is no harm unless it was the last.
fn lost(began: &[(String, String)], interfaces: &[InterfaceStatus]) -> Option<String> {
    let was = |one: &InterfaceStatus| {
        began.iter().any(|(space, name)| *space == one.namespace && *name == one.name)
    };
    if let Some(one) = interfaces.iter().find(|one| was(one) && !one.is_in_order()) {
        let error = one.error.as_deref().unwrap_or("not attached");
        return Some(format!("interface {} is not observed any more: {error}", one.name));
    }
    let none = !began.is_empty() && !interfaces.iter().any(InterfaceStatus::is_in_order);
    none.then(|| "no interface is observed any more".to_owned())
}

/// Asks the check within [`TIMEOUT`] altogether.
fn ask(check: &HealthCheck) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"));
        }
        Ok(left)
    };
    let mut stream = TcpStream::connect_timeout(&check.address, left()?)?;
    let Some(path) = &check.path else { return Ok(()) };
    let host = check.address;
    stream.set_write_timeout(Some(left()?))?;
    // In one piece: a server that answers the first piece and closes would make the next an error.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::with_capacity(STATUS_BYTES);
    while head.len() < STATUS_BYTES {
        stream.set_read_timeout(Some(left()?))?;
        let mut piece = [0; STATUS_BYTES];
        let taken = match stream.read(piece.get_mut(head.len()..).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A read that timed out says so as `WouldBlock`; the deadline words it.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let from = head.len();
        head.extend(piece.get(from..from + taken).unwrap_or_default());
    }
    match head.get(9) {
        Some(b'2' | b'3') if head.starts_with(b"HTTP/1.") => Ok(()),
        _ => Err(io::Error::other(format!("it answered {}", head.escape_ascii()))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::kernel::InterfaceState;

    const TRIAL: MonoNs = MonoNs(1);

    /// A server that answers byte by byte, with a pause after each.
    fn serve(answer: &'static [u8], pause: Duration) -> HealthCheck {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = [0; 512];
                drop(stream.read(&mut request));
                for byte in answer {
                    if stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    std::thread::sleep(pause);
                }
            }
        });
        HealthCheck { address, path: Some("/healthz".into()) }
    }

    fn interface(name: &str, state: InterfaceState) -> InterfaceStatus {
        InterfaceStatus {
            namespace: "own".into(),
            ifindex: 1,
            name: name.into(),
            hook: None,
            ingress: None,
            egress: None,
            state,
            error: None,
        }
    }

    #[test]
    fn two_failures_in_a_row_are_one_too_many() {
        let well = serve(b"HTTP/1.1 204 No Content\r\n\r\n", Duration::ZERO);
        let mut health = Health::new(Some(well));
        assert_eq!((health.failed(TRIAL, &[]), health.failed(TRIAL, &[])), (None, None));
        let ill = serve(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", Duration::ZERO);
        let mut health = Health::new(Some(ill));
        assert_eq!(health.failed(TRIAL, &[]), None);
        assert_eq!(health.failed(MonoNs(2), &[]), None, "another trial counts from zero");
        assert!(health.failed(MonoNs(2), &[]).unwrap().contains("503"));
    }

    #[test]
    fn a_server_that_drips_takes_no_longer_than_one_that_is_silent() {
        let dripping = serve(b"HTTP/1.1 200 OK\r\n\r\n", Duration::from_millis(300));
        let start = Instant::now();
        let error = ask(&dripping).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < 2 * TIMEOUT, "{:?}", start.elapsed());
    }

    #[test]
    fn only_what_was_attached_when_the_trial_began_can_fail_it() {
        use InterfaceState::{Attached, Failed, Missing};
        let mut health = Health::new(None);
        let before = [interface("eth0", Attached), interface("wg0", Missing)];
        health.rest(&[before.as_slice(), &[interface("pod1", Attached)]].concat());
        // wg0 was missing before, and pod1 goes away while the trial lasts.
        assert_eq!((health.failed(TRIAL, &before), health.failed(TRIAL, &before)), (None, None));
        let after = [interface("eth0", Failed), interface("wg0", Attached)];
        assert_eq!(health.failed(TRIAL, &after), None);
        let why = health.failed(TRIAL, &after).unwrap();
        assert!(why.contains("interface eth0 is not observed any more"), "{why}");
        assert_eq!(health.failed(TRIAL, &before), None);
        assert_eq!(health.failed(TRIAL, &[]), None);
        assert!(health.failed(TRIAL, &[]).unwrap().contains("no interface"));
    }
}
