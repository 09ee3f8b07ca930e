//! The demo's stage: network namespaces, processes and one folder, all removed at the end, on an error
//! and on a signal.
//!
//! Everything has this process's number in its name, so that two demos do not meet and leftovers of one
//! that was killed outright are found and swept by the next.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::process::{output, say};

/// Name of every namespace and folder of a demo, followed by the number of its process.
const PREFIX: &str = "asdemo";

/// How long a process has to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(4);

/// What must be removed, shared with the thread that waits for signals.
#[derive(Default)]
struct Litter {
    /// In order of start; ended in reverse.
    children: Vec<(String, Child)>,
    namespaces: Vec<String>,
    folder: Option<PathBuf>,
}

/// The stage; removed on drop.
pub(crate) struct Scene {
    litter: Arc<Mutex<Litter>>,
    prefix: String,
    folder: PathBuf,
}

impl Scene {
    /// Makes the folder, sweeps what a killed demo left, and starts to watch for signals.
    pub(crate) fn new() -> Result<Self> {
        sweep()?;
        let prefix = format!("{PREFIX}{}", std::process::id());
        let folder = std::env::temp_dir().join(&prefix);
        fs::create_dir_all(&folder)?;
        let litter =
            Arc::new(Mutex::new(Litter { folder: Some(folder.clone()), ..Litter::default() }));

        let shared = Arc::clone(&litter);
        // A handler, not a blocked mask: children would inherit the mask and never end when asked.
        ctrlc::set_handler(move || {
            // Held to the end, so that the main thread does nothing more.
            let mut litter = shared.lock().unwrap_or_else(PoisonError::into_inner);
            say("\nstopping: removing what the demo made");
            litter.remove();
            std::process::exit(130);
        })?;
        Ok(Self { litter, prefix, folder })
    }

    /// Folder of everything that is written.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into the folder; `FOLDER` in the text becomes its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        // By renaming, as editors and configuration tools do: a reader never sees half a file.
        let draft = path.with_extension("draft");
        fs::write(&draft, text.replace("FOLDER", &self.folder.to_string_lossy()))?;
        fs::rename(&draft, &path)?;
        Ok(path)
    }

    /// Adds a namespace with its loopback up.
    pub(crate) fn namespace(&self, name: &str) -> Result<Namespace> {
        let namespace = Namespace { name: format!("{}-{name}", self.prefix) };
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        litter.namespaces.push(namespace.name.clone());
        output(Command::new("ip").args(["netns", "add", &namespace.name]))?;
        drop(litter);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Starts a program that stays; its output goes to `NAME.log` in the folder.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> Result<()> {
        let log = fs::File::create(self.folder.join(format!("{name}.log")))?;
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        litter.children.push((name.to_owned(), child));
        Ok(())
    }

    /// The number of a program that [`Self::start`] started, an error when it has ended.
    pub(crate) fn running(&self, name: &str) -> Result<u32> {
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        let found = litter.children.iter_mut().find(|(other, _)| other == name);
        let (_, child) = found.with_context(|| format!("{name} was never started"))?;
        if let Some(status) = child.try_wait()? {
            bail!("{name} ended ({status}); it said:\n{}", self.log(name));
        }
        Ok(child.id())
    }

    /// Ends one program and waits for it.
    pub(crate) fn stop(&self, name: &str) {
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = litter.children.iter().position(|(other, _)| other == name) {
            let (_, mut child) = litter.children.remove(at);
            end(&mut child);
        }
    }

    /// The last lines that a program printed.
    pub(crate) fn log(&self, name: &str) -> String {
        let path = self.folder.join(format!("{name}.log"));
        let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail: Vec<String> = lines
            .iter()
            .skip(lines.len().saturating_sub(20))
            .map(|line| format!("  | {line}"))
            .collect();
        tail.join(
            "
",
        )
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.litter.lock().unwrap_or_else(PoisonError::into_inner).remove();
    }
}

impl Litter {
    fn remove(&mut self) {
        while let Some((_, mut child)) = self.children.pop() {
            end(&mut child);
        }
        // A namespace takes its interfaces, addresses and attached programs along.
        for name in self.namespaces.drain(..).rev() {
            drop(output(Command::new("ip").args(["netns", "delete", &name])));
        }
        if let Some(folder) = self.folder.take() {
            drop(fs::remove_dir_all(folder));
        }
    }
}

fn end(child: &mut Child) {
    let asked =
        i32::try_from(child.id()).map(|id| signal::kill(Pid::from_raw(id), Signal::SIGTERM));
    let until = Instant::now() + GRACE;
    while asked.is_ok() && Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    drop(child.kill());
    drop(child.wait());
}

/// Removes what demos left that no longer run.
fn sweep() -> Result<()> {
    let is_dead = |name: &str| {
        let number: String = name
            .strip_prefix(PREFIX)
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect())
            .unwrap_or_default();
        !number.is_empty() && !Path::new("/proc").join(number).exists()
    };
    let listed = output(Command::new("ip").args(["netns", "list"]))?;
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        if is_dead(name) {
            say(&format!("removing {name}, left by a demo that was killed"));
            output(Command::new("ip").args(["netns", "delete", name]))?;
        }
    }
    for entry in fs::read_dir(std::env::temp_dir())?.flatten() {
        if is_dead(&entry.file_name().to_string_lossy()) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    Ok(())
}

/// One network namespace.
#[derive(Clone)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// `ip ARGUMENTS` for this namespace.
    pub(crate) fn ip(&self, arguments: &str) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// A command inside, which dies with this process. `ip netns exec` would hide the cgroup mounts.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--");
        command.args(["setpriv", "--pdeathsig", "TERM", "--"]).arg(program);
        command
    }

    /// Joins two namespaces by a veth pair: `own` in this one, `peer` in the other, both up.
    pub(crate) fn join(
        &self,
        (own, own_address): (&str, &str),
        other: &Self,
        (peer, peer_address): (&str, &str),
    ) -> Result<()> {
        let other_name = &other.name;
        self.ip(&format!("link add {own} type veth peer name {peer} netns {other_name}"))?;
        for (namespace, name, address) in [(self, own, own_address), (other, peer, peer_address)] {
            namespace.ip(&format!("address add {address} dev {name}"))?;
            namespace.ip(&format!("link set {name} up"))?;
        }
        Ok(())
    }
}
