//! What it costs to answer a packet with a RST to both ends: cut, rewritten, cloned back through a device, rewritten again.
//!
//! In a network namespace of its own, whose loopback device takes the clones; the bound of resets is off.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use sensor_agent::kernel::{Bench, Install, LoadConfig, Mode, first_settings};
use sensor_ebpf::{
    abi::{
        counter::Counter,
        image::{Action, ListId, Rule},
    },
    testing::image::Draft,
};
use sensor_tests::object::image;

use super::{Case, clean, measure, segment};
use crate::packets::{ACK, PSH};

/// Measures `tc/reset`.
pub(super) fn measure_answer(object: &[u8]) -> Result<()> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
                ensure!(up.success(), "ip link set lo up: {up}");
                run(object)
            })
            .join()
            .map_err(|_| anyhow!("the thread of tc/reset panicked"))?
    })
}

fn run(object: &[u8]) -> Result<()> {
    let config = LoadConfig {
        mode: Mode::Enforce,
        ring_bytes: 1 << 20,
        flows: None,
        test_clock: false,
        resets_unbounded: true,
        settings: first_settings(1.0, 16 << 10, 1 << 19),
    };
    let mut bench = Bench::load(object, &config).context("load for tc/reset")?;
    bench.publish(&image(&policy()), Install::Confirmed)?;
    let case = Case {
        name: "tc/reset".to_owned(),
        // A packet that was answered is another one.
        repeat: 1,
        bucket: Counter::Blocked,
        packet: |at| segment(clean(at), ACK | PSH, &[b'x'; 400]),
        before: |_| vec![],
    };
    measure(&mut bench, 0, &case)?;
    let ledger = bench.ledger()?;
    ensure!(
        ledger.count(Counter::ResetsSent) == ledger.count(Counter::Blocked)
            && ledger.count(Counter::ResetsFailed) == 0,
        "tc/reset: not every packet was answered"
    );
    Ok(())
}

/// Every client, by one rule.
fn policy() -> Draft {
    let mut draft = Draft::default();
    draft.rules.push(Rule {
        port_max: u16::MAX,
        share: u32::MAX,
        action: Action::Reset as u8,
        hits: 1,
        ..Rule::default()
    });
    draft.list(ListId::Block, Ipv4Addr::new(100, 0, 0, 0).to_ipv6_mapped().octets(), 104, 1);
    draft
}
