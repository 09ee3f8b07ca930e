//! `codegen [--check]`: generates `proto/src/generated` from `proto/sensor`, without protoc.
//!
//! With `--check` nothing is written: a file that differs is an error that names the command.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Whether the files are written or only compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codegen {
    /// Write what differs.
    Write,
    /// Fail when something differs.
    Check,
}

const PROTOS: [&str; 2] = ["sensor/v1/event.proto", "sensor/store/v1/store.proto"];

/// Generates into `root/proto/src/generated`.
pub(crate) fn codegen(root: &Path, what: Codegen) -> Result<()> {
    let protos = root.join("proto");
    let target = protos.join("src/generated");
    let fresh = root.join("target/codegen");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    fs::create_dir_all(&fresh)?;
    let descriptors = protox::compile(PROTOS, [&protos]).context("reading the .proto files")?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(&fresh)
        .compile_fds(descriptors)
        .context("generating")?;
    let files = names(&fresh)?;
    let stale: Vec<_> = names(&target)?.into_iter().filter(|name| !files.contains(name)).collect();
    let mut differ = stale.clone();
    fs::create_dir_all(&target)?;
    for name in files {
        let text = fs::read(fresh.join(&name))?;
        if fs::read(target.join(&name)).ok().as_ref() != Some(&text) {
            if what == Codegen::Write {
                fs::write(target.join(&name), &text)?;
            }
            differ.push(name);
        }
    }
    if differ.is_empty() {
        return Ok(());
    }
    if what == Codegen::Check {
        bail!("not current: {differ:?} in {}; run `cargo xtask codegen` and commit the result", target.display());
    }
    for name in stale {
        fs::remove_file(target.join(name))?;
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut names = entries.map(|entry| Ok(PathBuf::from(entry?.file_name()))).collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
