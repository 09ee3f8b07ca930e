//! What the program sees: every field present and valid, checked once.
//!
//! Where a value must be refused here (a bound that needs two fields, a path that must be there), the error names
//! the key and the bound.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{
    callers,
    file::ConfigError,
    raw::{ClientAddress, ForwardedHeader, Hook, Mode, Pin, Raw, SamplingBudget, TcAttach},
    units::{Share, Span},
};
use crate::sink::SinkSpec;
use sensor_core::{
    digest::Digest,
    inventory::{ExposureNets, OwnerGlobs},
    policy::{Demands, ReasonPattern},
    time::UnixNs,
};

/// Interfaces by name globs (`*`, `?`), each with `@PATH` behind it when it is in another network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interfaces {
    /// Watched when one of these matches.
    pub include: Vec<String>,
    /// Left alone when one of these matches, whatever `include` says.
    pub exclude: Vec<String>,
}

/// Where the own metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsListen {
    /// Nowhere.
    Off,
    /// On this address.
    At(SocketAddr),
}

/// What is asked while a policy is on trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Where.
    pub address: SocketAddr,
    /// Path of a GET that must be answered with 2xx or 3xx; none = a connection is enough.
    pub path: Option<String>,
}

/// The configuration of `run`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Observe or enforce.
    pub mode: Mode,
    /// TC or AF_PACKET.
    pub hook: Hook,
    /// TCX or clsact.
    pub tc_attach: TcAttach,
    /// Which interfaces.
    pub interfaces: Interfaces,
    /// Namespace of the globs that name none, if not this one.
    pub netns: Option<PathBuf>,
    /// Whether enforcement outlives the agent.
    pub pin: Pin,
    /// Folder in bpffs.
    pub pin_folder: PathBuf,
    /// Name of this sensor; letters, digits, `-` and `_`, [`Config::INSTANCE_BYTES`].
    pub instance: String,
    /// Silence of the agent after which rules only monitor; none = they stay in force.
    pub stale_open_after: Option<Duration>,
    /// Share of flows sampled.
    pub sampling: Share,
    /// Whether it follows the fill of the ring.
    pub sampling_budget: SamplingBudget,
    /// Power of two, [`Config::RING_BYTES`].
    pub ring_bytes: u32,
    /// [`Config::HEAD_BYTES`].
    pub head_bytes_max: u32,
    /// [`Config::FLOWS`].
    pub flows_max: u32,
    /// [`Config::POLL_MS`].
    pub poll_interval: Duration,
    /// Activity window of the state table.
    pub window: Duration,
    /// Folder of API documents.
    pub catalogue: Option<PathBuf>,
    /// File of path templates.
    pub templates: Option<PathBuf>,
    /// Policy file.
    pub policy: Option<PathBuf>,
    /// What the reason of every rule must match.
    pub require_reason: Option<ReasonPattern>,
    /// Prefixes that nothing is dropped of: the first failsafe entries.
    pub protected: Vec<IpNet>,
    /// Everything events go to, upstream included.
    pub sinks: Vec<SinkSpec>,
    /// One event per exchange too.
    pub exchange_events: bool,
    /// How client addresses leave.
    pub client_address: ClientAddress,
    /// Folder of the store.
    pub store: PathBuf,
    /// Control socket.
    pub socket: PathBuf,
    /// Group that may read by it.
    pub socket_group: Option<String>,
    /// Group that may change the policy.
    pub write_group: Option<String>,
    /// Proxies whose word counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Header field that they write.
    pub forwarded_header: ForwardedHeader,
    /// Networks of callers by class.
    pub exposure: ExposureNets,
    /// Owners of APIs by host name.
    pub owners: OwnerGlobs,
    /// Share of a service's clients that a rule may hit.
    pub guard_max_share: Share,
    /// Asked while a policy is on trial.
    pub policy_health: Option<HealthCheck>,
    /// Own metrics.
    pub metrics: MetricsListen,
    /// Object in place of the embedded one.
    pub ebpf_object: Option<PathBuf>,
}

