//! Runs one loaded program on bytes (`BPF_PROG_TEST_RUN`): for the golden packets and the benchmarks.
//!
//! Nothing is attached. The kernel takes no packet shorter than 14 bytes, and recent ones none that an Ethernet type
//! announces as IP and that ends within the IP header: [`TestRunError::TooShort`].

use std::{io, os::fd::AsFd as _, sync::Arc, time::Duration};

use aya::{
    maps::{HashMap, MapData},
    programs::{Program, ProgramError, TcAttachType, TestRun, TestRunOptions},
};
use sensor_core::policy::image::PolicyImage;
use sensor_ebpf::abi::{
    dynamic::{DropKey, DropValue, Handshake, Verdict},
    flow_key::FlowKey,
    image::Line,
    policy::RuleHits,
    settings::Settings,
};

pub use self::spread::Spread;
use super::{
    clients::{ClientCounts, ClientMaps},
    counters::{Counters, KernelLedger},
    load::{self, Degraded, LoadConfig, LoadError, Wanted},
    pod::Wire,
    policy_maps::{ApplyError, Install, Installed, PolicyMaps},
    ring::Ring,
    settings::SettingsMap,
};

mod plain;
mod reads;
mod spread;

/// An object that is loaded and not attached.
pub struct Bench {
    ebpf: aya::Ebpf,
    counters: Counters,
    policy: PolicyMaps,
    clients: ClientMaps,
    proven: HashMap<MapData, [u8; 16], u64>,
    handshakes: HashMap<MapData, Wire<FlowKey>, Wire<Handshake>>,
    settings: Arc<SettingsMap>,
    ring: Ring,
    degraded: Vec<Degraded>,
}

/// Why a test run failed.
#[derive(Debug, thiserror::Error)]
pub enum TestRunError {
    /// The object has no such program, or one that cannot be test-run.
    #[error("no TC program {0}")]
    NoProgram(String),
    /// The kernel does not make an skb of so few bytes.
    #[error("too short for a test run")]
    TooShort,
    /// The kernel said no.
    #[error(transparent)]
    Run(ProgramError),
}

/// What a test run gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The program's return value (`TC_ACT_*`).
    pub action: i32,
    /// Mean time of one run.
    pub duration: Duration,
}

impl Bench {
    /// Loads an object.
    pub fn load(object: &[u8], config: &LoadConfig) -> Result<Self, LoadError> {
        Self::of(object, config, Wanted::All)
    }

    /// Loads of an object the program that does nothing.
    pub fn load_empty(object: &[u8], config: &LoadConfig) -> Result<Self, LoadError> {
        Self::of(object, config, Wanted::Empty)
    }

    fn of(object: &[u8], config: &LoadConfig, wanted: Wanted) -> Result<Self, LoadError> {
        let mut loaded = load::load(object, config, wanted, None, &[])?;
        let failed = |name| move |source| LoadError::Map { name, source };
        let proven = HashMap::try_from(load::take(&mut loaded.ebpf, "PROVEN")?);
        let handshakes = HashMap::try_from(load::take(&mut loaded.ebpf, "HANDSHAKES")?);
        Ok(Self {
            ebpf: loaded.ebpf,
            counters: loaded.counters,
            policy: loaded.policy,
            clients: loaded.clients,
            proven: proven.map_err(failed("PROVEN"))?,
            handshakes: handshakes.map_err(failed("HANDSHAKES"))?,
            settings: Arc::clone(&loaded.settings),
            ring: Ring::new(loaded.ring, loaded.settings, config.ring_bytes),
            degraded: loaded.degraded,
        })
    }

    /// Programs that the verifier refused.
    #[must_use]
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// Runs a TC program on a packet, `repeat` times.
    pub fn run(&self, program: &str, packet: &[u8], repeat: u32) -> Result<Ran, TestRunError> {
        let Some(Program::SchedClassifier(classifier)) = self.ebpf.program(program) else {
            return Err(TestRunError::NoProgram(program.to_owned()));
        };
        let options = TestRunOptions { data_in: Some(packet), repeat, ..TestRunOptions::default() };
        let result = classifier.test_run(options).map_err(refused)?;
        Ok(Ran { action: result.return_value.cast_signed(), duration: result.duration })
    }

