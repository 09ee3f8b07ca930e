//! The running agent, asked as a user would: its own commands over its socket.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    process::output,
    scene::{Namespace, Scene},
};

/// Longest time from start to attached everywhere.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A sensor in a namespace.
pub(crate) struct Agent {
    program: PathBuf,
    socket: PathBuf,
}

impl Agent {
    /// Starts `sensor-agent run` in a namespace and waits until it says that it is ready.
    pub(crate) fn start(
        scene: &Scene,
        namespace: &Namespace,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let socket = scene.folder().join("agent.sock");
        let mut command = namespace.command(program);
        command.arg("run").arg("--socket").arg(&socket);
        command.arg("--store").arg(scene.folder().join("store"));
        command.args(["--metrics-listen", "127.0.0.1:9464"]).args(arguments);
        scene.start("sensor", &mut command)?;

        let agent = Self { program: program.to_path_buf(), socket };
        let until = Instant::now() + READY_WITHIN;
        loop {
            scene.running("sensor")?;
            let status = agent.json("status");
            if status.as_ref().is_ok_and(|status| status["ready"] == true) {
                return Ok(agent);
            }
            if Instant::now() > until {
                bail!(
                    "expected: ready within {} s; seen: {status:?}; it said:\n{}",
                    READY_WITHIN.as_secs(),
                    scene.log("sensor")
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What a command of the agent prints for people.
    pub(crate) fn text(&self, verb: &str) -> Result<String> {
        output(Command::new(&self.program).arg(verb).arg("--socket").arg(&self.socket))
    }

    /// What a command of the agent prints for programs.
    pub(crate) fn json(&self, verb: &str) -> Result<Value> {
        let mut command = Command::new(&self.program);
        command.args([verb, "--json", "--socket"]).arg(&self.socket);
        let text = output(&mut command)?;
        serde_json::from_str(&text).with_context(|| format!("{verb} --json is no JSON: {text}"))
    }
}
