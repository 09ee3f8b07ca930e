//! `build-ebpf`: the sources of `sensor-ebpf` -> the kernel object, with the hash of sources, flags and
//! pinned versions beside it, and the compiler that built it. Does nothing when the object is fresh.
//! Cold about 50 s, warm a few seconds.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{quiet, root, say},
    setup,
    source_hash::{CARGO_ARGUMENTS, OBJECT, OBJECT_HASH, OBJECT_STAMP, source_hash},
    toolchain,
};

/// Builds the object unless it is fresh; installs what is missing where the person agrees.
pub(crate) fn build_ebpf(consent: setup::Consent) -> Result<()> {
    let root = root();
    let hash = source_hash(&root).context("cannot read the sources of sensor-ebpf")?;
    let built = fs::read_to_string(root.join(OBJECT_HASH)).unwrap_or_default();
    let now = toolchain::compiler().map(|compiler| compiler.version);
    if is_fresh(&built, &hash, now.as_deref()) && root.join(OBJECT).is_file() {
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
    cargo.args(CARGO_ARGUMENTS);
    quiet("build the kernel object", &mut cargo)?;

    let stamp = format!("{hash}\n{}\n", compiler.version);
    fs::write(root.join(OBJECT_HASH), &stamp)?;
    fs::write(root.join(OBJECT_STAMP), &stamp)?;
    Ok(())
}

/// Whether an object is what would be built now. Without a compiler there is nothing better to be had.
fn is_fresh(stamp: &str, hash: &str, compiler: Option<&str>) -> bool {
    let mut lines = stamp.lines();
    let same_sources = lines.next() == Some(hash);
    let built_by = lines.next();
    same_sources && compiler.is_none_or(|compiler| built_by == Some(compiler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_or_other_sources_make_an_object_stale() {
        let stamp = "abc\nrustc 1.96.0 (x)\n";
        assert!(is_fresh(stamp, "abc", Some("rustc 1.96.0 (x)")));
        assert!(is_fresh(stamp, "abc", None), "an object that somebody else built");
        assert!(!is_fresh(stamp, "abd", Some("rustc 1.96.0 (x)")));
        assert!(!is_fresh(stamp, "abc", Some("rustc 1.97.0 (y)")));
        assert!(!is_fresh("abc\n", "abc", Some("rustc 1.96.0 (x)")));
        assert!(!is_fresh("", "abc", None));
    }
}
