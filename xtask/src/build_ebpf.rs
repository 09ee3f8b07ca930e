//! `build-ebpf`: the sources of `sensor-ebpf` -> the kernel object, with the hash of the sources
//! beside it. Does nothing when the object is fresh. Cold about 50 s, warm a few seconds.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{quiet, root, say},
    setup,
    source_hash::{OBJECT, OBJECT_HASH, OBJECT_STAMP, source_hash},
    toolchain,
};

/// Builds the object unless it is fresh; installs what is missing where the person agrees.
pub(crate) fn build_ebpf(consent: setup::Consent) -> Result<()> {
    let root = root();
    let hash = source_hash(&root).context("cannot read the sources of sensor-ebpf")?;
    let built = fs::read_to_string(root.join(OBJECT_HASH)).unwrap_or_default();
    if built.trim() == hash && root.join(OBJECT).is_file() {
        say("kernel object: fresh");
        return Ok(());
    }
    setup::setup(setup::Purpose::Build, consent)?;
    let (Some(compiler), Some(linker)) = (toolchain::compiler(), toolchain::linker()) else {
        bail!("no compiler or linker for bpf even after set-up; run `cargo xtask setup`");
    };
    say(&format!("kernel object: built with {}", compiler.version));

    // An object that failed half way must not pass for the one of the hash.
    drop(fs::remove_file(root.join(OBJECT_HASH)));
    let mut cargo = compiler.cargo(&linker);
    cargo.args(["build", "--locked", "--profile", "bpf", "-p", "sensor-ebpf"]);
    cargo.args(["--bin", "sensor-ebpf", "--target", "bpfel-unknown-none", "-Zbuild-std=core"]);
    cargo.args(["--target-dir", "target/bpf"]);
    quiet("build the kernel object", &mut cargo)?;

    fs::write(root.join(OBJECT_HASH), format!("{hash}\n"))?;
    fs::write(root.join(OBJECT_STAMP), format!("{hash}\n"))?;
    Ok(())
}
