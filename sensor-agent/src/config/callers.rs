//! `exposure` and `owners` of the configuration: networks of callers by class, and owners of APIs by host name.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use sensor_core::inventory::{Exposure, ExposureNets, NETS_MAX, OWNER_GLOBS_MAX, OwnerGlobs};
use serde::{Deserialize, Serialize};

use super::file::ConfigError;

/// Networks that callers come from, by class: the longest prefix counts. Addresses in none of them are loopback, of this host (its own, and its
/// workloads'), private (RFC 1918, RFC 4193, RFC 6598, link-local), or public
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawExposure {
    /// This host, seen under addresses that it does not know as its own
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<String>,
    /// Pods, services and nodes of the cluster
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster: Vec<String>,
    /// The organisation's networks that are not private by themselves
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<String>,
    /// Partners' networks
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partner: Vec<String>,
    /// Private addresses that anyone reaches us by, such as those of a load balancer that hides its clients
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<String>,
}

impl RawExposure {
    /// Checks the networks.
    pub(super) fn resolve(&self) -> Result<ExposureNets, ConfigError> {
        let wrong = |problem| ConfigError::File { key: "exposure", problem };
        let classes = [
            (&self.host, Exposure::Host),
            (&self.cluster, Exposure::Cluster),
            (&self.private, Exposure::Private),
            (&self.partner, Exposure::Partner),
            (&self.public, Exposure::Public),
        ];
        let mut nets: BTreeMap<IpNet, Exposure> = BTreeMap::new();
        for (texts, class) in classes {
            for text in texts {
                let net = super::resolved::prefix(text).map_err(wrong)?.trunc();
                match nets.insert(net, class) {
                    Some(other) if other != class => {
                        let (first, second) = (other.as_str(), class.as_str());
                        return Err(wrong(format!(
                            "`{net}` is both {first} and {second}: write it in one of them"
                        )));
                    }
                    _ => {}
                }
            }
        }
        if nets.len() > NETS_MAX {
            return Err(wrong(format!("{} networks are more than {NETS_MAX}", nets.len())));
        }
        Ok(ExposureNets::new(nets))
    }
}

/// Checks owners by glob.
pub(super) fn owners(raw: &BTreeMap<String, String>) -> Result<OwnerGlobs, ConfigError> {
    let wrong = |problem| ConfigError::File { key: "owners", problem };
    if raw.len() > OWNER_GLOBS_MAX {
        return Err(wrong(format!("{} globs are more than {OWNER_GLOBS_MAX}", raw.len())));
    }
    if let Some((glob, _)) = raw.iter().find(|(_, owner)| !is_plain(owner)) {
        return Err(wrong(format!(
            "the owner of `{glob}` is empty, longer than {OWNER_BYTES_MAX} bytes, or not plain text"
        )));
    }
    let pairs = raw.iter().map(|(glob, owner)| (&**glob, owner.trim()));
    OwnerGlobs::new(pairs).map_err(|error| wrong(error.to_string()))
}

fn is_plain(owner: &str) -> bool {
    let owner = owner.trim();
    !owner.is_empty() && owner.len() <= OWNER_BYTES_MAX && !owner.chars().any(char::is_control)
}

/// Reads `CLASS=CIDR` of a command line into the configuration's form.
pub fn exposure_flags(flags: &[String]) -> Result<ExposureNets, String> {
    let mut raw = RawExposure::default();
    for flag in flags {
        let form = || format!("`{flag}`: write CLASS=CIDR, such as partner=198.51.100.0/24");
        let (class, net) = flag.split_once('=').ok_or_else(form)?;
        let list = match class {
            "host" => &mut raw.host,
            "cluster" => &mut raw.cluster,
            "private" => &mut raw.private,
            "partner" => &mut raw.partner,
            "public" => &mut raw.public,
            _ => {
                return Err(format!(
                    "{}; a class is host, cluster, private, partner or public",
                    form()
                ));
            }
        };
        list.push(net.to_owned());
    }
    raw.resolve().map_err(problem)
}

/// Reads `GLOB=OWNER` of a command line.
pub fn owner_flags(flags: &[String]) -> Result<OwnerGlobs, String> {
    let mut raw = BTreeMap::new();
    for flag in flags {
        let (glob, owner) = flag.split_once('=').ok_or_else(|| {
            format!("`{flag}`: write GLOB=OWNER, such as *.pay.example.com=payments")
        })?;
        raw.insert(glob.to_owned(), owner.to_owned());
    }
    owners(&raw).map_err(problem)
}

fn problem(error: ConfigError) -> String {
    match error {
        ConfigError::File { problem, .. } => problem,
        other => other.to_string(),
    }
}

const OWNER_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(flags: &[&str]) -> String {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        exposure_flags(&flags).expect_err("must be refused")
    }

    #[test]
    fn what_is_wrong_with_networks_is_said() {
        assert!(refused(&["partner=10.0.0.0/40"]).contains("10.0.0.0/40"));
        assert!(refused(&["friend=10.0.0.0/8"]).contains("host, cluster, private"));
        assert!(refused(&["10.0.0.0/8"]).contains("CLASS=CIDR"));
        let twice = refused(&["partner=10.0.0.1/8", "cluster=10.0.0.0/8"]);
        assert!(twice.contains("`10.0.0.0/8` is both cluster and partner"), "{twice}");
    }

    #[test]
    fn what_is_wrong_with_owners_is_said() {
        let refused = |flag: &str| owner_flags(&[flag.to_owned()]).expect_err("must be refused");
        assert!(refused("a.example").contains("GLOB=OWNER"));
        assert!(refused("a.example=").contains("empty"));
        assert!(refused("http://a.example=x").contains("no host name or glob"));
        assert!(owner_flags(&["*.example=Team One".into()]).is_ok());
    }
}
