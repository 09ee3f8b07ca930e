//! `bench live`: CPU per request, of everybody who works on it, and requests per second, against nginx over
//! a veth pair. Five cases in each round: nothing attached, nothing again (the spread), a program that does nothing at the sensor's hooks
//! (`floor`), the sensor at 100 % sampling with the inventory on, and tcpdump. The order turns from round to round.
//!
//! CPU is the time that server, client, observer and the softirq threads ran, in ns by the scheduler; softirq work
//! on a veth pair runs in the context of whoever sends. Ratios are taken within a round.

use std::{
    env, fs,
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use super::{Figure, median, real};
use crate::{
    agent::Agent,
    process::{can_raise, cargo, raised, run},
    run::build_agent,
    scene::{Namespace, Scene},
    setup::{self, Consent, Purpose},
};

/// Rounds of all cases; odd, so that a median is one of the values.
const ROUNDS: usize = 11;
/// Requests of one case in one round.
const REQUESTS: u64 = 100_000;
/// Connections of the client.
const CONNECTIONS: &str = "32";
const SERVER: &str = "10.78.1.1";
/// Of the tests' package; it lies beside the agent.
const RUNNER: &str = "sensor-bench";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Nothing,
    Again,
    Floor,
    Sensor,
    Tcpdump,
}

const CASES: [Case; 5] = [Case::Nothing, Case::Again, Case::Floor, Case::Sensor, Case::Tcpdump];

impl Case {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Again => "nothing_again",
            Self::Floor => "floor",
            Self::Sensor => "sensor",
            Self::Tcpdump => "tcpdump",
        }
    }
}

/// What one case gave in one round.
#[derive(Debug, Clone, Copy, Default)]
struct Sight {
    cpu_ns_per_request: f64,
    /// Of it, what the observer's own process used; the rest of its cost is in the kernel.
    observer_ns_per_request: f64,
    requests_per_second: f64,
}

/// Builds as the user, then runs the scene as root, which reports by itself.
pub(super) fn live(consent: Consent) -> Result<Vec<Figure>> {
    setup::setup(Purpose::Bench, consent)?;
    let agent = build_agent(consent)?;
    run(cargo().args(["build", "--release", "-p", "sensor-tests", "--bin", RUNNER]))?;
    ensure!(
        can_raise(consent == Consent::Ask),
        "bench live loads programs: run it as root, or install sudo"
    );
    let text = {
        let mut scene = raised(env::current_exe()?);
        scene.arg("bench-live").arg(agent).stderr(Stdio::inherit()).stdout(Stdio::piped());
        let out = scene.output()?;
        ensure!(out.status.success(), "bench live failed ({})", out.status);
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|value| Figure::from_json(&value))
        .collect())
}

/// The half that is root: prints figures as JSON lines, progress on stderr.
pub(crate) fn scene(agent: &Path) -> Result<()> {
    let scene = Scene::new()?;
    let (server, client) = set_up(&scene)?;
    // Not counted: caches, the first faults of every page.
    h2load(&client, REQUESTS / 4)?;
    let mut sights = vec![];
    for round in 0..ROUNDS {
        let mut row = [Sight::default(); CASES.len()];
        for turn in 0..CASES.len() {
            let at = (round + turn) % CASES.len();
            if let (Some(case), Some(slot)) = (CASES.get(at), row.get_mut(at)) {
                *slot = one(&scene, &server, &client, agent, *case)
                    .with_context(|| format!("round {round}, {}", case.name()))?;
            }
        }
        let shown: Vec<String> = CASES
            .iter()
            .zip(&row)
            .map(|(case, sight)| format!("{} {:.0} ns", case.name(), sight.cpu_ns_per_request))
            .collect();
        eprintln!("round {:>2} of {ROUNDS}: CPU per request: {}", round + 1, shown.join(", "));
        sights.push(row);
    }
    for figure in figures(&sights) {
        println!("{}", figure.to_json());
    }
    Ok(())
}

fn set_up(scene: &Scene) -> Result<(Namespace, Namespace)> {
    let server = scene.namespace("server")?;
    let client = scene.namespace("client")?;
    server.join(("eth0", &format!("{SERVER}/24")), &client, ("eth0", "10.78.1.2/24"))?;
    let configuration = scene.write("bench.conf", include_str!("../../bench/nginx.conf"))?;
    scene.start("nginx", server.command("nginx").arg("-c").arg(configuration))?;
    let until = Instant::now() + Duration::from_secs(10);
    while h2load(&client, 1).is_err() {
        scene.running("nginx")?;
        ensure!(Instant::now() < until, "expected: nginx answers within 10 s");
        thread::sleep(Duration::from_millis(50));
    }
    Ok((server, client))
}

