//! Namespaces and veth pairs by `ip`; commands inside by `nsenter --net` (unlike `ip netns exec` it leaves
//! the mounts alone, so that cgroups stay visible).

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};

use super::Child;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A test's own folder and namespaces.
#[derive(Debug)]
pub struct Lab {
    folder: tempfile::TempDir,
    prefix: String,
}

impl Lab {
    /// Makes an empty laboratory.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sensor-lab-").tempdir()?;
        // Readable for servers that give up root.
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { folder, prefix: format!("st{}x{number}", std::process::id()) })
    }

    /// The test's own folder, removed at the end.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Mounts a bpf file system in the test's own folder; it goes with the laboratory, and what is pinned in it.
    pub fn bpffs(&self) -> Result<PathBuf> {
        let folder = self.bpf_folder();
        if !folder.exists() {
            std::fs::create_dir(&folder)?;
            run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&folder))?;
        }
        Ok(folder)
    }

    fn bpf_folder(&self) -> PathBuf {
        self.folder().join("bpf")
    }

    /// Makes a network namespace with loopback up.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let name = format!("{}{name}", self.prefix);
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Namespace { name };
        namespace.sh("ip link set lo up; sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 || true")?;
        Ok(namespace)
    }

    /// Joins two namespaces by a veth pair and gives each end an address (CIDR, empty for none).
    pub fn veth(
        &self,
        left: (&Namespace, &str, &str),
        right: (&Namespace, &str, &str),
    ) -> Result<()> {
        let (left_ns, left_if, left_address) = left;
        let (right_ns, right_if, right_address) = right;
        left_ns.sh(&format!(
            "ip link add {left_if} type veth peer name {right_if} netns {}",
            right_ns.name
        ))?;
        for (namespace, interface, address) in
            [(left_ns, left_if, left_address), (right_ns, right_if, right_address)]
        {
            if !address.is_empty() {
                namespace.sh(&format!("ip address add {address} dev {interface} nodad"))?;
            }
            namespace.sh(&format!("ip link set {interface} up"))?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let folder = self.bpf_folder();
        if folder.exists() {
            // Lazily: an agent that a failed test left may still hold it.
            let _gone = run(Command::new("umount").arg("-l").arg(folder));
        }
    }
}

/// A network namespace, removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Its name under `/run/netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that names it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a shell line inside, and fails with what it printed when it fails.
    pub fn sh(&self, line: &str) -> Result<String> {
        run(self.command("sh").args(["-ec", line]))
    }

    /// Starts a shell line inside; it is killed on drop.
    pub fn spawn(&self, line: &str) -> Result<Child> {
        Child::spawn(self.command("sh").args(["-c", &format!("exec {line}")]))
    }

    /// Waits until something listens on a TCP port inside.
    pub fn wait_for_port(&self, port: u16) -> Result<()> {
        for _ in 0..200 {
            if self.sh(&format!("ss -Hltn 'sport = :{port}' | grep -q .")).is_ok() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        bail!("nothing listens on port {port} in {}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Processes first: a namespace with a process in it lives on without a name.
        let _killed = run(Command::new("sh").args([
            "-c",
            &format!("ip netns pids {0} | xargs -r kill -9; ip netns delete {0}", self.name),
        ]));
    }
}

/// Runs a command to its end and returns its standard output.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        status.success(),
        "{command:?}: {status}\n{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