    /// Attaches a TC program (TCX) to both directions of a device, for as long as this lives.
    pub fn attach(&mut self, program: &str, device: &str) -> Result<(), TestRunError> {
        let Some(Program::SchedClassifier(classifier)) = self.ebpf.program_mut(program) else {
            return Err(TestRunError::NoProgram(program.to_owned()));
        };
        for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
            classifier.attach(device, direction).map_err(TestRunError::Run)?;
        }
        Ok(())
    }

    /// Prepares runs of a TC program over many source addresses (IPv4 v4-mapped), whose number is a power of two.
    pub fn spread(&self, program: &str, addresses: &[[u8; 16]]) -> io::Result<Spread> {
        let Some(Program::SchedClassifier(classifier)) = self.ebpf.program(program) else {
            return Err(io::Error::other(format!("no TC program {program}")));
        };
        let program = classifier.fd().map_err(io::Error::other)?;
        Spread::new(program.as_fd(), addresses)
    }

    /// The same for a program that does nothing but read one random word in each of some arrays of these sizes (bytes, powers of two),
    /// chosen by the packet's source.
    pub fn spread_reads(arrays: &[u32], addresses: &[[u8; 16]]) -> io::Result<Spread> {
        let reads = reads::load(arrays, addresses.iter().all(spread::is_four))?;
        Spread::new(reads.as_fd(), addresses)
    }

    /// Runs a TC program on a packet once; gives its return value and the packet as the program left it.
    pub fn rewritten(&self, program: &str, packet: &[u8]) -> Result<(i32, Vec<u8>), TestRunError> {
        let Some(Program::SchedClassifier(classifier)) = self.ebpf.program(program) else {
            return Err(TestRunError::NoProgram(program.to_owned()));
        };
        let mut left = vec![0; packet.len()];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut left),
            ..TestRunOptions::default()
        };
        let result = classifier.test_run(options).map_err(refused)?;
        left.truncate(usize::try_from(result.data_size_out).unwrap_or(0));
        Ok((result.return_value.cast_signed(), left))
    }

    /// Time of as many plain inserts into a hash and a trie, of IPv4 prefixes (address, length).
    pub fn plain_inserts(prefixes: &[([u8; 4], u8)]) -> io::Result<Duration> {
        plain::inserts(prefixes)
    }

    /// Instructions that the verifier walked for a program.
    #[must_use]
    pub fn verified_instructions(&self, program: &str) -> Option<u32> {
        self.ebpf.program(program)?.info().ok()?.verified_instruction_count()
    }

    /// The counters.
    pub fn ledger(&self) -> Result<KernelLedger, aya::maps::MapError> {
        self.counters.read()
    }

    /// Puts a policy in force.
    pub fn publish(
        &mut self,
        image: &PolicyImage,
        install: Install,
    ) -> Result<Installed, ApplyError> {
        self.policy.publish(image, install)
    }

    /// Forgets which addresses are proven, and their handshakes and connections.
    pub fn forget_clients(&mut self) -> Result<(), aya::maps::MapError> {
        for key in self.proven.keys().collect::<Result<Vec<_>, _>>()? {
            self.proven.remove(&key)?;
        }
        for key in self.handshakes.keys().collect::<Result<Vec<_>, _>>()? {
            self.handshakes.remove(&key)?;
        }
        self.clients.forget_connections()
    }

    /// Recounts open connections, and lets clients go whose allowance is whole again, as of `now_ns`.
    pub fn recount_clients(&mut self, now_ns: u64) -> Result<ClientCounts, aya::maps::MapError> {
        self.clients.recount(now_ns)
    }

    /// Makes the provisional policy the confirmed one.
    pub fn confirm_policy(&mut self) -> Result<(), ApplyError> {
        self.policy.confirm()
    }

    /// Ends the provisional policy.
    pub fn revert_policy(&mut self) -> Result<(), ApplyError> {
        self.policy.revert().map(drop)
    }

    /// The word that puts the policy in force (`Settings::policy`).
    #[must_use]
    pub fn policy_word(&self) -> u64 {
        self.settings.current().policy
    }

    /// Changes settings as the agent does.
    pub fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> std::io::Result<()> {
        self.settings.update(change)
    }

    /// Hits by their number.
    pub fn rule_hits(&self) -> Result<Vec<RuleHits>, aya::maps::MapError> {
        self.policy.hits()
    }

    /// What was dropped.
    #[must_use]
    pub fn drops(&mut self) -> Vec<(DropKey, DropValue)> {
        self.policy.drops()
    }

    /// Sets or ends the agent's verdict on a flow.
    pub fn verdict_flow(
        &mut self,
        key: FlowKey,
        verdict: Option<Verdict>,
    ) -> Result<(), aya::maps::MapError> {
        self.policy.verdict_flow(key, verdict)
    }

    /// Sets or ends the agent's verdict on a client.
    pub fn verdict_client(
        &mut self,
        client: [u8; 16],
        verdict: Option<Verdict>,
    ) -> Result<(), aya::maps::MapError> {
        self.policy.verdict_client(client, verdict)
    }

    /// Marks a source as shared by many clients.
    pub fn shared_source(
        &mut self,
        source: [u8; 16],
        until_ns: u64,
    ) -> Result<(), aya::maps::MapError> {
        self.policy.shared_source(source, until_ns)
    }

    /// The lines of the image in force.
    pub fn live_image(&self) -> std::io::Result<Vec<Line>> {
        self.policy.live_image()
    }

    /// The ring.
    pub const fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }
}

fn refused(error: ProgramError) -> TestRunError {
    match &error {
        ProgramError::SyscallError(syscall)
            if syscall.io_error.raw_os_error() == Some(nix::libc::EINVAL) =>
        {
            TestRunError::TooShort
        }
        _ => TestRunError::Run(error),
    }
}
