//! `bench drop`: CPU time of a packet of a blocked client, all the way from its sender over a veth pair to its end, when it is dropped
//! by the sensor, by nftables (a set, at netdev ingress and in prerouting) and by `xdp-filter` (in the driver and generic),
//! each with the same [`sensor-bench sources`] listed and one counter.
//!
//! The sender is pinned to one CPU, on which its packets are received and dropped as well, so the time of a packet is what that thread ran.
//! `floor` is netdev ingress with one rule that drops everything: what remains of the others is the cost of the decision. The order turns
//! from round to round. Nothing may get through to IP, or the run fails.

use std::{env, fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Figure, median};
use crate::{
    agent::Agent,
    process::{can_raise, cargo, find, output, raised, root, run},
    run::build_agent,
    scene::{Namespace, Scene},
    setup::{self, Consent, Purpose},
};

const ROUNDS: usize = 9;
/// Packets of one case in one round.
const PACKETS: u32 = 400_000;
/// The CPU of sender and receiver.
const CPU: &str = "1";
const DEVICE: &str = "drop0";
const SENDER: &str = "drop1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Floor,
    Sensor,
    NftIngress,
    NftPrerouting,
    XdpNative,
    XdpGeneric,
}

const CASES: [Case; 6] = [
    Case::Floor,
    Case::Sensor,
    Case::NftIngress,
    Case::NftPrerouting,
    Case::XdpNative,
    Case::XdpGeneric,
];

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Sensor => "sensor",
            Self::NftIngress => "nft_ingress",
            Self::NftPrerouting => "nft_prerouting",
            Self::XdpNative => "xdp_filter_native",
            Self::XdpGeneric => "xdp_filter_generic",
        }
    }
}

/// Builds as the user, then runs the scene as root.
pub(super) fn drop_cost(consent: Consent) -> Result<Vec<Figure>> {
    setup::setup(Purpose::Bench, consent)?;
    let agent = build_agent(consent)?;
    run(cargo().args(["build", "--release", "-p", "sensor-tests", "--bin", "sensor-bench"]))?;
    ensure!(
        can_raise(consent == Consent::Ask),
        "bench drop attaches programs: run it as root, or install sudo"
    );
    let mut scene = raised(env::current_exe()?);
    scene.arg("bench-drop").arg(agent).arg(root().join("target/release/sensor-bench"));
    let out = scene.stderr(Stdio::inherit()).stdout(Stdio::piped()).output()?;
    ensure!(out.status.success(), "bench drop failed ({})", out.status);
    Ok(String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|value| Figure::from_json(&value))
        .collect())
}

/// The stage with what every case needs.
struct Stage<'a> {
    scene: Scene,
    receiver: Namespace,
    sender: Namespace,
    agent: &'a Path,
    bench: &'a Path,
    sources: Vec<String>,
    mac: String,
}

/// The half that is root: prints figures as JSON lines, progress on stderr.
pub(crate) fn scene(agent: &Path, bench: &Path) -> Result<()> {
    let stage = Stage::new(agent, bench)?;
    let cases: Vec<Case> = CASES.into_iter().filter(|case| Stage::can(*case)).collect();
    let mut rounds: Vec<Vec<f64>> = vec![];
    for round in 0..ROUNDS {
        let mut row = vec![0.0; cases.len()];
        for turn in 0..cases.len() {
            let at = (round + turn) % cases.len();
            if let (Some(case), Some(slot)) = (cases.get(at), row.get_mut(at)) {
                *slot =
                    stage.one(*case).with_context(|| format!("round {round}, {}", case.name()))?;
            }
        }
        let shown: Vec<String> =
            cases.iter().zip(&row).map(|(case, ns)| format!("{} {ns:.0}", case.name())).collect();
        eprintln!("round {:>2} of {ROUNDS}: ns a packet: {}", round + 1, shown.join(", "));
        rounds.push(row);
    }
    for figure in figures(&cases, &rounds) {
        println!("{}", figure.to_json());
    }
    Ok(())
}

