//! Explains by what an agent left pinned, when none is alive: image, settings, and the tables of verdicts and shared sources.

use anyhow::Result;
use sensor_core::{policy::image::View, time::MonoNs};

use crate::{
    commands::Prerequisite,
    config::{Config, Connected, host_facts},
    explain::{
        Asked, Beside, Clocks, EXPLAIN_SCHEMA, ExplainQuery, ExplainView, other_flows, packets,
    },
    kernel::{self, PinnedLayout, PinnedPolicy, pinned_layouts, pinned_policy, provisional},
};

/// Reads what this sensor's agent left pinned; `why` says why no agent was asked.
pub(super) fn ask(query: &ExplainQuery, config: &Config, why: &str) -> Result<ExplainView> {
    let wrong = |error: String| Prerequisite::new(error);
    let (layouts, _) = pinned_layouts(&config.pin_folder, Some(&config.instance));
    let Some(layout) = layouts.iter().max_by_key(|layout| layout.links) else {
        let root = nix::unistd::geteuid().is_root();
        let hint = if root { "" } else { " that you may read (root may)" };
        let folder = config.pin_folder.join(&config.instance);
        return Err(wrong(format!(
            "{why}; and nothing is pinned in {}{hint}; `--file FILE` asks a policy file",
            folder.display()
        ))
        .into());
    };
    let (client, server) = query.ends().map_err(wrong)?;
    let found = pinned_policy(&layout.folder, query.protocol.number(), client, server);
    let PinnedPolicy { live, ends, names } =
        found.map_err(|error| wrong(format!("{}: {error}", layout.folder.display())))?;
    let boot = kernel::now();
    let facts = host_facts(Connected::default(), boot, Vec::new());
    let asked = Asked {
        lines: &live.lines,
        names: &|hits| names.get(&hits).cloned(),
        interfaces: &facts.interfaces,
        clocks: Clocks { boot, unix: facts.now },
        beside: Beside { verdicts: ends.verdicts, shared: ends.shared },
    };
    let header = View::new(live.lines.as_slice()).map(|view| view.header).unwrap_or_default();
    let not_enforced = not_enforced(layout, &live.settings, boot);
    Ok(ExplainView {
        schema: EXPLAIN_SCHEMA.into(),
        time_unix_ns: facts.now.0,
        source: "pinned".into(),
        from: layout.folder.display().to_string(),
        generation: header.generation,
        hash: if live.lines.is_empty() { String::new() } else { format!("{:016x}", header.digest) },
        provisional: provisional(&live.settings, boot.0),
        enforced: not_enforced.is_none(),
        not_enforced,
        packets: packets(query, &asked).map_err(wrong)?,
        notes: other_flows(ends.other_flows).into_iter().collect(),
    })
}

fn not_enforced(
    layout: &PinnedLayout,
    settings: &sensor_ebpf::abi::settings::Settings,
    now: MonoNs,
) -> Option<String> {
    let stale = settings.stale_open_after_ns;
    let silent = now.0.saturating_sub(settings.heartbeat_ns);
    if layout.links == 0 {
        Some("no interface has its programs attached by a pinned link".into())
    } else if settings.enforcement_off != 0 {
        Some("enforcement is switched off: every rule only monitors".into())
    } else if stale != 0 && silent > stale {
        Some(format!(
            "the agent is silent for {} s, longer than stale_open_after allows",
            silent / 1_000_000_000
        ))
    } else {
        None
    }
}