impl Config {
    /// Where the upstreams are, as of now. A name that cannot be resolved is no address to protect.
    #[must_use]
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        let addresses = |url: &str| {
            let authority = url.strip_prefix("http://").unwrap_or(url);
            authority.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default()
        };
        self.sinks.iter().filter_map(SinkSpec::upstream).flat_map(addresses).collect()
    }

    /// What a policy is checked against, beside itself.
    #[must_use]
    pub fn demands(&self, changed: UnixNs) -> Demands {
        Demands { changed, reasons: self.require_reason.clone().into_iter().collect() }
    }

    /// Prefixes in `protected` at most: each takes one of the failsafe entries.
    pub const PROTECTED_MAX: usize = 16;
    /// Limits of `ring_bytes`.
    pub const RING_BYTES: (u64, u64) = (4 << 10, 1 << 30);
    /// Default of `ring_bytes`.
    pub const RING_BYTES_DEFAULT: u64 = 8 << 20;
    /// Limits of `head_bytes_max`.
    pub const HEAD_BYTES: (u64, u64) = (256, 64 << 10);
    /// Default of `head_bytes_max`.
    pub const HEAD_BYTES_DEFAULT: u64 = 16 << 10;
    /// Limits of `flows_max`.
    pub const FLOWS: (u64, u64) = (16, 4 << 20);
    /// Default of `flows_max`.
    pub const FLOWS_DEFAULT: u32 = 65_536;
    /// Limits of `poll_interval`, milliseconds.
    pub const POLL_MS: (u64, u64) = (1, 1_000);
    /// Default of `poll_interval`, milliseconds.
    pub const POLL_MS_DEFAULT: u64 = 10;
    /// Where links and maps are pinned unless another folder is named.
    pub const PIN_FOLDER_DEFAULT: &str = "/sys/fs/bpf/api-sensor";
    /// Limits of the length of `instance`.
    pub const INSTANCE_BYTES: (usize, usize) = (1, 64);
    /// Limits of `stale_open_after`, seconds: the agent gives a sign of life every second.
    pub const STALE_SECONDS: (u64, u64) = (10, 30 * 86_400);
    /// Limits of `window`, days.
    pub const WINDOW_DAYS: (u64, u64) = (0, 3_650);
    /// Default of `window`, days.
    pub const WINDOW_DAYS_DEFAULT: u64 = 30;
    /// Default of `guard_max_share`.
    pub const GUARD_MAX_SHARE_DEFAULT: &str = "5%";
    /// Proxies that can be named.
    pub const TRUSTED_PROXIES_MAX: usize = 256;
    /// Default of `metrics_listen`.
    pub const METRICS_DEFAULT: &str = "127.0.0.1:9464";

    /// Checks what was written and fills in the defaults.
    pub fn resolve(raw: Raw) -> Result<Self, ConfigError> {
        let mode = raw.mode.unwrap_or_default();
        let hook = raw.hook.unwrap_or_default();
        if hook == Hook::Socket && mode == Mode::Enforce {
            return Err(ConfigError::Value {
                key: "hook",
                problem: "a socket only observes: with mode `enforce` write `hook: tc`".into(),
            });
        }
        let ring_bytes = within(
            "ring_bytes",
            raw.ring_bytes.map_or(Self::RING_BYTES_DEFAULT, |bytes| bytes.0),
            Self::RING_BYTES,
        )?;
        if !ring_bytes.is_power_of_two() {
            let (below, above) = (1 << ring_bytes.ilog2(), ring_bytes.next_power_of_two());
            return Err(ConfigError::Value {
                key: "ring_bytes",
                problem: format!("{ring_bytes} is not a power of two: write {below} or {above}"),
            });
        }
        let window = raw
            .window
            .map_or(Duration::from_secs(Self::WINDOW_DAYS_DEFAULT * 86_400), |span| span.0);
        within("window", window.as_secs() / 86_400, Self::WINDOW_DAYS)?;
        let poll_ms =
            raw.poll_interval.map_or(u128::from(Self::POLL_MS_DEFAULT), |span| span.0.as_millis());
        let poll_ms =
            within("poll_interval", u64::try_from(poll_ms).unwrap_or(u64::MAX), Self::POLL_MS)?;
        let flows_max =
            within("flows_max", raw.flows_max.unwrap_or(Self::FLOWS_DEFAULT).into(), Self::FLOWS)?;
        let head_bytes = within(
            "head_bytes_max",
            raw.head_bytes_max.map_or(Self::HEAD_BYTES_DEFAULT, |bytes| bytes.0),
            Self::HEAD_BYTES,
        )?;
        if let Some(Span(stale)) = raw.stale_open_after {
            within("stale_open_after", stale.as_secs(), Self::STALE_SECONDS)?;
        }
        let socket = raw.socket.unwrap_or_else(default_socket);
        Ok(Self {
            mode,
            hook,
            tc_attach: raw.tc_attach.unwrap_or_default(),
            pin: raw.pin.unwrap_or_default(),
            pin_folder: raw.pin_folder.unwrap_or_else(|| Self::PIN_FOLDER_DEFAULT.into()),
            instance: instance(raw.instance, &socket)?,
            stale_open_after: raw.stale_open_after.map(|span| span.0),
            interfaces: interfaces(raw.interfaces, raw.exclude_interfaces)?,
            netns: raw.netns.map(netns_path),
            sampling: raw.sampling.unwrap_or(Share::ALL),
            sampling_budget: raw.sampling_budget.unwrap_or_default(),
            ring_bytes,
            head_bytes_max: head_bytes,
            flows_max,
            poll_interval: Duration::from_millis(poll_ms.into()),
            window,
            catalogue: raw.catalogue,
            templates: raw.templates,
            policy: raw.policy,
            require_reason: raw.require_reason.as_deref().map(reason).transpose()?,
            protected: protected(raw.protected.unwrap_or_default())?,
            sinks: sinks(raw.upstream, raw.sinks)?,
            exchange_events: raw.exchange_events.unwrap_or(false),
            client_address: raw.client_address.unwrap_or_default(),
            store: raw.store.unwrap_or_else(default_store),
            socket,
            socket_group: raw.socket_group,
            write_group: raw.write_group,
            trusted_proxies: prefixes("trusted_proxies", &raw.trusted_proxies.unwrap_or_default())?,
            forwarded_header: raw.forwarded_header.unwrap_or_default(),
            exposure: raw.exposure.unwrap_or_default().resolve()?,
            owners: callers::owners(&raw.owners.unwrap_or_default())?,
            guard_max_share: match raw.guard_max_share {
                Some(share) => share,
                None => Self::GUARD_MAX_SHARE_DEFAULT.parse().map_err(|_| ConfigError::Value {
                    key: "guard_max_share",
                    problem: "the default is no share".into(),
                })?,
            },
            policy_health: raw.policy_health.as_deref().map(health).transpose()?,
            metrics: metrics(raw.metrics_listen.as_deref())?,
            ebpf_object: raw.ebpf_object,
        })
    }
}

