//! A TC program of somebody else: carries every frame of a device to the peer of another by
//! `bpf_redirect_peer`, as Cilium's host routing does. Loaded with bare system calls, so that it shares nothing
//! with the code under test.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::libc;

use super::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const HELPER_REDIRECT_PEER: u32 = 155;

/// Attached at the tail of a device's TCX ingress chain until dropped.
#[derive(Debug)]
pub struct RedirectPeer {
    _link: OwnedFd,
}

impl RedirectPeer {
    /// Carries what comes in at `from` to the other end of the veth `to`.
    pub fn attach(namespace: &Namespace, from: &str, to: &str) -> Result<Self> {
        let index = |name: &str| -> Result<u32> {
            Ok(namespace.sh(&format!("ip -o link show {name} | cut -d: -f1"))?.trim().parse()?)
        };
        let (from, to) = (index(from)?, index(to)?);
        namespace.inside(move || {
            let program = load(to).context("cannot load the test's own program")?;
            let link = link(&program, from).context("cannot attach the test's own program")?;
            Ok(Self { _link: link })
        })
    }
}

fn load(to: u32) -> Result<OwnedFd> {
    let instruction = |code: u8, registers: u8, immediate: u32| {
        u64::from(code) | u64::from(registers) << 8 | u64::from(immediate) << 32
    };
    // r1 = to; r2 = 0; call bpf_redirect_peer; exit
    let code = [
        instruction(0xb7, 1, to),
        instruction(0xb7, 2, 0),
        instruction(0x85, 0, HELPER_REDIRECT_PEER),
        instruction(0x95, 0, 0),
    ];
    let license = b"GPL\0";
    let mut attr = Attributes::default();
    attr.u32(0, BPF_PROG_TYPE_SCHED_CLS);
    attr.u32(4, u32::try_from(code.len())?);
    attr.u64(8, code.as_ptr() as u64);
    attr.u64(16, license.as_ptr() as u64);
    attr.call(BPF_PROG_LOAD)
}

fn link(program: &OwnedFd, ifindex: u32) -> Result<OwnedFd> {
    let mut attr = Attributes::default();
    attr.u32(0, u32::try_from(program.as_raw_fd())?);
    attr.u32(4, ifindex);
    attr.u32(8, BPF_TCX_INGRESS);
    attr.call(BPF_LINK_CREATE)
}

/// `union bpf_attr`, filled by offset (linux/bpf.h).
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Self {
        Self([0; 128])
    }
}

impl Attributes {
    fn u32(&mut self, at: usize, value: u32) {
        if let Some(field) = self.0.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }

    fn u64(&mut self, at: usize, value: u64) {
        if let Some(field) = self.0.get_mut(at..at + 8) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }

    fn call(&self, command: libc::c_int) -> Result<OwnedFd> {
        // SAFETY: the kernel reads `size` bytes of an initialised buffer; the pointers in it are to
        // values of the caller that outlive the call.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_ptr(), self.0.len()) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        // SAFETY: the system call returned a new descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
    }
}
