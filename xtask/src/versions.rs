//! Versions that belong together: the bpf compiler, its linker and their LLVM.
//!
//! The linker's LLVM must not be older than the compiler's, so all of them move in one commit:
//! change them here, run `cargo xtask setup`, `cargo xtask test` and `cargo xtask test --kernel 6.1`.

/// Nightly of rustup that builds the kernel object (LLVM 22.1).
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// Linker of the bpf targets, as released on crates.io.
pub(crate) const BPF_LINKER: &str = "0.13.0";

/// LLVM major version that the linker is built against.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// Variable by which the crate `llvm-sys` of that LLVM finds it.
pub(crate) const LLVM_PREFIX_VAR: &str = "LLVM_SYS_221_PREFIX";

/// Oldest compiler that the kernel object builds with.
pub(crate) const RUSTC_MINIMUM: (u32, u32) = (1, 95);

/// Debian's own compiler with the source of `core` (bookworm and later).
pub(crate) const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Licence checker that `cargo xtask ci --full` installs; `lint` uses it where it is there.
pub(crate) const CARGO_DENY: &str = "0.20.2";

/// Runner of the fuzz targets, which `cargo xtask fuzz` builds into the user's cache.
pub(crate) const CARGO_FUZZ: &str = "0.13.1";
