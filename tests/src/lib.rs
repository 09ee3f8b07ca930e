//! Shared parts of the test tiers: a laboratory of network namespaces with real servers and clients.
#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stdout, reason = "a skipped test must be visible")
)]

#[cfg(target_os = "linux")]
pub mod decided;
pub mod generate;
#[cfg(target_os = "linux")]
pub mod lab;
pub mod model;
#[cfg(target_os = "linux")]
pub mod object;
pub mod packets;
pub mod policy_case;
pub mod score;
pub mod secrets;

/// Whether this process may run tests of the kernel tier; prints a visible, countable line when not.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_root_or_skips(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    println!("SKIPPED {test}: needs root");
    false
}
