//! The real `sensor-agent run`, started as a user would, asked by its own commands.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Child, Lab, Namespace, namespace::run};

/// How a sensor is started.
#[derive(Clone, Debug, Default)]
pub struct SensorOptions {
    /// Interfaces to include; empty = all.
    pub interfaces: Vec<String>,
    /// Further arguments of `run`.
    pub arguments: Vec<String>,
    /// File that its log goes to, all of it; none: a little, to the test's own.
    pub log: Option<PathBuf>,
}

impl SensorOptions {
    /// Names interfaces.
    #[must_use]
    pub fn on(interfaces: &[&str]) -> Self {
        Self {
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            arguments: Vec::new(),
            log: None,
        }
    }

    /// Adds arguments of `run`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }
}

impl SensorOptions {
    /// Lets it log everything into a file.
    #[must_use]
    pub fn logging_to(mut self, file: PathBuf) -> Self {
        self.log = Some(file);
        self
    }
}

/// A running sensor; SIGTERM on [`Sensor::stop`], killed on drop.
#[derive(Debug)]
pub struct Sensor {
    /// The agent's process.
    pub child: Child,
    socket: PathBuf,
}

impl Sensor {
    /// Starts the agent in a namespace and waits until it is attached. It pins nothing unless it is told where.
    pub fn start(lab: &Lab, namespace: &Namespace, options: &SensorOptions) -> Result<Self> {
        let mut sensor = Self::spawn(lab, namespace, options)?;
        sensor.wait()?;
        Ok(sensor)
    }

    /// Starts the agent.
    pub fn spawn(lab: &Lab, namespace: &Namespace, options: &SensorOptions) -> Result<Self> {
        let folder = lab.folder().join(format!("sensor-{}", namespace.name()));
        std::fs::create_dir_all(&folder)?;
        let socket = folder.join("agent.sock");
        let mut command = namespace.command(binary()?);
        command
            .arg("run")
            .args(["--socket".as_ref(), socket.as_os_str()])
            .args(["--store".as_ref(), folder.join("store").as_os_str()])
            .args(["--metrics-listen", "127.0.0.1:9464"])
            .args(options.interfaces.iter().flat_map(|name| ["--interface", name.as_str()]))
            .args(&options.arguments);
        if !options.arguments.iter().any(|argument| argument == "--pin-folder") {
            command.args(["--pin", "never"]);
        }
        if let Ok(object) = env::var("SENSOR_EBPF_OBJECT") {
            command.args(["--ebpf-object", &object]);
        }
        if let Some(log) = &options.log {
            let file = std::fs::File::create(log)?;
            command.env("SENSOR_LOG", "debug").stdout(file.try_clone()?).stderr(file);
        }
        Ok(Self { child: Child::spawn(&mut command)?, socket })
    }

    /// Waits until it is attached.
    pub fn wait(&mut self) -> Result<()> {
        for _ in 0..400 {
            if !self.child.is_running()? {
                bail!("the agent ended at start");
            }
            if self.status().is_ok_and(|status| status["ready"] == Value::Bool(true)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        bail!("the agent was not ready within 10 s: {:?}", self.status())
    }

    /// Runs a command of the agent against this sensor's socket and reads its JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let text = run(Command::new(binary()?)
            .args(arguments)
            .arg("--json")
            .args(["--socket".as_ref(), self.socket.as_os_str()]))?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// `status --json`.
    pub fn status(&self) -> Result<Value> {
        self.ask(&["status"])
    }

    /// `inventory --json`.
    pub fn inventory(&self) -> Result<Value> {
        self.ask(&["inventory"])
    }

    /// Its folder: the store is in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.socket.parent().unwrap_or(&self.socket)
    }

    /// Ends it as a service manager would and waits.
    pub fn stop(mut self) -> Result<()> {
        self.child.signal(Signal::SIGTERM)?;
        let status = self.child.wait(10)?;
        if !status.success() {
            bail!("the agent ended with {status}");
        }
        Ok(())
    }
}

/// The agent's binary: `SENSOR_AGENT`, else beside the test's own in the target folder.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SENSOR_AGENT") {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    own.ancestors()
        .map(|folder| folder.join("sensor-agent"))
        .find(|path| Path::is_file(path))
        .context("sensor-agent is not built: cargo build -p sensor-agent")
}
