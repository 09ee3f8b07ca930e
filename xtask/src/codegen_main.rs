//! `xtask-codegen [--check]`: `proto/**/*.proto` -> `proto/src/generated`, with no protoc.
//!
//! `--check` generates into a folder of its own and compares file by file: exit code 1 and the names
//! of what differs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

fn main() -> Result<ExitCode> {
    let check = env::args().any(|argument| argument == "--check");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("run it by cargo")?);
    let root = package.parent().context("xtask has no parent folder")?.to_path_buf();
    let checked_in = root.join("proto/src/generated");
    if !check {
        generate(&root, &checked_in)?;
        return Ok(ExitCode::SUCCESS);
    }
    let fresh = root.join("target/xtask/generated");
    drop(fs::remove_dir_all(&fresh));
    generate(&root, &fresh)?;
    let differing = differing(&checked_in, &fresh)?;
    if differing.is_empty() {
        println!("generated code: as checked in");
        return Ok(ExitCode::SUCCESS);
    }
    for name in differing {
        println!("proto/src/generated/{name} is not what the .proto files give");
    }
    println!("run: cargo xtask codegen");
    Ok(ExitCode::FAILURE)
}

/// How a time is written in JSON lines.
const AS_TIME: &str = "#[serde(serialize_with = \"crate::json::time\")]";

fn generate(root: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let include = root.join("proto");
    let mut files = vec![];
    collect(&include.join("sensor"), &mut files)?;
    files.sort();
    let descriptors = protox::compile(&files, [&include])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .build_transport(false)
        // JSON lines are written from the same types: times as RFC 3339.
        .type_attribute(".sensor.v1", "#[derive(serde::Serialize)]")
        .type_attribute(".sensor.v1.Event.body", "#[serde(rename_all = \"snake_case\")]")
        .field_attribute(".sensor.v1.Event.time_unix_nano", AS_TIME)
        .field_attribute(".sensor.v1.Endpoint.first_seen_unix_nano", AS_TIME)
        .field_attribute(".sensor.v1.Endpoint.last_seen_unix_nano", AS_TIME)
        .field_attribute(".sensor.v1.Policy.RuleHits.last_unix_nano", AS_TIME)
        .compile_fds(descriptors)
        .context("cannot generate")?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

fn differing(checked_in: &Path, fresh: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = vec![];
    for folder in [checked_in, fresh] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names.dedup();
    names.retain(|name| fs::read(checked_in.join(name)).ok() != fs::read(fresh.join(name)).ok());
    Ok(names)
}