/// A value within its limits, as u32 (every upper limit is below 2^32).
fn within(key: &'static str, value: u64, (min, max): (u64, u64)) -> Result<u32, ConfigError> {
    u32::try_from(value).ok().filter(|_| (min..=max).contains(&value)).ok_or_else(|| {
        ConfigError::Value {
            key,
            problem: format!("{value} is out of bounds: write a value from {min} to {max}"),
        }
    })
}

fn reason(pattern: &str) -> Result<ReasonPattern, ConfigError> {
    ReasonPattern::new(pattern, "the agent's configuration (require_reason)")
        .map_err(|problem| ConfigError::Value { key: "require_reason", problem })
}

fn protected(texts: Vec<String>) -> Result<Vec<IpNet>, ConfigError> {
    let wrong = |problem| ConfigError::Value { key: "protected", problem };
    if texts.len() > Config::PROTECTED_MAX {
        return Err(wrong(format!(
            "{} prefixes are over the limit of {}: join them into wider ones",
            texts.len(),
            Config::PROTECTED_MAX
        )));
    }
    let mut prefixes = Vec::new();
    for text in texts {
        prefixes.extend(sensor_core::policy::parse_clients(&text).map_err(wrong)?);
    }
    Ok(prefixes)
}

fn interfaces(
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
) -> Result<Interfaces, ConfigError> {
    let include = include.unwrap_or_else(|| vec!["*".into()]);
    let exclude = exclude.unwrap_or_default();
    for (key, globs) in [("interfaces", &include), ("exclude_interfaces", &exclude)] {
        // IFNAMSIZ is 16 with its zero: a longer name cannot match anything, and no name has a blank.
        let wrong = |glob: &&String| {
            let name = glob.split('@').next().unwrap_or_default();
            glob.is_empty() || name.contains(['/', ' ']) || (name.len() > 15 && !name.contains('*'))
        };
        if let Some(glob) = globs.iter().find(wrong) {
            return Err(ConfigError::Value {
                key,
                problem: format!(
                    "`{glob}` matches no interface name: write a name or a glob, such as eth0, veth* or eth0@/run/netns/blue"
                ),
            });
        }
    }
    if include.is_empty() {
        return Err(ConfigError::Value {
            key: "interfaces",
            problem: "the list is empty: leave the key out for all interfaces".into(),
        });
    }
    Ok(Interfaces { include, exclude })
}

