//! `bench policy`: the real agent with a list of a million entries: memory when it has loaded it and while it replaces it, and in a cgroup
//! of [`CGROUP_MIB`] MiB, where it loads or refuses and is never killed.

use std::{
    env, fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{Figure, real};
use crate::{
    agent::Agent,
    process::{can_raise, raised},
    run::build_agent,
    scene::{Namespace, Scene},
    setup::Consent,
};

const ENTRIES: u64 = 1_000_000;
/// Limit of the cgroup.
const CGROUP_MIB: u64 = 384;
/// Where cgroups of version 2 are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Longest time until a changed list is in force.
const REPLACED_WITHIN: Duration = Duration::from_mins(1);
const DEVICE: &str = "policy0";

/// Builds as the user, then runs the scene as root.
pub(super) fn policy(consent: Consent) -> Result<Vec<Figure>> {
    let agent = build_agent(consent)?;
    ensure!(
        can_raise(consent == Consent::Ask),
        "bench policy loads programs: run it as root, or install sudo"
    );
    let mut scene = raised(env::current_exe()?);
    let out = scene.arg("bench-policy").arg(agent).stderr(Stdio::inherit()).output()?;
    ensure!(out.status.success(), "bench policy failed ({})", out.status);
    Ok(String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|value| Figure::from_json(&value))
        .collect())
}

/// The half that is root: prints figures as JSON lines.
pub(crate) fn scene(agent: &Path) -> Result<()> {
    let scene = Scene::new()?;
    let place = scene.namespace("policy")?;
    place.ip(&format!("link add {DEVICE} type veth peer name {DEVICE}p"))?;
    place.ip(&format!("link set {DEVICE} up"))?;
    for limit in [None, Some(CGROUP_MIB)] {
        if limit.is_some() && !Path::new(CGROUPS).join("cgroup.controllers").is_file() {
            eprintln!("policy/agent/cgroup: left out, {CGROUPS} is no cgroup of version 2");
            continue;
        }
        drop(fs::remove_dir_all(scene.folder().join("store")));
        for figure in one(&scene, &place, agent, limit)? {
            println!("{}", figure.to_json());
        }
    }
    Ok(())
}

fn one(
    scene: &Scene,
    place: &Namespace,
    program: &Path,
    limit_mib: Option<u64>,
) -> Result<Vec<Figure>> {
    let list = scene.folder().join("list.txt");
    write_list(&list, 0)?;
    let policy = scene.write(
        "policy.yaml",
        "version: 1\nblock:\n  - id: million\n    lists: [{file: FOLDER/list.txt}]\n    reason: bench\n",
    )?;
    let group = limit_mib.map(Group::new).transpose()?;
    let started = Instant::now();
    let policy = policy.to_string_lossy();
    let arguments =
        ["--mode", "enforce", "--policy", &policy, "--interface", DEVICE, "--pin", "never"];
    let agent = match &group {
        Some(group) => group.around(|| Agent::start(scene, place, program, &arguments))?,
        None => Agent::start(scene, place, program, &arguments)?,
    };
    let load_seconds = started.elapsed().as_secs_f64();
    // What building it took is given back by then.
    thread::sleep(Duration::from_secs(2));
    let id = scene.running("sensor")?;
    let resident = memory_mib(id, "VmRSS")?;
    let first_peak = memory_mib(id, "VmHWM")?;
    let before = generation(&agent)?;
    let changed = Instant::now();
    write_list(&list, 1)?;
    let replaced = loop {
        scene.running("sensor")?;
        if generation(&agent)? != before {
            break true;
        }
        if changed.elapsed() > REPLACED_WITHIN {
            break false;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let replace_seconds = changed.elapsed().as_secs_f64();
    let peak = memory_mib(scene.running("sensor")?, "VmHWM")?;
    scene.stop("sensor");
    let inside = limit_mib.map_or_else(String::new, |mib| format!("/cgroup_{mib}_mib"));
    let figure = |what: &str, value: f64, unit: &str| Figure {
        name: format!("policy/agent{inside}/{what}"),
        value,
        unit: unit.to_owned(),
        baseline: None,
        ratio: None,
        runs: 1,
    };
    let mut figures = vec![
        figure("ready", load_seconds, "s"),
        figure("resident", resident, "MiB"),
        figure("peak_of_load", first_peak, "MiB"),
        figure("peak_of_replacement", peak, "MiB"),
        figure("replaced", f64::from(u8::from(replaced)), "1 = yes"),
        figure("replacement", replace_seconds, "s"),
    ];
    if let Some(group) = group {
        figures.push(figure("killed", real(group.killed()?), "processes"));
        figures.push(figure("group_peak", real(group.peak()?) / 1_048_576.0, "MiB"));
    }
    Ok(figures)
}

/// The generation of the policy in force.
fn generation(agent: &Agent) -> Result<u64> {
    let status = agent.json("status")?;
    let text = status.to_string();
    status["policy"]["generation"].as_u64().with_context(|| format!("no policy generation: {text}"))
}

fn memory_mib(id: u32, field: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text.lines().find(|line| line.starts_with(field)).context("no such field")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(real(kib) / 1024.0)
}

/// 70 % addresses, 30 % prefixes of 16 to 31 bits (few short ones: a million of those would be the whole Internet).
fn write_list(path: &Path, salt: u64) -> Result<()> {
    let draft = path.with_extension("draft");
    let mut file = BufWriter::new(fs::File::create(&draft)?);
    for at in 0..ENTRIES {
        let word = mix(at | salt << 40);
        let address = std::net::Ipv4Addr::from(u32::try_from(word >> 32)?);
        if at % 10 < 7 {
            writeln!(file, "{address}")?;
        } else {
            let zeros = u64::from(mix(word).trailing_zeros().min(12));
            let len = 28 + at % 4 - zeros;
            let bits = u32::from(address);
            let cut = std::net::Ipv4Addr::from(bits & (u32::MAX << (32 - len)));
            writeln!(file, "{cut}/{len}")?;
        }
    }
    file.flush()?;
    Ok(fs::rename(draft, path)?)
}

/// Scatters (the finaliser of splitmix64).
const fn mix(word: u64) -> u64 {
    let mut x = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A cgroup (version 2) with a limit of memory and no swap; removed on drop.
struct Group {
    path: PathBuf,
    before: PathBuf,
}

impl Group {
    fn new(mib: u64) -> Result<Self> {
        let root = Path::new(CGROUPS);
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::")).context("no cgroup v2")?;
        let before = root.join(own.trim_start_matches('/'));
        fs::write(root.join("cgroup.subtree_control"), "+memory")?;
        let path = root.join(format!("asbench{}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self { path, before };
        fs::write(group.path.join("memory.max"), (mib << 20).to_string())?;
        drop(fs::write(group.path.join("memory.swap.max"), "0"));
        Ok(group)
    }

    /// Runs something whose children stay inside.
    fn around<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let own = std::process::id().to_string();
        fs::write(self.path.join("cgroup.procs"), &own)?;
        let result = run();
        fs::write(self.before.join("cgroup.procs"), &own)?;
        result
    }

    fn killed(&self) -> Result<u64> {
        let text = fs::read_to_string(self.path.join("memory.events"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.context("no oom_kill")?.trim().parse()?)
    }

    fn peak(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.path.join("memory.peak"))?.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.path));
    }
}
