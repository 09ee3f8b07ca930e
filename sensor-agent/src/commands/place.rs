//! Where the running agent and its store are, for the commands that ask them.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::{self, Config, DEFAULT_FILE, Raw};

/// Options of commands that ask the agent.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Place {
    /// Configuration file, for the places of socket and store [default: /etc/api-sensor/config.yaml if it is there]
    #[arg(long, short = 'c', env = "SENSOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket of the agent [default: /run/api-sensor/agent.sock; your own agent's, where one runs without root]
    #[arg(long, env = "SENSOR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Folder of the store, opened when no agent runs [default: /var/lib/api-sensor]
    #[arg(long, env = "SENSOR_STORE", value_name = "FOLDER")]
    store: Option<PathBuf>,
}

impl Place {
    /// Lays the options over the file.
    pub(super) fn resolve(&self) -> Result<Config> {
        let flags =
            Raw { socket: self.socket.clone(), store: self.store.clone(), ..Raw::default() };
        let raw = file(self.config.as_deref())?.overlaid_by(flags);
        let is_named = raw.socket.is_some();
        let mut config = Config::resolve(raw)?;
        // Who may read root's agent by their group has no agent of their own.
        let system = Path::new(config::SYSTEM_SOCKET);
        if !is_named && !config.socket.exists() && system.exists() {
            system.clone_into(&mut config.socket);
        }
        Ok(config)
    }
}

/// Options of commands that work on what is pinned.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PinPlace {
    /// Configuration file, for the folder of pins and the socket [default: /etc/api-sensor/config.yaml if it is there]
    #[arg(long, short = 'c', env = "SENSOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Control socket of the agent [default: /run/api-sensor/agent.sock]
    #[arg(long, env = "SENSOR_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Folder in a bpf file system where links and maps are pinned [default: /sys/fs/bpf/api-sensor]
    #[arg(long, env = "SENSOR_PIN_FOLDER", value_name = "FOLDER")]
    pin_folder: Option<PathBuf>,
    /// Only this sensor of the host [default: all]
    #[arg(long, env = "SENSOR_INSTANCE", value_name = "NAME")]
    instance: Option<String>,
}

impl PinPlace {
    /// Lays the options over the file.
    pub(super) fn resolve(&self) -> Result<Config> {
        let flags = Raw {
            socket: self.socket.clone(),
            pin_folder: self.pin_folder.clone(),
            instance: self.instance.clone(),
            ..Raw::default()
        };
        Ok(Config::resolve(file(self.config.as_deref())?.overlaid_by(flags))?)
    }

    /// The sensor that was named.
    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }
}

/// The named file, or the default one if it is there.
pub(super) fn file(named: Option<&std::path::Path>) -> Result<Raw> {
    match named {
        Some(path) => Ok(config::read(path)?),
        None if std::path::Path::new(DEFAULT_FILE).exists() => {
            Ok(config::read(DEFAULT_FILE.as_ref())?)
        }
        None => Ok(Raw::default()),
    }
}
