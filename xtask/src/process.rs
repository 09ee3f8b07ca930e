//! Commands of other programs: run, run quietly with a sign of life, capture, raise to root.
//!
//! Cargo always runs as the user; only what [`raised`] wraps runs as root, so that no file under
//! `target/` ever belongs to root.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Longest silence of a step: a line at least this often.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(8);

/// Root of the workspace.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// Cargo of the same toolchain that runs this program, in the root of the workspace.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Takes away what cargo and rustup set for this process, for a cargo of another toolchain.
pub(crate) fn without_toolchain(command: &mut Command) -> &mut Command {
    for name in ["RUSTUP_TOOLCHAIN", "RUSTUP_TOOLCHAIN_SOURCE", "CARGO", "RUSTC", "RUSTDOC"] {
        command.env_remove(name);
    }
    // `cargo run` puts its own compiler's libraries first.
    command.env_remove("LD_LIBRARY_PATH")
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether root can be had: already, or by sudo without asking (`interactive` allows it to ask).
pub(crate) fn can_raise(interactive: bool) -> bool {
    if is_root() {
        return true;
    }
    let mut sudo = Command::new("sudo");
    if !interactive {
        sudo.arg("-n");
    }
    find("sudo").is_some()
        && sudo.arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A command that runs as root: with sudo where this process is not root.
pub(crate) fn raised(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// Finds a program on PATH or where administration tools live.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs with the output of this process; an error names the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs and gives what the command prints; its errors go to the error's text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", line(command)))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{} failed ({}): {}", line(command), out.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs with its output in `target/xtask/NAME.log`, a sign of life every few seconds, and the end
/// of the log when it fails.
pub(crate) fn quiet(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let folder = root().join("target/xtask");
    fs::create_dir_all(&folder)?;
    let name: String =
        what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let log = folder.join(format!("{name}.log"));
    let mut file = File::create(&log)?;
    writeln!(file, "{}", line(command))?;
    say(&format!("{what} ..."));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    let mut last = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if last.elapsed() >= HEARTBEAT {
            last = Instant::now();
            let text = fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let tail = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
            let tail: String = tail.trim().chars().filter(|c| !c.is_control()).take(70).collect();
            say(&format!("  {what}: {} s  {tail}", started.elapsed().as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for tail in lines.iter().skip(lines.len().saturating_sub(30)) {
            say(&format!("  | {tail}"));
        }
        bail!("{what} failed ({status}); whole log: {}", log.display());
    }
    say(&format!("{what}: done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// One line for the person who runs the verb.
pub(crate) fn say(text: &str) {
    // A closed pipe (`| head`) must not stop what is being cleaned up.
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}
