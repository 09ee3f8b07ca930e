//! The ssh connection of who gives a command: its own environment, or, where sudo or su took that away, that of the processes above it.
//!
//! Read from /proc. Bounds: [`ANCESTORS_MAX`] processes, [`ENVIRON_BYTES_MAX`] of each environment.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Shells in shells, sudo, and the ssh server above them.
const ANCESTORS_MAX: usize = 32;
/// The kernel allows more; nobody's ssh connection lies behind that.
const ENVIRON_BYTES_MAX: u64 = 1 << 20;
/// Two addresses and two ports.
const CONNECTION_BYTES_MAX: usize = 128;
const NAME: &str = "SSH_CONNECTION";

/// The text of `SSH_CONNECTION` (`client port server port`), if there is one.
pub(super) fn ssh_connection() -> Option<String> {
    let own = std::env::var(NAME).ok().filter(|text| !text.is_empty());
    own.or_else(|| above(Path::new("/proc"), std::process::id()))
        .filter(|text| text.len() <= CONNECTION_BYTES_MAX)
}

/// The nearest one above a process.
fn above(proc: &Path, mut pid: u32) -> Option<String> {
    for _ in 0..ANCESTORS_MAX {
        pid = parent(&proc.join(pid.to_string()))?;
        if pid <= 1 {
            return None;
        }
        // What belongs to somebody else cannot be read without root: the one above it may be our own again.
        let environ = bytes(&proc.join(pid.to_string()).join("environ"));
        let found = environ.split(|byte| *byte == 0).find_map(|variable| {
            let text = variable.strip_prefix(NAME.as_bytes())?.strip_prefix(b"=")?;
            String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty())
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

fn parent(process: &Path) -> Option<u32> {
    let status = bytes(&process.join("status"));
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn bytes(path: &PathBuf) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        drop(file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_sudo_took_away_is_found_above_it() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, parent: u32, environ: &str| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
            fs::write(folder.join("environ"), environ).unwrap();
        };
        // agent < sudo < shell of the session < sshd.
        process(40, 30, "PATH=/bin");
        process(30, 20, "HOME=/root");
        process(20, 10, "");
        process(10, 1, "A=1");
        fs::write(
            proc.path().join("20/environ"),
            "A=1\0NOT_SSH_CONNECTION=y\0SSH_CONNECTION=203.0.113.9 5 192.0.2.1 22\0",
        )
        .unwrap();
        assert_eq!(above(proc.path(), 40).as_deref(), Some("203.0.113.9 5 192.0.2.1 22"));
        assert_eq!(above(proc.path(), 20), None, "nothing above it");
        // A ring, which no host has, ends too.
        process(10, 40, "A=1");
        fs::write(proc.path().join("20/environ"), "").unwrap();
        assert_eq!(above(proc.path(), 40), None);
        assert_eq!(above(proc.path(), 99), None);
    }
}
