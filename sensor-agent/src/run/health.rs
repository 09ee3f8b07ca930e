//! Whether the host is well while a policy is on trial: attached, and the configured check answers.
//!
//! Asked once a second; [`FAILURES_MAX`] failures in a row are one too many. Bound: [`TIMEOUT`] a try.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use crate::config::HealthCheck;

const FAILURES_MAX: u32 = 2;
const TIMEOUT: Duration = Duration::from_millis(800);

/// The check with what it said so far.
#[derive(Debug)]
pub(super) struct Health {
    check: Option<HealthCheck>,
    failures: u32,
}

impl Health {
    pub(super) const fn new(check: Option<HealthCheck>) -> Self {
        Self { check, failures: 0 }
    }

    /// Forgets failures: no policy is on trial.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Looks once; says why, when it failed once too often.
    pub(super) fn failed(&mut self, attached: bool) -> Option<String> {
        let problem = match &self.check {
            _ if !attached => Some("no interface is observed".to_owned()),
            Some(check) => ask(check).err().map(|error| error.to_string()),
            None => None,
        };
        let Some(problem) = problem else {
            self.failures = 0;
            return None;
        };
        self.failures += 1;
        (self.failures >= FAILURES_MAX).then(|| format!("the health check failed: {problem}"))
    }
}

fn ask(check: &HealthCheck) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&check.address, TIMEOUT)?;
    let Some(path) = &check.path else { return Ok(()) };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let host = check.address;
    // In one piece: a server that answers the first piece and closes would make the next an error.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    match head.get(9) {
        Some(b'2' | b'3') if head.starts_with(b"HTTP/1.") => Ok(()),
        _ => Err(std::io::Error::other(format!("it answered {}", head.escape_ascii()))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn serve(answer: &'static [u8]) -> HealthCheck {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = [0; 512];
                drop(stream.read(&mut request));
                drop(stream.write_all(answer));
            }
        });
        HealthCheck { address, path: Some("/healthz".into()) }
    }

    #[test]
    fn two_failures_in_a_row_are_one_too_many() {
        let mut well = Health::new(Some(serve(b"HTTP/1.1 204 No Content\r\n\r\n")));
        assert_eq!((well.failed(true), well.failed(true), well.failed(true)), (None, None, None));
        assert_eq!(well.failed(false), None);
        assert!(well.failed(false).unwrap().contains("no interface"));
        let mut ill = Health::new(Some(serve(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")));
        assert_eq!(ill.failed(true), None);
        assert!(ill.failed(true).unwrap().contains("503"));
    }
}