impl<'a> Stage<'a> {
    fn new(agent: &'a Path, bench: &'a Path) -> Result<Self> {
        let scene = Scene::new()?;
        let receiver = scene.namespace("receiver")?;
        let sender = scene.namespace("sender")?;
        receiver.join((DEVICE, "10.79.1.1/24"), &sender, (SENDER, "10.79.1.2/24"))?;
        let link = receiver.ip(&format!("-json link show {DEVICE}"))?;
        let link: serde_json::Value = serde_json::from_str(&link)?;
        let mac = link[0]["address"].as_str().context("the device has a MAC")?.to_owned();
        let sources = output(std::process::Command::new(bench).arg("sources"))?;
        let sources: Vec<String> = sources.lines().map(str::to_owned).collect();
        scene.write("blocked.txt", &sources.join("\n"))?;
        scene.write(
            "policy.yaml",
            "version: 1\nblock:\n  - id: flood\n    lists: [{file: FOLDER/blocked.txt}]\n    reason: bench\n",
        )?;
        Ok(Self { scene, receiver, sender, agent, bench, sources, mac })
    }

    fn can(case: Case) -> bool {
        let xdp = matches!(case, Case::XdpNative | Case::XdpGeneric);
        if xdp && find("xdp-filter").is_none() {
            eprintln!("{}: left out, there is no xdp-filter (package xdp-tools)", case.name());
            return false;
        }
        true
    }

    /// Sets up, warms up, measures, takes down.
    fn one(&self, case: Case) -> Result<f64> {
        self.set_up(case)?;
        let result = self.measure();
        self.take_down(case)?;
        result
    }

    fn measure(&self) -> Result<f64> {
        self.flood(PACKETS / 10)?;
        let (arrived, lost) = (self.arrived()?, self.lost()?);
        let ns = self.flood(PACKETS)?;
        let through = self.arrived()? - arrived;
        let lost = self.lost()? - lost;
        ensure!(lost == 0, "{lost} packets were lost on the way: the time is not theirs");
        ensure!(through < 100, "{through} packets got through");
        Ok(ns)
    }

    fn flood(&self, packets: u32) -> Result<f64> {
        let mut command = self.sender.command(self.bench);
        command.args(["flood", SENDER, &self.mac, &packets.to_string(), CPU]);
        Ok(output(&mut command)?.trim().parse()?)
    }

    /// Packets that IP accepted so far (dropped in prerouting is after "received" and before "delivered").
    fn arrived(&self) -> Result<u64> {
        let text = output(self.receiver.command("cat").arg("/proc/net/snmp"))?;
        let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
        let names = lines.next().unwrap_or_default().split_whitespace();
        let values = lines.next().unwrap_or_default().split_whitespace();
        let found = names.zip(values).find(|(name, _)| *name == "InDelivers");
        Ok(found.context("InDelivers")?.1.parse()?)
    }

    /// Packets that the pair lost for want of room.
    fn lost(&self) -> Result<u64> {
        let text = self.sender.ip(&format!("-json -statistics link show {SENDER}"))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        value[0]["stats64"]["tx"]["dropped"].as_u64().context("tx dropped")
    }

    fn set_up(&self, case: Case) -> Result<()> {
        match case {
            Case::Floor => self.nft(&table("netdev", &ingress_hook(), "", "drop")),
            Case::NftIngress => self.nft(&table(
                "netdev",
                &ingress_hook(),
                &self.set(),
                "ip saddr @blocked counter drop",
            )),
            Case::NftPrerouting => {
                let hook = "type filter hook prerouting priority raw;";
                self.nft(&table("ip", hook, &self.set(), "ip saddr @blocked counter drop"))
            }
            Case::Sensor => {
                let policy = self.scene.folder().join("policy.yaml");
                let policy = policy.to_string_lossy();
                drop(fs::remove_dir_all(self.scene.folder().join("store")));
                let arguments = [
                    "--mode",
                    "enforce",
                    "--policy",
                    &policy,
                    "--interface",
                    DEVICE,
                    "--pin",
                    "never",
                    "--guard-max-share",
                    "1",
                ];
                Agent::start(&self.scene, &self.receiver, self.agent, &arguments).map(drop)
            }
            Case::XdpNative => self.xdp("native"),
            Case::XdpGeneric => self.xdp("skb"),
        }
    }

