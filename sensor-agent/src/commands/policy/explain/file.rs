//! Explains by a policy file, compiled for this host. Nothing live is asked.

use std::path::Path;

use anyhow::Result;
use sensor_core::{
    policy::{HostFacts, image::Numbers},
    time::MonoNs,
};

use crate::{
    commands::Prerequisite,
    config::{Config, connected, host_facts, read_lists, read_policy},
    explain::{Asked, Beside, Clocks, EXPLAIN_SCHEMA, ExplainQuery, ExplainView, packets},
};

/// What a file comes to on this host.
pub(super) fn of_file(file: &Path, query: &ExplainQuery, config: &Config) -> Result<ExplainView> {
    let wrong = |error: String| Prerequisite::new(error);
    let policy = read_policy(file, config).map_err(|error| wrong(error.to_string()))?;
    let lists = read_lists(&policy).map_err(|error| wrong(error.to_string()))?;
    let peers = connected(&[], &policy.failsafe.ssh_ports);
    let facts = host_facts(peers, MonoNs(BOOT_NS), Vec::new());
    let facts = HostFacts { protected: config.protected.clone(), ..facts };
    let compiled = policy
        .compile(&facts, &lists, &mut Numbers::default())
        .map_err(|errors| wrong(errors.to_string()))?;
    let name = |hits: u32| {
        let owner = usize::try_from(hits).ok().and_then(|hits| *compiled.owners.get(hits)?)?;
        let rule = policy.rules.get(usize::try_from(owner).ok()?)?;
        Some(rule.about.id.to_string())
    };
    let asked = Asked {
        lines: &compiled.image.lines,
        names: &name,
        interfaces: &facts.interfaces,
        clocks: Clocks { boot: facts.boot, unix: facts.now },
        beside: Beside::default(),
    };
    Ok(ExplainView {
        schema: EXPLAIN_SCHEMA.into(),
        time_unix_ns: facts.now.0,
        source: "file".into(),
        from: file.display().to_string(),
        hash: format!("{:016x}", compiled.digest),
        not_enforced: Some("a file: nothing of it is in force".into()),
        packets: packets(query, &asked).map_err(wrong)?,
        ..ExplainView::default()
    })
}

/// The kernel's clock of a file's compilation, where times before it must have a place too: a year.
const BOOT_NS: u64 = 365 * 86_400 * 1_000_000_000;
