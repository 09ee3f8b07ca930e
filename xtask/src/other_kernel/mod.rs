//! `test --kernel VERSION`: a Debian cloud kernel under qemu (emulated, so no KVM is needed) loads and attaches
//! the programs and judges the golden packets, by the kernel tier's own binary.
//!
//! The kernel comes as a package that is unpacked into the user's cache, never installed.

mod cpio;
mod image;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build_ebpf::build_ebpf,
    process::{HEARTBEAT, output, quiet, root, say},
    setup::{self, Consent, Purpose},
    test::{Counts, kernel_tier_binary},
    toolchain,
};

/// Versions that Debian's current release has.
const VERSIONS: [&str; 2] = ["6.1", "6.12"];
/// Longest run of the virtual machine.
const TIMEOUT: Duration = Duration::from_mins(15);
/// Modules that the tests need and cloud kernels do not have built in.
const MODULES: [&str; 4] = ["veth", "tun", "sch_ingress", "cls_bpf"];
/// Tests that make sense with nothing but the programs and `ip`: names that contain one of these.
const TESTS: [&str; 2] = ["golden", "attach"];

/// Of those, what measures time: an emulated processor has its own.
const TOO_MUCH: [&str; 1] = ["five_hundred"];

/// Boots the kernel and runs the tests in it.
pub(crate) fn test(version: &str, consent: Consent) -> Result<()> {
    ensure!(VERSIONS.contains(&version), "kernel {version}: one of {}", VERSIONS.join(", "));
    let started = Instant::now();
    setup::setup(Purpose::OtherKernel, consent)?;
    build_ebpf(consent)?;
    let kernel = kernel(version)?;
    say(&format!("kernel: {}", kernel.release));
    crate::process::run(crate::process::cargo().args(["build", "-p", "sensor-agent", "--bins"]))?;
    let tests = kernel_tier_binary()?;
    let mut names = TESTS.to_vec();
    names.extend(TOO_MUCH.iter().flat_map(|name| ["--skip", name]));
    if version == "6.1" {
        // TCX came with 6.6.
        names.extend(["--skip", "tcx"]);
    }
    let image = image::build(&kernel, &MODULES, &tests, &names)?;
    let counts = boot(&kernel, &image)?;
    say(&format!(
        "on {} in {:.0} s: {} passed, {} failed, {} skipped",
        kernel.release,
        started.elapsed().as_secs_f64(),
        counts.passed,
        counts.failed,
        counts.skipped
    ));
    ensure!(counts.failed == 0 && counts.passed > 0, "not every test passed on {}", kernel.release);
    Ok(())
}

/// An unpacked kernel.
pub(crate) struct Kernel {
    /// Such as `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// Where `boot` and `lib/modules` lie.
    pub(crate) folder: PathBuf,
}

impl Kernel {
    fn vmlinuz(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }
}

/// The newest cloud kernel of a version: from the cache, else from the distribution's mirror.
fn kernel(version: &str) -> Result<Kernel> {
    let folder = toolchain::user_cache().join(format!("kernel-{version}"));
    if let Ok(kernel) = unpacked(&folder) {
        return Ok(kernel);
    }
    fs::create_dir_all(&folder)?;
    let dotted = version.replace('.', "\\.");
    let pattern = format!("^linux-image-{dotted}\\.[0-9.]+[+a-z0-9-]*cloud-amd64-unsigned$");
    let found = output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let mut names: Vec<&str> =
        found.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_by_key(|name| {
        name.split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse().ok())
            .collect::<Vec<u64>>()
    });
    let name = names
        .last()
        .with_context(|| format!("apt knows no {pattern}; run `apt-get update` once"))?;
    let mut download = Command::new("apt-get");
    download.current_dir(&folder).args(["download", "-q", name]);
    quiet(&format!("download {name}"), &mut download)?;
    for entry in fs::read_dir(&folder)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg-deb").arg("-x").arg(entry.path()).arg(&folder))?;
            fs::remove_file(entry.path())?;
        }
    }
    unpacked(&folder)
}

fn unpacked(folder: &Path) -> Result<Kernel> {
    let entry = fs::read_dir(folder.join("lib/modules"))?.flatten().next().context("no modules")?;
    let release = entry.file_name().to_string_lossy().into_owned();
    let kernel = Kernel { release, folder: folder.to_path_buf() };
    ensure!(kernel.vmlinuz().is_file(), "no kernel in {}", folder.display());
    Ok(kernel)
}

fn boot(kernel: &Kernel, image: &Path) -> Result<Counts> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"]);
    qemu.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio", "-kernel"]);
    qemu.arg(kernel.vmlinuz()).arg("-initrd").arg(image);
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]);
    let mut child =
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start qemu")?;
    let stdout = child.stdout.take().context("qemu without output")?;
    let (sender, receiver) = mpsc::sync_channel(1024);
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });

    let started = Instant::now();
    let mut counts = Counts::default();
    let mut ended = None;
    loop {
        match receiver.recv_timeout(HEARTBEAT) {
            Ok(line) => {
                say(&line);
                counts.add_line(&line);
                if let Some(code) = line.strip_prefix("tests ended with ") {
                    ended = Some(code.to_owned());
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                say(&format!("  {} s in the virtual machine", started.elapsed().as_secs()));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if started.elapsed() > TIMEOUT {
            child.kill()?;
            child.wait()?;
            bail!("expected: an end within {} s", TIMEOUT.as_secs());
        }
    }
    child.wait()?;
    match ended.as_deref() {
        Some("0") => Ok(counts),
        Some(code) if counts.failed == 0 => bail!("the tests ended with {code}"),
        Some(_) => Ok(counts),
        None => {
            bail!("the kernel ended before the tests did; image: {}", root().join(image).display())
        }
    }
}
