//! `policy explain ADDR[:PORT]`: which rule decides about a client, why, and in which order rules are asked.
//!
//! The running agent answers from its live maps. With none alive, what it left pinned is read (root), and with `--file` what a file
//! would come to on this host.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, Result};

mod file;
#[cfg(target_os = "linux")]
mod pinned;
#[cfg(test)]
mod tests;
mod text;

use crate::{
    commands::{Exit, Prerequisite, output, place::PinPlace},
    config::Config,
    control::{AskError, Question, ask},
    explain::{ExplainQuery, ExplainView, Transport},
};

/// Says which rule decides about a client, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent policy explain 203.0.113.7
  sudo sensor-agent policy explain 203.0.113.7:443
  sudo sensor-agent policy explain '[2001:db8::7]:443' --interface eth0
  sudo sensor-agent policy explain 203.0.113.7:53 --protocol udp --json
  sensor-agent policy explain 203.0.113.7:443 --file policy.yaml

PORT is the service's. Asked are the live maps: of the running agent, or, with none alive, those that it left pinned (needs root). \
With --file nothing live is asked: no verdicts, no shared sources. Everything that was asked is shown in the order of precedence; \
`->` marks what decides.")]
pub(super) struct Args {
    /// The client, with the port of the service: 203.0.113.7, 203.0.113.7:443, 2001:db8::7, [2001:db8::7]:443
    #[arg(value_name = "ADDR[:PORT]", required_unless_present = "schema")]
    client: Option<Client>,
    /// Address of the service [default: the one that this host would answer from]
    #[arg(long, value_name = "ADDR")]
    to: Option<IpAddr>,
    /// Port of the client: names one connection, for verdicts on connections
    #[arg(long, value_name = "PORT")]
    client_port: Option<u16>,
    /// tcp or udp
    #[arg(long, value_enum, default_value = "tcp", hide_possible_values = true)]
    protocol: Transport,
    /// Interface where the packets are seen: for rules of one interface
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Ask a policy file, not what is in force
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: PinPlace,
    /// Print JSON (sensor.explain/v1)
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of --json and exit
    #[arg(long)]
    schema: bool,
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client(IpAddr, Option<u16>);

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self(address, None));
        }
        text.parse::<SocketAddr>().map(|end| Self(end.ip(), Some(end.port()))).map_err(|_| {
            "write an address such as 203.0.113.7 or 2001:db8::7, with a port 203.0.113.7:443 or [2001:db8::7]:443".into()
        })
    }
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Some(Client(address, port)) = args.client.filter(|_| !args.schema) else {
        output::print_json(&schemars::schema_for!(ExplainView))?;
        return Ok(Exit::Done);
    };
    let query = ExplainQuery {
        address,
        port,
        client_port: args.client_port,
        to: args.to,
        protocol: args.protocol,
        interface: args.interface.clone(),
    };
    let config = args.place.resolve()?;
    let view = match &args.file {
        Some(file) => file::of_file(file, &query, &config)?,
        None => live(&query, &config)?,
    };
    if args.json {
        output::print_json(&view)?;
    } else {
        output::print(&text::text(&view))?;
    }
    Ok(Exit::Done)
}

fn live(query: &ExplainQuery, config: &Config) -> Result<ExplainView> {
    let asked = ask(&config.socket, &Question::PolicyExplain(query.clone()));
    let why = match asked {
        Ok(value) => {
            return serde_json::from_value(value).context("the agent is of another version");
        }
        // A running agent may not read what one before it left; root may.
        Err(error @ (AskError::NoAgent(_) | AskError::Refused(_))) => error.to_string(),
        Err(error) => return Err(Prerequisite::new(error.to_string()).into()),
    };
    left(query, config, &why)
}

/// What an agent left pinned.
#[cfg(target_os = "linux")]
fn left(query: &ExplainQuery, config: &Config, why: &str) -> Result<ExplainView> {
    pinned::ask(query, config, why)
}

/// There is no kernel of ours to ask.
#[cfg(not(target_os = "linux"))]
fn left(_: &ExplainQuery, _: &Config, _: &str) -> Result<ExplainView> {
    Err(Prerequisite::linux("policy explain").into())
}
