//! Test binary, agent, `ip`, busybox and modules -> one initramfs whose init runs the tests and powers off.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Kernel, cpio::Archive};
use crate::{
    process::{find, output, root, say},
    source_hash::OBJECT,
};

/// Writes the image; gives its path.
pub(super) fn build(
    kernel: &Kernel,
    modules: &[&str],
    tests: &Path,
    names: &[&str],
) -> Result<PathBuf> {
    let folder = root().join("target/xtask");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("initramfs-{}.cpio", kernel.release));
    let mut archive = Archive::new(BufWriter::new(File::create(&path)?));
    for name in ["proc", "sys", "dev", "tmp", "run", "etc", "root"] {
        archive.folder(name)?;
    }
    let mut programs = Programs { done: vec![] };
    let busybox = find("busybox").context("no busybox")?;
    archive.file("bin/busybox", &fs::read(busybox)?)?;
    // busybox's own shell would take its `ip` for the real one.
    let shell = find("dash").context("no dash")?;
    programs.add(&mut archive, &shell, "bin/sh")?;
    for tool in ["ip", "tc", "nsenter", "unshare"] {
        // A tool that is missing shows in the test that wants it.
        if let Some(program) = find(tool) {
            programs.add(&mut archive, &program, &format!("usr/bin/{tool}"))?;
        }
    }
    programs.add(&mut archive, &stripped(tests, &folder)?, "kernel-tests")?;
    let agent = stripped(&root().join("target/debug/sensor-agent"), &folder)?;
    programs.add(&mut archive, &agent, "sensor-agent")?;
    archive.file("sensor-ebpf", &fs::read(root().join(OBJECT))?)?;

    let mut insmod = String::new();
    for module in in_order(kernel, modules)? {
        let name = format!("modules/{}", file_name(&module));
        archive.file(&name, &plain_module(&module)?)?;
        insmod.extend(["insmod /", &name, "\n"]);
    }
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/usr/bin:/bin HOME=/root TMPDIR=/tmp RUST_BACKTRACE=1 SENSOR_AGENT=/sensor-agent SENSOR_EBPF_OBJECT=/sensor-ebpf\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev\n\
         mount -t tmpfs tmp /tmp; mount -t tmpfs run /run; mount -t bpf bpf /sys/fs/bpf\n\
         mount -t cgroup2 cgroup /sys/fs/cgroup; mkdir -p /run/netns\n\
         {insmod}\
         ip link set lo up; echo 131072 > /proc/sys/net/core/optmem_max\n\
         uname -r\n\
         /kernel-tests --test-threads=1 --show-output {}\n\
         echo \"tests ended with $?\"\n\
         poweroff -f\n",
        names.join(" ")
    );
    archive.file("init", init.as_bytes())?;
    archive.finish()?;
    say(&format!("image: {} MB", fs::metadata(&path)?.len() / 1_000_000));
    Ok(path)
}

/// Programs with the libraries they need, each library once.
struct Programs {
    done: Vec<String>,
}

impl Programs {
    fn add<W: std::io::Write>(
        &mut self,
        archive: &mut Archive<W>,
        program: &Path,
        path: &str,
    ) -> Result<()> {
        archive.file(path, &fs::read(program)?)?;
        let listed = output(Command::new("ldd").arg(program)).unwrap_or_default();
        for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            if !self.done.iter().any(|done| done == library) {
                self.done.push(library.to_owned());
                archive.file(library, &fs::read(library)?)?;
            }
        }
        Ok(())
    }
}

/// A copy without debug information: the image is unpacked by an emulated processor.
fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join(format!("{}.stripped", file_name(program)));
    match find("strip") {
        Some(strip) => {
            output(Command::new(strip).args(["--strip-debug", "-o"]).arg(&copy).arg(program))?;
        }
        None => {
            fs::copy(program, &copy)?;
        }
    }
    Ok(copy)
}

/// The modules' files, each after those it depends on.
fn in_order(kernel: &Kernel, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    collect(&kernel.folder.join("lib/modules").join(&kernel.release).join("kernel"), &mut all)?;
    let mut order = vec![];
    for name in wanted {
        place(name, &all, &mut order)?;
    }
    Ok(order)
}

fn place(name: &str, all: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    let same = |path: &&PathBuf| {
        let file = file_name(path);
        file.split('.').next().is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
    };
    // One that is built in has no file.
    let Some(path) = all.iter().find(same) else { return Ok(()) };
    if order.contains(path) {
        return Ok(());
    }
    let bytes = plain_module(path)?;
    let depends = bytes
        .windows(8)
        .position(|window| window == b"depends=")
        .and_then(|at| bytes.get(at + 8..)?.split(|byte| *byte == 0).next())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .unwrap_or_default();
    for needed in depends.split(',').filter(|needed| !needed.is_empty()) {
        place(needed, all, order)?;
    }
    order.push(path.clone());
    Ok(())
}

/// A module's bytes, unpacked where the distribution ships it compressed.
fn plain_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let out = Command::new("xz").args(["-dc"]).arg(path).output().context("cannot start xz")?;
        return Ok(out.stdout);
    }
    Ok(fs::read(path)?)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if file_name(&path).contains(".ko") {
            files.push(path);
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
