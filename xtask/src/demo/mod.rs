//! `demo`: the real sensor on real traffic, between network namespaces of its own.
//!
//! Two halves: this one builds as the user, the other (`demo-scene`, hidden) runs as root with the agent's
//! path as its argument, so that no file under `target/` ever belongs to root.

mod story;
mod traffic;

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    process::{can_raise, line, raised, say},
    run::build_agent,
    scene::Scene,
    setup::{self, Consent, Purpose},
};

/// Installs, builds, then becomes the scene.
pub(crate) fn demo(consent: Consent) -> Result<()> {
    let started = Instant::now();
    say(
        "The demo: a host with a small API, clients and the world outside, in network namespaces; the sensor on the host.",
    );
    setup::setup(Purpose::Demo, consent)?;
    let agent = build_agent(consent)?;
    anyhow::ensure!(
        can_raise(consent == Consent::Ask),
        "the demo makes network namespaces and loads programs: run it as root, or install sudo"
    );
    let own = env::current_exe().context("cannot find this program")?;
    let mut scene = raised(own);
    scene.arg("demo-scene").arg(agent).arg(started.elapsed().as_millis().to_string());
    // Replaces this process: a signal goes straight to the one that has something to remove.
    let error = scene.exec();
    Err(error).with_context(|| format!("cannot start {}", line(&scene)))
}

/// The half that is root.
pub(crate) fn scene(agent: &Path, built_in_ms: u64) -> Result<()> {
    let started = Instant::now();
    let scene = Scene::new()?;
    let outcome = story::tell(&scene, agent);
    drop(scene);
    outcome.context("the demo failed; everything it made is removed")?;
    let built = Duration::from_millis(built_in_ms);
    let told = started.elapsed();
    say(&format!(
        "\nRemoved: namespaces, processes, files, programs. {:.0} s in all ({:.0} s to prepare and build, {:.0} s of demo).",
        (built + told).as_secs_f64(),
        built.as_secs_f64(),
        told.as_secs_f64()
    ));
    say("Next:");
    say(
        "  cargo xtask run                                  the sensor on this host: all interfaces, observe only",
    );
    say(
        "  sudo target/release/sensor-agent inventory       what it has seen (in another terminal)",
    );
    say("  target/release/sensor-agent replay demo.pcap     the same over a capture, without root");
    say("  cargo xtask test                                 all the tests");
    Ok(())
}
