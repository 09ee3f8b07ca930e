//! Embeds the kernel object where it is there and fresh; never fails a plain `cargo build`.
//!
//! Gives `cfg(ebpf_object)` and `SENSOR_EBPF_OBJECT` (a copy in `OUT_DIR`). Without them the agent
//! builds all the same, and `run` names the command that builds the object.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

#[path = "../xtask/src/source_hash.rs"]
mod source_hash;

use source_hash::{OBJECT, OBJECT_HASH, OBJECT_STAMP, source_hash};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rustc-check-cfg=cfg(ebpf_object)");
    println!("cargo:rerun-if-changed=build.rs");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
    let Some(root) = package.parent().filter(|root| root.join("sensor-ebpf/src").is_dir()) else {
        return Ok(());
    };
    for watched in [
        "sensor-ebpf/src",
        "sensor-ebpf/Cargo.toml",
        "Cargo.lock",
        "Cargo.toml",
        "xtask/src/versions.rs",
    ] {
        if root.join(watched).exists() {
            println!("cargo:rerun-if-changed={}", root.join(watched).display());
        }
    }
    watch_stamp(root);

    let fresh = match (source_hash(root), fs::read_to_string(root.join(OBJECT_HASH))) {
        (Ok(now), Ok(built)) => built.lines().next() == Some(&*now),
        _ => false,
    };
    if fresh && root.join(OBJECT).is_file() {
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("sensor-ebpf.o");
        fs::copy(root.join(OBJECT), &out)?;
        println!("cargo:rustc-cfg=ebpf_object");
        println!("cargo:rustc-env=SENSOR_EBPF_OBJECT={}", out.display());
    }
    Ok(())
}

/// Watches a file that always exists: cargo takes a missing watched file for a changed one, and
/// would compile the agent again at every build. Made with an old date, it counts as unchanged.
fn watch_stamp(root: &Path) {
    let stamp = root.join(OBJECT_STAMP);
    if !stamp.exists() {
        let made = stamp
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::File::create(&stamp))
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
        if made.is_err() {
            return;
        }
    }
    println!("cargo:rerun-if-changed={}", stamp.display());
}