/// A name as `ip netns` knows it, or a path.
fn netns_path(given: PathBuf) -> PathBuf {
    if given.components().count() == 1 && !given.starts_with(".") {
        Path::new("/run/netns").join(given)
    } else {
        given
    }
}

/// The name of this sensor. Two sensors need sockets of their own, so a name made from the socket tells them apart.
fn instance(named: Option<String>, socket: &Path) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let (min, max) = Config::INSTANCE_BYTES;
    if let Some(name) = named {
        if (min..=max).contains(&name.len()) && name.chars().all(allowed) {
            return Ok(name);
        }
        return Err(ConfigError::Value {
            key: "instance",
            problem: format!(
                "`{name}` is no name: write {min} to {max} letters, digits, `-` or `_`"
            ),
        });
    }
    // An agent with capabilities of its own, without root, is the host's too where it answers at the host's socket.
    if socket == default_socket() || socket == Path::new(SYSTEM_SOCKET) {
        return Ok("default".into());
    }
    let mut digest = Digest::default();
    digest.field(socket.as_os_str().as_encoded_bytes());
    Ok(format!("socket-{:016x}", digest.value()))
}

fn health(text: &str) -> Result<HealthCheck, ConfigError> {
    let wrong = || ConfigError::Value {
        key: "policy_health",
        problem: format!(
            "`{text}` is no check: write http://127.0.0.1:8080/healthz or tcp://127.0.0.1:8080"
        ),
    };
    let (kind, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = authority.parse().map_err(|_| wrong())?;
    let plain = |path: &str| path.bytes().all(|byte| byte.is_ascii_graphic());
    match (kind, path) {
        ("tcp", "" | "/") => Ok(HealthCheck { address, path: None }),
        ("http", "") => Ok(HealthCheck { address, path: Some("/".into()) }),
        ("http", path) if plain(path) => Ok(HealthCheck { address, path: Some(path.into()) }),
        _ => Err(wrong()),
    }
}

fn prefixes(key: &'static str, texts: &[String]) -> Result<Vec<IpNet>, ConfigError> {
    if texts.len() > Config::TRUSTED_PROXIES_MAX {
        let problem = format!("{} are more than {}", texts.len(), Config::TRUSTED_PROXIES_MAX);
        return Err(ConfigError::Value { key, problem });
    }
    let parse = |text: &String| prefix(text).map_err(|problem| ConfigError::Value { key, problem });
    texts.iter().map(parse).collect()
}

/// Reads an address or prefix, or says what to write.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| {
        format!("`{text}` is no address or prefix: write one such as 192.0.2.10 or 10.0.0.0/24")
    })
}

fn sinks(
    upstream: Option<String>,
    sinks: Option<Vec<String>>,
) -> Result<Vec<SinkSpec>, ConfigError> {
    let parse = |key, text: String| {
        SinkSpec::parse(&text)
            .map_err(|error| ConfigError::Value { key, problem: error.to_string() })
    };
    let upstream = upstream.into_iter().map(|url| parse("upstream", url));
    upstream.chain(sinks.into_iter().flatten().map(|text| parse("sinks", text))).collect()
}

fn metrics(text: Option<&str>) -> Result<MetricsListen, ConfigError> {
    let text = text.unwrap_or(Config::METRICS_DEFAULT);
    if text == "off" {
        return Ok(MetricsListen::Off);
    }
    text.parse().map(MetricsListen::At).map_err(|_| ConfigError::Value {
        key: "metrics_listen",
        problem: format!(
            "`{text}` is not an address: write one with its port, such as {}, or off",
            Config::METRICS_DEFAULT
        ),
    })
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Folder of the store where none is configured.
pub(crate) fn default_store() -> PathBuf {
    if is_root() {
        "/var/lib/api-sensor".into()
    } else {
        user_folder("XDG_STATE_HOME", ".local/state")
    }
}

/// Control socket of root's agent where none is configured.
pub(crate) const SYSTEM_SOCKET: &str = "/run/api-sensor/agent.sock";

/// Control socket where none is configured.
pub(crate) fn default_socket() -> PathBuf {
    if is_root() {
        SYSTEM_SOCKET.into()
    } else {
        user_folder("XDG_RUNTIME_DIR", ".local/state").join("agent.sock")
    }
}

fn user_folder(variable: &str, under_home: &str) -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set(variable).filter(|path| path.is_absolute());
    base.or_else(|| set("HOME").map(|home| home.join(under_home)))
        .unwrap_or_else(|| ".".into())
        .join("api-sensor")
}

#[cfg(test)]
mod tests;