fn one(
    scene: &Scene,
    server: &Namespace,
    client: &Namespace,
    agent: &Path,
    case: Case,
) -> Result<Sight> {
    let observer = match case {
        Case::Nothing | Case::Again => None,
        Case::Floor => {
            let mut runner = server.command(agent.with_file_name(RUNNER));
            scene.start("floor", runner.args(["floor", "eth0"]))?;
            let until = Instant::now() + Duration::from_secs(10);
            while !scene.log("floor").contains("attached") {
                scene.running("floor")?;
                ensure!(Instant::now() < until, "expected: attached within 10 s");
                thread::sleep(Duration::from_millis(20));
            }
            Some("floor")
        }
        Case::Sensor => {
            drop(fs::remove_dir_all(scene.folder().join("store")));
            Agent::start(scene, server, agent, &["--sampling", "1"])?;
            Some("sensor")
        }
        Case::Tcpdump => {
            let mut tcpdump = server.command("tcpdump");
            tcpdump.args(["-i", "eth0", "-w", "/dev/null", "tcp port 80"]);
            scene.start("tcpdump", &mut tcpdump)?;
            thread::sleep(Duration::from_millis(500));
            Some("tcpdump")
        }
    };
    let mut watched = vec![scene.running("nginx")?];
    if let Some(name) = observer {
        watched.push(scene.running(name)?);
    }
    watched.extend(softirq_threads()?);

    let own = watched.get(1..2).filter(|_| observer.is_some()).unwrap_or(&[]).to_vec();
    let before = run_time_ns(&watched);
    let own_before = run_time_ns(&own);
    let client_before = children_cpu_ns()?;
    let started = Instant::now();
    h2load(client, REQUESTS)?;
    let took = started.elapsed();
    // What the observer still has in its buffer is its work too.
    thread::sleep(Duration::from_millis(250));
    let cpu = run_time_ns(&watched).saturating_sub(before)
        + children_cpu_ns()?.saturating_sub(client_before);
    let own_cpu = run_time_ns(&own).saturating_sub(own_before);
    if let Some(name) = observer {
        scene.running(name)?;
        scene.stop(name);
    }
    let requests = real(REQUESTS);
    Ok(Sight {
        cpu_ns_per_request: real(cpu) / requests,
        observer_ns_per_request: real(own_cpu) / requests,
        requests_per_second: requests / took.as_secs_f64(),
    })
}

/// Exactly `requests` requests over kept connections; an error when one fails.
fn h2load(client: &Namespace, requests: u64) -> Result<()> {
    let mut command = client.command("h2load");
    command.args(["--h1", "-t", "1", "-n", &requests.to_string()]);
    command.args(["-c", if requests < 32 { "1" } else { CONNECTIONS }]);
    command.arg(format!("http://{SERVER}/orders/4711"));
    let out = command.stdin(Stdio::null()).output().context("cannot start h2load")?;
    let text = String::from_utf8_lossy(&out.stdout);
    if text.contains(&format!("{requests} succeeded, 0 failed")) {
        return Ok(());
    }
    bail!("expected: {requests} succeeded, 0 failed; h2load said: {}", text.trim())
}

/// Time that the tasks of these processes ran so far, by the scheduler.
fn run_time_ns(processes: &[u32]) -> u64 {
    let tasks = processes
        .iter()
        .flat_map(|id| fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten());
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Numbers of the kernel's softirq threads.
fn softirq_threads() -> Result<Vec<u32>> {
    Ok(fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .filter(|id| {
            fs::read_to_string(format!("/proc/{id}/comm"))
                .is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .collect())
}

/// CPU time of the children that have ended.
fn children_cpu_ns() -> Result<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    Ok(u64::try_from(cpu.num_microseconds())? * 1_000)
}

fn figures(rounds: &[[Sight; CASES.len()]]) -> Vec<Figure> {
    let mut figures = vec![];
    for (kind, unit) in
        [("cpu_per_request", "ns"), ("requests_per_second", "1/s"), ("observer_process", "ns")]
    {
        let value = |sight: &Sight| match kind {
            "cpu_per_request" => sight.cpu_ns_per_request,
            "requests_per_second" => sight.requests_per_second,
            _ => sight.observer_ns_per_request,
        };
        let column = |at: usize| -> Vec<f64> {
            rounds.iter().filter_map(|row| row.get(at)).map(value).collect()
        };
        let baseline = column(0);
        for (at, case) in CASES.iter().enumerate() {
            let values = column(at);
            let observes = matches!(case, Case::Sensor | Case::Tcpdump);
            if kind == "observer_process" {
                // A part of the figure above, so it has no baseline of its own.
                if observes {
                    let name = format!("live/{kind}/{}", case.name());
                    let (value, runs) = (median(&values), rounds.len() as u64);
                    let unit = unit.to_owned();
                    figures.push(Figure { name, value, unit, baseline: None, ratio: None, runs });
                }
                continue;
            }
            let ratios: Vec<f64> =
                values.iter().zip(&baseline).map(|(value, nothing)| value / nothing).collect();
            figures.push(Figure {
                name: format!("live/{kind}/{}", case.name()),
                value: median(&values),
                unit: unit.to_owned(),
                baseline: Some(median(&baseline)),
                ratio: Some(median(&ratios)),
                runs: rounds.len() as u64,
            });
        }
    }
    figures
}
