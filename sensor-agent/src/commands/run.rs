//! `run`: the live sensor.

use std::path::PathBuf;

use anyhow::Result;

use super::{Exit, Prerequisite, place};
use crate::{
    config::{Config, Raw},
    telemetry::{self, LogFormat},
};

/// Watches the interfaces of this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent run                                   all interfaces, observe mode, no configuration
  sudo sensor-agent run -i eth0 -i 'veth*' --catalogue ./openapi
  sudo sensor-agent run --mode enforce --policy policy.yaml
  sudo sensor-agent run --upstream http://127.0.0.1:4640   (the other end: sensor-agent collect)

Every option is also a key of the configuration file and an environment variable (SENSOR_...); flags win over the environment, \
the environment over the file. Catalogue and policy are reloaded when they change, and on SIGHUP. SIGTERM flushes everything. \
Needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (CAP_NET_RAW for --hook socket); everything else is given up at start.")]
pub(super) struct Args {
    /// Configuration file [default: /etc/api-sensor/config.yaml if it is there]
    #[arg(long, short = 'c', env = "SENSOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Raw,
    /// How much is logged: error, warn, info or debug
    #[arg(long, env = "SENSOR_LOG", default_value = "info", value_name = "LEVEL")]
    log: String,
    /// How log lines look
    #[arg(long, env = "SENSOR_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let file = place::file(args.config.as_deref())?;
    let config = Config::resolve(file.overlaid_by(args.settings.clone()))?;
    telemetry::init(&args.log, args.log_format).map_err(Prerequisite::new)?;
    start(&config)
}

#[cfg(target_os = "linux")]
fn start(config: &Config) -> Result<Exit> {
    crate::run::run(config)?;
    Ok(Exit::Done)
}

#[cfg(not(target_os = "linux"))]
fn start(_: &Config) -> Result<Exit> {
    Err(Prerequisite::linux("run").into())
}
