//! `setup`: what a verb needs and the machine lacks -> listed, asked for, installed.
//!
//! Debian and Ubuntu by apt (quiet, non-interactive, no service is started); the linker by cargo into
//! the user's cache; rustup's default is left alone. Elsewhere: one line that says what to install,
//! exit code 2.

use std::{
    env,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, bail};

use crate::{
    Exit,
    process::{can_raise, cargo, find, is_root, output, quiet, raised, say, without_toolchain},
    toolchain,
    versions::{BPF_LINKER, DEBIAN_COMPILER, LLVM_MAJOR, LLVM_PREFIX_VAR, NIGHTLY},
};

/// What the machine is made ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Build,
    Lint,
    Test,
    Demo,
    Bench,
    Fuzz,
    OtherKernel,
}

/// Whether to install without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    Ask,
    Given,
}

impl Consent {
    /// Given by `--yes` or by `CI=true`.
    pub(crate) fn from_flag(yes: bool) -> Self {
        let ci = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
        if yes || ci { Self::Given } else { Self::Ask }
    }
}

/// Programs that the tests, the demo and the benchmarks use: program, Debian's package, purposes.
const PROGRAMS: &[(&str, &str, &[Purpose])] = {
    use Purpose::{Bench, Demo, Fuzz, OtherKernel, Test};
    &[
        ("nginx", "nginx-light", &[Test, Demo, Bench]),
        ("curl", "curl", &[Test, Demo]),
        ("ip", "iproute2", &[Test, Demo, Bench]),
        ("openssl", "openssl", &[Test, Demo]),
        ("h2load", "nghttp2-client", &[Test, Bench]),
        ("nghttpd", "nghttp2-server", &[Test]),
        ("tcpdump", "tcpdump", &[Test, Bench]),
        ("nft", "nftables", &[Test, Bench]),
        ("xdp-filter", "xdp-tools", &[Bench]),
        ("redis-server", "redis-server", &[Test]),
        ("c++", "g++", &[Fuzz]),
        ("qemu-system-x86_64", "qemu-system-x86", &[OtherKernel]),
        ("busybox", "busybox-static", &[OtherKernel]),
        ("xz", "xz-utils", &[OtherKernel]),
    ]
};

/// Set once the package lists are fresh.
static UPDATED: AtomicBool = AtomicBool::new(false);

/// What is missing, by the way it is installed.
#[derive(Debug, Default)]
struct Missing {
    packages: Vec<String>,
    nightly: bool,
    linker: bool,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.packages.is_empty() && !self.nightly && !self.linker
    }
}

/// Makes the machine ready for one purpose; asks before it changes anything.
pub(crate) fn setup(purpose: Purpose, consent: Consent) -> Result<()> {
    setup_for(&[purpose], consent)
}

/// The same for several purposes at once: one list, one question.
pub(crate) fn setup_for(purposes: &[Purpose], consent: Consent) -> Result<()> {
    let missing = find_missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        return Err(Exit::with(2, other_distribution(&missing)).into());
    }
    if !missing.packages.is_empty() && !can_raise(consent == Consent::Ask) {
        let packages = missing.packages.join(" ");
        return Err(Exit::with(2, format!("needs root once: apt-get install {packages}")).into());
    }
    ask(&missing, consent)?;
    install(missing)?;
    // What can be had is known only once the package lists are there.
    let later = find_missing(purposes);
    if !later.is_empty() {
        install(later)?;
    }
    let left = find_missing(purposes);
    if !left.is_empty() {
        bail!("still missing after set-up: {}", describe(&left).join("; "));
    }
    Ok(())
}

fn install(mut missing: Missing) -> Result<()> {
    if !missing.packages.is_empty() || missing.nightly {
        apt_update()?;
        choose_compiler(&mut missing)?;
        install_packages(&missing.packages)?;
    }
    if missing.nightly {
        let mut rustup = Command::new("rustup");
        without_toolchain(&mut rustup).args(["toolchain", "install", NIGHTLY]);
        rustup.args(["--profile", "minimal", "--component", "rust-src", "--no-self-update"]);
        quiet("install the bpf compiler", &mut rustup)?;
    }
    if missing.linker {
        install_linker()?;
    }
    Ok(())
}

/// The verb: everything for building, testing and the demo.
pub(crate) fn verb(consent: Consent) -> Result<()> {
    use Purpose::{Bench, Build, Demo, Lint, Test};
    setup_for(&[Build, Lint, Test, Demo, Bench], consent)?;
    if let (Some(compiler), Some(linker)) = (toolchain::compiler(), toolchain::linker()) {
        say(&format!("bpf compiler: {} ({})", compiler.version, compiler.rustc.display()));
        say(&format!("bpf linker:   {BPF_LINKER} ({})", linker.display()));
    }
    say("set up; next: cargo xtask demo");
    Ok(())
}

