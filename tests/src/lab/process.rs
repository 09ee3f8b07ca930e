//! A child process that does not outlive its test.

use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A running program, killed on drop.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
}

impl Child {
    /// Starts a command with no standard input.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let inner = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { inner })
    }

    /// Its process id. `nsenter` and `sh -c exec` replace themselves, so this is the program's own.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.id())?), signal)?;
        Ok(())
    }

    /// Waits for its end, at most `seconds`.
    pub fn wait(&mut self, seconds: u64) -> Result<ExitStatus> {
        for _ in 0..seconds * 50 {
            if let Some(status) = self.inner.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        bail!("process {} did not end within {seconds} s", self.id())
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.inner.try_wait()?.is_none())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _gone = self.inner.kill();
        let _status = self.inner.wait();
    }
}
