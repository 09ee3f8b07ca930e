//! Capabilities: checks what is needed, drops the rest before any other thread exists.
//!
//! Kept for good: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON. Kept until everything is open ([`give_up_start_only`]):
//! CAP_SYS_ADMIN when other network namespaces are observed, CAP_NET_RAW for `--hook socket`. The owner look-up
//! reads world-readable folders and needs none. Capabilities are per thread: a later thread inherits its maker's.

use std::io;

use caps::{CapSet, Capability, CapsHashSet};

/// Which capabilities a run needs beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Interfaces of other network namespaces are observed.
    pub other_namespaces: bool,
    /// `--hook socket`.
    pub packet_sockets: bool,
}

/// Why the capabilities are not in order.
#[derive(Debug, thiserror::Error)]
pub enum CapsError {
    /// Some are not there.
    #[error(
        "missing {missing}: run as root, or give the binary or the service these capabilities (setcap, AmbientCapabilities=)"
    )]
    Missing {
        /// Names, comma separated.
        missing: String,
    },
    /// The kernel refused.
    #[error("change capabilities: {0}")]
    Refused(String),
}

const KEPT: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_NET_ADMIN, Capability::CAP_PERFMON];
const START_ONLY: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_RAW];

/// Checks that what `needs` says is there and drops everything else from this thread.
///
/// Call it before the first thread is made and after everything that needs root's other powers (folders, the
/// control socket's group).
pub fn restrict(needs: Needs) -> Result<(), CapsError> {
    let mut wanted = CapsHashSet::from(KEPT);
    if needs.other_namespaces {
        wanted.insert(Capability::CAP_SYS_ADMIN);
    }
    if needs.packet_sockets {
        wanted.insert(Capability::CAP_NET_RAW);
    }
    let held = caps::read(None, CapSet::Effective).map_err(|error| refused(&error))?;
    let mut missing: Vec<_> = wanted.difference(&held).map(ToString::to_string).collect();
    if !missing.is_empty() {
        missing.sort();
        return Err(CapsError::Missing { missing: missing.join(", ") });
    }
    // The bounding set wants CAP_SETPCAP, which a service may not have: what it cannot drop it does not hold either.
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in
            caps::read(None, CapSet::Bounding).map_err(|error| refused(&error))?.difference(&wanted)
        {
            caps::drop(None, CapSet::Bounding, *capability).map_err(|error| refused(&error))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(|error| refused(&error))?;
    caps::set(None, CapSet::Effective, &wanted).map_err(|error| refused(&error))?;
    caps::set(None, CapSet::Permitted, &wanted).map_err(|error| refused(&error))?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(|error| refused(&error))?;
    // No program that this process could ever start gets more.
    nix::sys::prctl::set_no_new_privs().map_err(|error| CapsError::Refused(error.to_string()))
}

/// Gives up on this thread what was needed only to open things.
pub fn give_up_start_only() -> io::Result<()> {
    for capability in START_ONLY {
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::drop(None, set, capability).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn refused(error: &caps::errors::CapsError) -> CapsError {
    CapsError::Refused(error.to_string())
}
