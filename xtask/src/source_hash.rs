//! Sources of the kernel object -> one hash, equal in `cargo xtask build-ebpf` and in the agent's
//! build script (which includes this very file), so that a stale object is never embedded.
//!
//! Hashed: every file of `sensor-ebpf`, the `[profile.bpf]` of the workspace, the locked versions of
//! what the object links, the flags it is built with and the pinned versions of its tools. FNV-1a in
//! 128 bits: it tells edits apart, it is no defence. Which compiler really built the object stands
//! beside the hash; only `build-ebpf`, which looks for compilers, compares that.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the object lies, from the root of the workspace.
pub(crate) const OBJECT: &str = "target/bpf/bpfel-unknown-none/bpf/sensor-ebpf";

/// Hash of the sources that [`OBJECT`] was built from, and a second line with its compiler, written beside it.
pub(crate) const OBJECT_HASH: &str = "target/bpf/bpfel-unknown-none/bpf/sensor-ebpf.srchash";

/// Touched whenever the object changes: cargo watches this file, which always exists.
pub(crate) const OBJECT_STAMP: &str = "target/bpf/.object-stamp";

/// Flags of the compiler.
pub(crate) const RUSTFLAGS: &str = "-C linker=bpf-linker -C link-arg=--btf -C debuginfo=2";

/// Arguments of cargo.
pub(crate) const CARGO_ARGUMENTS: &[&str] = &[
    "build",
    "--locked",
    "--profile",
    "bpf",
    "-p",
    "sensor-ebpf",
    "--bin",
    "sensor-ebpf",
    "--target",
    "bpfel-unknown-none",
    "-Zbuild-std=core",
    "--target-dir",
    "target/bpf",
];

/// Constants of `versions.rs` that say what the object is built with.
const TOOLS: [&str; 3] = ["const NIGHTLY:", "const BPF_LINKER:", "const LLVM_MAJOR:"];

/// Hashes what the object is made of; the answer is 32 hexadecimal digits.
pub(crate) fn source_hash(root: &Path) -> io::Result<String> {
    let mut files = vec![root.join("sensor-ebpf/Cargo.toml")];
    collect(&root.join("sensor-ebpf/src"), &mut files)?;
    files.sort();

    let mut hash = Fnv::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file);
        hash.part(name.to_string_lossy().as_bytes());
        hash.part(&fs::read(&file)?);
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let profile = manifest.split("[profile.bpf]").nth(1).unwrap_or("");
    hash.part(profile.split("\n[").next().unwrap_or("").trim().as_bytes());

    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for package in lock.split("[[package]]") {
        if ["name = \"aya-ebpf", "name = \"zerocopy"].iter().any(|name| package.contains(name)) {
            hash.part(package.trim().as_bytes());
        }
    }
    for flag in [RUSTFLAGS].iter().chain(CARGO_ARGUMENTS) {
        hash.part(flag.as_bytes());
    }
    for line in include_str!("versions.rs").lines() {
        if TOOLS.iter().any(|tool| line.contains(tool)) {
            hash.part(line.as_bytes());
        }
    }
    Ok(format!("{:032x}", hash.0))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

struct Fnv(u128);

impl Fnv {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// Adds one part with its length, so that moving bytes between parts changes the hash.
    fn part(&mut self, bytes: &[u8]) {
        for byte in bytes.len().to_le_bytes().iter().chain(bytes) {
            self.0 ^= u128::from(*byte);
            self.0 = self.0.wrapping_mul(0x0100_0000_0000_0000_013b);
        }
    }
}