    fn take_down(&self, case: Case) -> Result<()> {
        match case {
            Case::Floor | Case::NftIngress | Case::NftPrerouting => self.nft("flush ruleset"),
            Case::Sensor => {
                self.scene.stop("sensor");
                Ok(())
            }
            Case::XdpNative | Case::XdpGeneric => {
                output(self.receiver.command("xdp-filter").args(["unload", DEVICE])).map(drop)
            }
        }
    }

    fn nft(&self, text: &str) -> Result<()> {
        let file = self.scene.write("rules.nft", text)?;
        output(self.receiver.command("nft").arg("-f").arg(file)).map(drop)
    }

    fn set(&self) -> String {
        format!("set blocked {{ type ipv4_addr; elements = {{ {} }} }}", self.sources.join(", "))
    }

    fn xdp(&self, mode: &str) -> Result<()> {
        output(self.receiver.command("xdp-filter").args([
            "load",
            "--mode",
            mode,
            "--features",
            "ipv4",
            DEVICE,
        ]))?;
        // One process for each address is what there is.
        let add = "while read -r address; do xdp-filter ip --mode src \"$address\" || exit 1; done";
        let mut command = self.receiver.command("sh");
        command.arg("-c").arg(add);
        command.stdin(fs::File::open(self.scene.folder().join("blocked.txt"))?);
        let out = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        if !out.status.success() {
            bail!("xdp-filter ip: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        Ok(())
    }
}

fn ingress_hook() -> String {
    format!("type filter hook ingress device {DEVICE} priority -500;")
}

fn table(family: &str, hook: &str, set: &str, rule: &str) -> String {
    format!("table {family} bench {{\n{set}\nchain bench {{\n{hook}\n{rule}\n}}\n}}\n")
}

fn figures(cases: &[Case], rounds: &[Vec<f64>]) -> Vec<Figure> {
    let column =
        |at: usize| -> Vec<f64> { rounds.iter().filter_map(|row| row.get(at)).copied().collect() };
    let at = |case: Case| cases.iter().position(|other| *other == case).map(column);
    let (sensor, floor) = (at(Case::Sensor), at(Case::Floor));
    let (Some(sensor), Some(floor)) = (sensor, floor) else { return vec![] };
    let runs = rounds.len() as u64;
    let mut figures = vec![];
    for (number, case) in cases.iter().enumerate() {
        let values = column(number);
        let ratios: Vec<f64> = sensor.iter().zip(&values).map(|(own, other)| own / other).collect();
        let over: Vec<f64> =
            values.iter().zip(&floor).map(|(value, floor)| value - floor).collect();
        let name = |what: &str| format!("drop/{}{what}", case.name());
        // The baseline of each is the sensor in the same rounds; a ratio above 1 says that the sensor costs more.
        figures.push(Figure {
            name: name(""),
            value: median(&values),
            unit: "ns".to_owned(),
            baseline: Some(median(&sensor)),
            ratio: Some(median(&ratios)),
            runs,
        });
        for (what, value) in [
            ("/over_floor", median(&over)),
            ("/lowest", values.iter().copied().fold(f64::INFINITY, f64::min)),
            ("/highest", values.iter().copied().fold(0.0, f64::max)),
        ] {
            let unit = "ns".to_owned();
            figures.push(Figure {
                name: name(what),
                value,
                unit,
                baseline: None,
                ratio: None,
                runs,
            });
        }
    }
    figures
}
