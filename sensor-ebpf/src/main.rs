//! eBPF programs; on every other target an empty program so that a plain `cargo build` works.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
