//! The object file to loaded programs and maps.
//!
//! A program that the verifier refuses does not stop the others: it is named in [`Loaded::degraded`]. The maps'
//! sizes and what is fixed for the life of a load (mode, test clock) are set here. Nothing is attached.

use std::{
    borrow::Cow,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, MapError, RingBuf},
    programs::{Program, ProgramError, ProgramFd, SchedClassifier, SocketFilter},
};
use sensor_ebpf::abi::settings::Settings;
use serde::Serialize;

use super::{
    attach::{LinkLayer, Programs},
    clients::ClientMaps,
    counters::Counters,
    layout::Layout,
    listeners::Listeners,
    pin::{PinError, Pins},
    policy_maps::PolicyMaps,
    repeats,
    settings::{First, SettingsMap, random_hash_key},
    switch,
    sys::{self, TcHook},
};

/// What says how the object is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// Observe removes the drop path from the programs.
    pub mode: Mode,
    /// Bytes of the ring buffer; a power of two of at least a page.
    pub ring_bytes: u32,
    /// Entries of the flow table, `None` for the object's own.
    pub flows: Option<u32>,
    /// The clock stands still unless a test moves it (test-run of limits).
    pub test_clock: bool,
    /// Resets are sent however many there are: for a benchmark, never on a network.
    pub resets_unbounded: bool,
    /// First settings; `hooks` and `heartbeat_ns` are kept by the agent.
    pub settings: Settings,
}

/// Whether packets may be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is ever dropped: the programs hold no drop path.
    #[default]
    Observe,
    /// Blocklist and limits are carried out.
    Enforce,
}

/// A program that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// Its name.
    pub program: &'static str,
    /// What the kernel said, its last lines.
    pub reason: String,
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This binary was built without the kernel object.
    #[error(
        "this build holds no eBPF object: run `cargo xtask build-ebpf` and build again, or give one with --ebpf-object FILE"
    )]
    NoObject,
    /// The file could not be read.
    #[error("read the eBPF object {path}: {source} (`cargo xtask build-ebpf` builds it)")]
    Object {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an object, or its maps could not be made.
    #[error("load the eBPF object: {0}")]
    Ebpf(#[from] aya::EbpfError),
    /// The object does not hold what this agent knows: another version.
    #[error(
        "the eBPF object has no map {0}: it is not of this version, run `cargo xtask build-ebpf`"
    )]
    NoMap(&'static str),
    /// A map could not be used.
    #[error("eBPF map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// What an earlier agent left cannot be taken over.
    #[error("take over what an earlier agent left: {0}")]
    Pins(#[from] PinError),
    /// Not one program was accepted.
    #[error("the kernel refused every program; the first, {}: {}", .0.program, .0.reason)]
    Refused(Degraded),
    /// A descriptor could not be had.
    #[error("eBPF program: {0}")]
    Program(#[from] io::Error),
}

/// What is in the kernel now.
pub(crate) struct Loaded {
    pub(crate) programs: Arc<Programs>,
    pub(crate) degraded: Vec<Degraded>,
    pub(crate) ring: RingBuf<MapData>,
    pub(crate) settings: Arc<SettingsMap>,
    pub(crate) counters: Counters,
    pub(crate) listeners: Listeners,
    pub(crate) policy: PolicyMaps,
    pub(crate) clients: ClientMaps,
    /// The layout's name, where the object tells it.
    pub(crate) layout: Option<String>,
    /// The maps were in use before, by an agent of the same layout.
    pub(crate) first: First,
    /// Owns the programs for test runs; the maps above are taken out of it.
    pub(crate) ebpf: Ebpf,
}

/// Makes further copies of the loaded programs.
pub(crate) struct Copies(Mutex<Ebpf>);

impl Copies {
    pub(crate) const fn new(ebpf: Ebpf) -> Self {
        Self(Mutex::new(ebpf))
    }

    /// Loads the program of a hook once more, on the same maps.
    pub(crate) fn copy(&self, hook: TcHook, layer: LinkLayer) -> io::Result<OwnedFd> {
        let name = Programs::name(hook, layer);
        let mut ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Program::SchedClassifier(program)) = ebpf.program_mut(name) {
            // Closes aya's descriptor only: ours, and what is attached, stay.
            program.unload().map_err(io::Error::other)?;
        }
        load_one(&mut ebpf, name).map_err(io::Error::other)
    }
}

/// Which programs a load is for: each costs the verifier its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of the TC hooks.
    Tc,
    /// That of the packet socket.
    Socket,
    /// Every program of the object, for test runs.
    All,
    /// The one that does nothing, for benchmarks.
    Empty,
}

impl Wanted {
    const fn programs(self) -> &'static [&'static str] {
        const ALL: &[&str] = &[
            "sensor_tc_ingress_eth",
            "sensor_tc_egress_eth",
            "sensor_tc_ingress_ip",
            "sensor_tc_egress_ip",
            "sensor_socket_eth",
            "sensor_empty",
        ];
        match self {
            Self::All => ALL,
            Self::Tc => ALL.split_at(4).0,
            Self::Socket => ALL.split_at(4).1.split_at(1).0,
            Self::Empty => ALL.split_at(5).1,
        }
    }
}

/// Lines of the verifier's log that a reason keeps.
const REASON_LINES: usize = 4;

/// The object: from a file, or the one built into this binary.
pub fn object(path: Option<&Path>) -> Result<Cow<'static, [u8]>, LoadError> {
    match path {
        Some(path) => std::fs::read(path)
            .map(Cow::Owned)
            .map_err(|source| LoadError::Object { path: path.to_owned(), source }),
        None => EMBEDDED.map(Cow::Borrowed).ok_or(LoadError::NoObject),
    }
}

