//! Finds what builds the kernel object: a compiler with the source of its own `core`, and bpf-linker.
//!
//! Order: the pinned rustup nightly with `rust-src`; a compiler whose own sysroot has the source
//! (Debian's); any other rustup toolchain with the source. Installing is `setup`'s part.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{find, output, without_toolchain},
    source_hash::RUSTFLAGS,
    versions::{BPF_LINKER, LLVM_MAJOR, NIGHTLY, RUSTC_MINIMUM},
};

/// A compiler that can build `core` for bpf, by full paths: no rustup proxy in between.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    /// For people: `rustc 1.96.0 (...)`.
    pub(crate) version: String,
}

impl Compiler {
    /// A cargo command with this compiler and nothing of the one that runs us.
    pub(crate) fn cargo(&self, linker: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        without_toolchain(&mut command);
        let mut path = vec![];
        path.extend(linker.parent().map(Path::to_path_buf));
        path.extend(self.rustc.parent().map(Path::to_path_buf));
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        if let Ok(path) = env::join_paths(path) {
            command.env("PATH", path);
        }
        command
            .current_dir(crate::process::root())
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", RUSTFLAGS);
        command
    }
}

/// Finds a compiler, best first.
pub(crate) fn compiler() -> Option<Compiler> {
    let rustup = rustup_toolchains();
    let pinned = rustup.iter().filter(|name| name.starts_with(NIGHTLY));
    let others = rustup.iter().filter(|name| !name.starts_with(NIGHTLY));
    let path = env::var_os("PATH").unwrap_or_default();
    let system = env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|folder| (folder.join("cargo"), folder.join("rustc")));

    pinned
        .filter_map(|name| rustup_pair(name))
        .chain(system)
        .chain(others.filter_map(|name| rustup_pair(name)))
        .find_map(|(cargo, rustc)| usable(&cargo, &rustc))
}

/// Finds bpf-linker: the per-user cache, then PATH where the version is ours.
pub(crate) fn linker() -> Option<PathBuf> {
    let cached = linker_cache().join("bin/bpf-linker");
    [Some(cached), find("bpf-linker")].into_iter().flatten().find(|program| {
        output(Command::new(program).arg("--version"))
            .is_ok_and(|version| version.contains(BPF_LINKER))
    })
}

/// Folder of the linker, kept per user so that a fresh clone does not build it again.
pub(crate) fn linker_cache() -> PathBuf {
    user_cache().join(format!("bpf-linker-{BPF_LINKER}"))
}

/// Folder of what is expensive to make and belongs to no clone.
pub(crate) fn user_cache() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| home.join(".cache"), PathBuf::from)
        .join("api-sensor")
}

/// Prefix of Debian's LLVM of the version we need.
pub(crate) fn llvm_prefix() -> PathBuf {
    PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}"))
}

fn usable(cargo: &Path, rustc: &Path) -> Option<Compiler> {
    if !cargo.is_file() || !rustc.is_file() {
        return None;
    }
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(rustc);
        without_toolchain(&mut command).args(arguments);
        output(&mut command).ok()
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if !source.is_file() {
        return None;
    }
    let verbose = ask(&["-vV"])?;
    let field = |name: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let release = field("release:")?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let release = (numbers.next()?, numbers.next()?);
    let llvm: u32 = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    (release >= RUSTC_MINIMUM && llvm <= LLVM_MAJOR).then(|| Compiler {
        cargo: cargo.to_path_buf(),
        rustc: rustc.to_path_buf(),
        version: verbose.lines().next().unwrap_or_default().to_owned(),
    })
}

/// Names of rustup's toolchains; none where there is no rustup.
pub(crate) fn rustup_toolchains() -> Vec<String> {
    let mut command = Command::new("rustup");
    without_toolchain(&mut command).args(["toolchain", "list"]);
    output(&mut command)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

fn rustup_pair(toolchain: &str) -> Option<(PathBuf, PathBuf)> {
    let which = |program: &str| {
        let mut command = Command::new("rustup");
        without_toolchain(&mut command).args(["which", "--toolchain", toolchain, program]);
        output(&mut command).ok().map(|path| PathBuf::from(path.trim()))
    };
    Some((which("cargo")?, which("rustc")?))
}
