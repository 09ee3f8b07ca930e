//! `policy explain` of the running agent: the image that its maps hold now, with the verdicts and shared sources beside it.

use std::sync::PoisonError;

use sensor_core::policy::image::View;

use super::{live::wall_clock, status::Shared};
use crate::{
    config::{Connected, Mode, host_facts},
    explain::{Asked, Beside, Clocks, EXPLAIN_SCHEMA, ExplainQuery, ExplainView, packets},
    kernel::{self, LiveEnds, LivePolicy},
};

impl Shared {
    /// Which rule decides about a client now.
    pub(super) fn explain(&self, query: &ExplainQuery) -> Result<ExplainView, String> {
        let kernel = &self.facts.kernel;
        let (client, server) = query.ends()?;
        let names = {
            let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
            policy.hit_names()
        };
        let LivePolicy { settings, lines } =
            kernel.live_policy().map_err(|error| format!("read the policy's maps: {error}"))?;
        if lines.is_empty() && settings.policy != 0 {
            return Err("the policy in force is an earlier agent's, which this one may not read: ask as root, then the pinned maps answer".into());
        }
        let LiveEnds { verdicts, shared, other_flows } = kernel
            .live_ends(query.protocol.number(), client, server)
            .map_err(|error| format!("read the tables of verdicts: {error}"))?;
        let clocks = Clocks { boot: kernel::now(), unix: wall_clock() };
        let asked = Asked {
            lines: &lines,
            names: &|hits| names.get(&hits).cloned(),
            interfaces: &host_facts(Connected::default(), clocks.boot, Vec::new()).interfaces,
            clocks,
            beside: Beside { verdicts, shared },
        };
        let header = View::new(lines.as_slice()).map(|view| view.header).unwrap_or_default();
        let not_enforced = match self.facts.mode {
            Mode::Observe => Some("mode observe: nothing is dropped".to_owned()),
            Mode::Enforce if settings.enforcement_off != 0 => {
                Some("enforcement is switched off: every rule only monitors".to_owned())
            }
            Mode::Enforce => None,
        };
        Ok(ExplainView {
            schema: EXPLAIN_SCHEMA.into(),
            time_unix_ns: clocks.unix.0,
            source: "agent".into(),
            from: format!("pid {}", std::process::id()),
            generation: header.generation,
            hash: if lines.is_empty() { String::new() } else { format!("{:016x}", header.digest) },
            provisional: kernel::provisional(&settings, clocks.boot.0),
            enforced: not_enforced.is_none(),
            not_enforced,
            packets: packets(query, &asked)?,
            notes: crate::explain::other_flows(other_flows).into_iter().collect(),
        })
    }
}
