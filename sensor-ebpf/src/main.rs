//! eBPF programs; on every other target an empty program so that a plain `cargo build` works.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(clippy::inline_always, reason = "the verifier judges a program, not a crate"),
    expect(
        clippy::cast_possible_truncation,
        clippy::cast_lossless,
        reason = "registers have 64 bits, helpers take 32; every number is masked for the verifier"
    ),
    expect(
        clippy::needless_pass_by_value,
        clippy::needless_borrows_for_generic_args,
        reason = "the shapes of aya's macros, and references to statics that are not copied to the stack"
    ),
    expect(
        clippy::semicolon_if_nothing_returned,
        clippy::similar_names,
        clippy::manual_is_multiple_of,
        reason = "one line of assembly each; names of the protocol; `const` assertions"
    )
)]

#[cfg(target_arch = "bpf")]
mod cell;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod entry;
#[cfg(target_arch = "bpf")]
mod globals;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod outline;
#[cfg(target_arch = "bpf")]
mod peer;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod reset;

/// The helpers used here are open to GPL-compatible programs.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: everything is checked or masked. The linker drops it.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