/// The object that the build script found fresh.
#[cfg(ebpf_object)]
const EMBEDDED: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("SENSOR_EBPF_OBJECT")));

#[cfg(not(ebpf_object))]
const EMBEDDED: Option<&[u8]> = None;

/// Loads the object. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. `earlier` are the layouts that this instance has pinned: what was
/// switched off in one of them stays so in maps that are new.
pub(crate) fn load(
    object: &[u8],
    config: &LoadConfig,
    wanted: Wanted,
    pins: Option<&Pins>,
    earlier: &[PathBuf],
) -> Result<Loaded, LoadError> {
    let enforce = u32::from(config.mode == Mode::Enforce);
    let test_clock = u32::from(config.test_clock);
    let resets_unbounded = u32::from(config.resets_unbounded);
    let [reset_key, _] = random_hash_key();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("ENFORCE", &enforce, true)
        .override_global("TEST_CLOCK", &test_clock, true)
        .override_global("RESET_KEY", &reset_key, true)
        .override_global("RESETS_UNBOUNDED", &resets_unbounded, true);
    let sizes = sizes(config)?;
    for (name, entries) in &sizes {
        loader.map_max_entries(name, *entries);
    }
    let layout = Layout::of(object, &sizes);
    if let (Some(pins), Some(layout)) = (pins, &layout) {
        pins.enter(layout)?;
        for name in layout.maps.keys() {
            if let Some(path) = pins.map(name) {
                loader.map_pin_path(name, path);
            }
        }
    }
    let mut ebpf = loader.load(object)?;
    let (programs, degraded) = load_programs(&mut ebpf, wanted)?;
    let ring = RingBuf::try_from(take(&mut ebpf, "RING")?)
        .map_err(|source| LoadError::Map { name: "RING", source })?;
    // Asked when the new maps are pinned: whoever switches from now on finds them too.
    let off = switched_off(earlier);
    let first = Settings { enforcement_off: u32::from(off), ..config.settings };
    let (settings, first) = SettingsMap::new(take(&mut ebpf, "SETTINGS")?, first)
        .map_err(|source| LoadError::Map { name: "SETTINGS", source: MapError::IoError(source) })?;
    if off && first == First::Fresh {
        tracing::warn!(
            "enforcement was switched off under an earlier agent and stays off: `sensor-agent enforcement on` switches it on"
        );
    }
    let settings = Arc::new(settings);
    Ok(Loaded {
        programs: Arc::new(programs),
        degraded,
        ring,
        counters: Counters::new(take(&mut ebpf, "COUNTERS")?)
            .map_err(|source| LoadError::Map { name: "COUNTERS", source })?,
        listeners: Listeners::new(take(&mut ebpf, "LISTENERS")?)
            .map_err(|source| LoadError::Map { name: "LISTENERS", source })?,
        policy: PolicyMaps::new(&mut ebpf, Arc::clone(&settings))?,
        clients: ClientMaps::new(&mut ebpf)?,
        settings,
        layout: layout.map(|layout| layout.name),
        first,
        ebpf,
    })
}

/// Whether enforcement is switched off in one of these layouts. One that cannot be read says nothing.
fn switched_off(layouts: &[PathBuf]) -> bool {
    layouts.iter().any(|layout| {
        switch::is_off(layout).unwrap_or_else(|error| {
            let layout = layout.display();
            tracing::warn!(%layout, %error, "whether enforcement was switched off there is not known");
            false
        })
    })
}

/// Numbers of entries that differ from the object's own.
fn sizes(config: &LoadConfig) -> Result<Vec<(&'static str, u32)>, LoadError> {
    let all = [
        ("RING", Some(config.ring_bytes)),
        ("FLOWS", config.flows),
        // Who only observes drops nothing.
        ("REPEATS", (config.mode == Mode::Enforce).then(repeats::rows).transpose()?),
    ];
    Ok(all.into_iter().filter_map(|(name, entries)| Some((name, entries?))).collect())
}

/// Takes a map out of the object.
pub(crate) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::NoMap(name))
}

fn load_programs(ebpf: &mut Ebpf, wanted: Wanted) -> Result<(Programs, Vec<Degraded>), LoadError> {
    let mut programs = Programs::default();
    let mut degraded = Vec::new();
    for name in wanted.programs() {
        match load_one(ebpf, name) {
            Ok(program) => {
                programs.ids.push(sys::program_id(program.as_fd())?);
                programs.insert(name, program);
            }
            Err(reason) => degraded.push(Degraded { program: name, reason }),
        }
    }
    match degraded.first() {
        Some(first) if programs.ids.is_empty() => Err(LoadError::Refused(first.clone())),
        _ => Ok((programs, degraded)),
    }
}

fn load_one(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd, String> {
    let program = ebpf.program_mut(name).ok_or_else(|| "not in the eBPF object".to_owned())?;
    let fd = |fd: &ProgramFd| fd.as_fd().try_clone_to_owned().map_err(|error| error.to_string());
    match program {
        Program::SchedClassifier(program) => {
            SchedClassifier::load(program).map_err(|error| reason(&error))?;
            fd(program.fd().map_err(|error| reason(&error))?)
        }
        Program::SocketFilter(program) => {
            SocketFilter::load(program).map_err(|error| reason(&error))?;
            fd(program.fd().map_err(|error| reason(&error))?)
        }
        other => Err(format!("is a program of another type ({:?})", other.prog_type())),
    }
}

/// The last lines of the verifier's log say why.
fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.get(lines.len().saturating_sub(REASON_LINES)..).unwrap_or_default();
            format!("{io_error}; verifier: {}", last.join(" | "))
        }
        other => other.to_string(),
    }
}
