//! Clients that no tool offers: writes cut into pieces, connections kept open, hostile bodies.
//!
//! They run inside a namespace by `setns` on a thread of their own (a namespace belongs to a thread).

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

use super::Namespace;

impl Namespace {
    /// Runs a closure on a thread inside this namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = File::open(self.path())?;
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    setns(&file, CloneFlags::CLONE_NEWNET)?;
                    work()
                })
                .join()
                .map_err(|_| anyhow!("a client thread panicked"))?
        })
    }
}

/// A keep-alive HTTP/1.1 connection that writes what it is told, as it is told.
#[derive(Debug)]
pub struct KeepAlive {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl KeepAlive {
    /// Connects with Nagle off, so that each write becomes a segment.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, pending: Vec::new() })
    }

    /// Sends bytes in pieces of at most `piece` bytes, one write each.
    pub fn send(&mut self, bytes: &[u8], piece: usize) -> Result<()> {
        for part in bytes.chunks(piece) {
            self.stream.write_all(part)?;
        }
        Ok(())
    }

    /// Reads one response with Content-Length and returns its status.
    pub fn response(&mut self) -> Result<u16> {
        loop {
            if let Some((status, length)) = head_of(&self.pending)?
                && self.pending.len() >= length
            {
                self.pending.drain(..length);
                return Ok(status);
            }
            let mut buffer = [0; 16 * 1024];
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            self.pending.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
    }

    /// Sends a GET in pieces and waits for its answer.
    pub fn get(&mut self, path: &str, piece: usize) -> Result<u16> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: lab.test\r\n\r\n").as_bytes(), piece)?;
        self.response()
    }
}

/// Status of the first response in `bytes` and its whole length, once the head is complete.
fn head_of(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let status = head.get(9..12).and_then(|text| text.parse().ok()).context("no status")?;
    let length: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(Ok(0), |value| value.trim().parse())?;
    Ok(Some((status, end + 4 + length)))
}