fn find_missing(purposes: &[Purpose]) -> Missing {
    let mut missing = Missing::default();
    for (program, package, users) in PROGRAMS {
        if purposes.iter().any(|purpose| users.contains(purpose)) && find(program).is_none() {
            missing.packages.push((*package).to_owned());
        }
    }
    if purposes == [Purpose::Fuzz] {
        return missing; // the pure stages need no kernel object
    }
    let compiler = toolchain::compiler();
    if compiler.is_none() {
        missing.nightly = true;
    }
    if toolchain::linker().is_none() {
        missing.linker = true;
        if !has_llvm() {
            missing.packages.push(format!("llvm-{LLVM_MAJOR}-dev"));
            missing.packages.push(format!("libpolly-{LLVM_MAJOR}-dev"));
        }
    }
    let debian = compiler.is_some_and(|compiler| compiler.rustc.starts_with("/usr/bin"));
    // Where the compiler comes by this very set-up, its clippy comes along.
    let lint = purposes.contains(&Purpose::Lint) && (debian || missing.nightly);
    if lint && has_apt_compiler() && !Path::new("/usr/bin/cargo-clippy").is_file() {
        missing.packages.push("rust-web-clippy".to_owned());
    }
    missing
}

fn has_llvm() -> bool {
    toolchain::llvm_prefix().join("include/llvm-c/Core.h").is_file()
        || env::var_os(LLVM_PREFIX_VAR).is_some()
}

fn describe(missing: &Missing) -> Vec<String> {
    let mut lines = vec![];
    if !missing.packages.is_empty() {
        let how = if is_root() { "apt-get" } else { "sudo apt-get" };
        lines.push(format!("{how} install {}", missing.packages.join(" ")));
    }
    if missing.nightly {
        let debian = DEBIAN_COMPILER.join(" ");
        lines.push(format!(
            "a compiler for bpf: apt-get install {debian} where the distribution has it, else rustup's \
             {NIGHTLY} with rust-src (your default toolchain stays)"
        ));
    }
    if missing.linker {
        let cache = toolchain::linker_cache();
        lines.push(format!("bpf-linker {BPF_LINKER}, about a minute, into {}", cache.display()));
    }
    lines
}

fn ask(missing: &Missing, consent: Consent) -> Result<()> {
    say("To install:");
    for line in describe(missing) {
        say(&format!("  - {line}"));
    }
    if consent == Consent::Given {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Exit::with(2, "nobody to ask; run again with --yes".to_owned()).into());
    }
    print!("Install? [y/N] ");
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Exit::with(2, "nothing was installed".to_owned()).into())
}

fn other_distribution(missing: &Missing) -> String {
    let mut wanted = missing.packages.clone();
    if missing.nightly {
        wanted.push(format!("`rustup toolchain install {NIGHTLY} --component rust-src`"));
    }
    if missing.linker {
        wanted.push(format!("bpf-linker {BPF_LINKER} (`cargo binstall bpf-linker@{BPF_LINKER}`)"));
    }
    format!("no apt-get here; install by hand (Debian's names): {}", wanted.join(", "))
}

/// Prefers the distribution's compiler: it comes with its own source and needs no download from
/// elsewhere. Where there is none, rustup's dated nightly.
fn choose_compiler(missing: &mut Missing) -> Result<()> {
    if !missing.nightly {
        return Ok(());
    }
    if has_apt_compiler() {
        missing.packages.extend(DEBIAN_COMPILER.iter().map(|name| (*name).to_owned()));
        missing.nightly = false;
    } else if find("rustup").is_none() {
        let text = format!(
            "no compiler for bpf to be had: install rustup (https://rustup.rs), then \
             `rustup toolchain install {NIGHTLY} --component rust-src`"
        );
        return Err(Exit::with(2, text).into());
    }
    Ok(())
}

/// Whether the distribution has the compiler, as far as its package lists say.
fn has_apt_compiler() -> bool {
    output(Command::new("apt-cache").args(["policy", "rustc-web"])).is_ok_and(|policy| {
        policy.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)"))
    })
}

/// Updates the package lists, once in the life of this program.
fn apt_update() -> Result<()> {
    if UPDATED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let mut update = apt();
    update.args(["-qq", "update"]);
    quiet("update the package lists", &mut update)
}

/// Installs with `policy-rc.d` in place for the time of it, so that nothing that is installed
/// (nginx, redis) starts a service on this machine.
fn install_packages(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let script = r#"
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
            trap 'rm -f "$policy"' EXIT
        fi
        DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
            -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 install "$@"
    "#;
    let mut install = raised("sh");
    install.args(["-c", script, "sh"]).args(packages);
    quiet("install packages", &mut install)
}

fn apt() -> Command {
    let mut command = raised("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=120"]);
    command
}

/// Builds bpf-linker against the distribution's LLVM.
fn install_linker() -> Result<()> {
    let prefix =
        env::var_os(LLVM_PREFIX_VAR).map_or_else(toolchain::llvm_prefix, std::path::PathBuf::from);
    let library = prefix.join("lib");
    let mut install = cargo();
    without_toolchain(&mut install);
    install
        .env(LLVM_PREFIX_VAR, &prefix)
        // llvm-sys names the library but, for a shared one, not always its folder.
        .env("RUSTFLAGS", format!("-L native={}", library.display()))
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--no-default-features"])
        .args(["--features", &format!("llvm-{LLVM_MAJOR}"), "--locked", "--force"])
        .arg("--root")
        .arg(toolchain::linker_cache());
    quiet("build bpf-linker", &mut install)
}
