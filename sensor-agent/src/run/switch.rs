//! The switch of enforcement at the start: what was switched off drops nothing, not one packet.

use anyhow::{Context as _, Result};

use crate::{
    config::Mode,
    kernel::Kernel,
    reload::{AtStart, Settled, Switched},
};

/// Makes kernel and store agree on whether enforcement is switched off, and says so when it is. What was switched off must not be carried
/// out: where the kernel cannot be told, the agent does not start.
pub(super) fn settle(kernel: &Kernel, switched: &Switched, mode: Mode) -> Result<()> {
    let Settled { at_start, not_kept } = switched
        .settle(kernel)
        .context("enforcement was switched off before, and the kernel cannot be told so now")?;
    if let Some(error) = not_kept {
        tracing::warn!(%error, "whether enforcement is switched off cannot be kept in the store");
    }
    let since = match at_start {
        AtStart::On => return Ok(()),
        AtStart::OffAgain => {
            "it was switched off before, and nothing of that was left in the kernel"
        }
        AtStart::StillOff => "it was before this start",
    };
    if mode == Mode::Enforce {
        tracing::warn!(
            since,
            "enforcement is switched off, every rule only monitors: `sensor-agent enforcement on` switches it on"
        );
    }
    Ok(())
}
