//! `policy add`: one rule from the command line, as a document of one rule.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::change::{Common, send};
use crate::{commands::Exit, control::Change};

/// Adds a rule to what is in force.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sudo sensor-agent policy add block bad-client --client 203.0.113.7 --action reset --ttl 1h --reason CHG0012345
  sudo sensor-agent policy add allow partner --client 198.51.100.0/24
  sudo sensor-agent policy add limit slow --client any --packets 1000 --burst 2000 --port 443

The rule stands before those of the policy file, survives a restart, and ends with its ttl. A rule of the same id in the file takes its \
place. Without --action a rule drops.")]
pub(super) struct Args {
    /// Which list
    #[arg(value_enum)]
    list: List,
    /// Id of the rule
    id: String,
    /// Address or prefix, or any; repeat or separate by commas
    #[arg(long = "client", short = 'a', value_name = "PREFIX", value_delimiter = ',')]
    clients: Vec<String>,
    /// Port or range of the service; repeat or separate by commas
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',')]
    ports: Vec<String>,
    /// tcp or udp
    #[arg(long)]
    protocol: Option<String>,
    /// ingress or egress
    #[arg(long)]
    direction: Option<String>,
    /// Only on this interface
    #[arg(long)]
    interface: Option<String>,
    /// drop, reset or monitor
    #[arg(long)]
    action: Option<String>,
    /// Only this share of the clients, 0 to 100
    #[arg(long, value_name = "N")]
    percent: Option<u8>,
    /// Ends by itself after this time
    #[arg(long, value_name = "TIME")]
    ttl: Option<String>,
    /// Also for sources that many clients share
    #[arg(long)]
    include_shared: bool,
    /// Who answers for it
    #[arg(long)]
    owner: Option<String>,
    /// Limit: packets a second
    #[arg(long, value_name = "RATE")]
    packets: Option<String>,
    /// Limit: bytes a second, such as 10MB
    #[arg(long, value_name = "RATE")]
    bytes: Option<String>,
    /// Limit: new TCP connections a second
    #[arg(long, value_name = "RATE")]
    new_connections: Option<String>,
    /// Limit: HTTP requests a second
    #[arg(long, value_name = "RATE")]
    requests: Option<String>,
    /// Limit: TCP connections at a time
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// Limit: this many at once [default: the rate]
    #[arg(long, value_name = "N")]
    burst: Option<String>,
    /// Also when it would hit everybody, the host itself or what keeps it manageable
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum List {
    /// Never dropped
    Allow,
    /// Dropped
    Block,
    /// Dropped beyond a rate
    Limit,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    // JSON is YAML: nothing that is typed can become another field.
    let text = serde_json::to_string_pretty(&document(args))? + "\n";
    let change =
        Change::PolicyAdd { body_bytes: text.len() as u64, terms: args.common.terms(args.force) };
    send(&args.common, &change, text.as_bytes())
}

fn document(args: &Args) -> Value {
    let mut rule = Map::new();
    rule.insert("id".into(), args.id.as_str().into());
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            rule.insert(key.into(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let several = |all: &[String]| Some(Value::from(all)).filter(|_| !all.is_empty());
    set("clients", several(&args.clients));
    set("ports", several(&args.ports));
    set("protocol", text(&args.protocol));
    set("direction", text(&args.direction));
    set("interface", text(&args.interface));
    set("action", text(&args.action));
    set("percent", args.percent.map(Value::from));
    set("ttl", text(&args.ttl));
    set("include_shared", args.include_shared.then_some(Value::Bool(true)));
    set("owner", text(&args.owner));
    set("reason", text(&args.common.reason));
    let rate = |rate: &Option<String>| {
        rate.as_deref().map(|rate| match &args.burst {
            Some(burst) => json!({"rate": rate, "burst": burst}),
            None => json!({"rate": rate}),
        })
    };
    set("packets", rate(&args.packets));
    set("bytes", rate(&args.bytes));
    set("new_connections", rate(&args.new_connections));
    set("requests", rate(&args.requests));
    set("connections", args.connections.map(Value::from));
    let list = match args.list {
        List::Allow => "allow",
        List::Block => "block",
        List::Limit => "limits",
    };
    json!({ "version": 1, list: [rule] })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn check(line: &str, expected: &str) {
        let line = Line::parse_from(std::iter::once("add").chain(line.split(' ')));
        let text = document(&line.args).to_string();
        assert_eq!(text, expected);
        let policy =
            sensor_core::policy::parse("add", text.as_bytes(), sensor_core::time::UnixNs(0));
        assert_eq!(policy.unwrap().rules.len(), 1);
    }

    #[test]
    fn a_line_is_a_document_of_one_rule() {
        check(
            "block x --client 192.0.2.1,2001:db8::/32 --action reset --ttl 1h --reason CHG-1",
            r#"{"block":[{"action":"reset","clients":["192.0.2.1","2001:db8::/32"],"id":"x","reason":"CHG-1","ttl":"1h"}],"version":1}"#,
        );
        check(
            "limit l --packets 1000 --burst 2000 --port 8000-8099",
            r#"{"limits":[{"id":"l","packets":{"burst":"2000","rate":"1000"},"ports":["8000-8099"]}],"version":1}"#,
        );
        check("allow a -a any", r#"{"allow":[{"clients":["any"],"id":"a"}],"version":1}"#);
    }
}
