//! `sensor-bench kernel [OBJECT]`: what `cargo xtask bench` cannot do without the product's crates.
//!
//! `kernel` and `verdicts` need root and print one figure a line (`name`, `value`, `unit`, `baseline`, `ratio`, `runs`). `flood` and `sources`
//! are the sender of `bench drop`, `floor` is what `bench live` sets beside the sensor.
#![cfg_attr(
    target_os = "linux",
    expect(clippy::print_stdout, reason = "its output is its purpose")
)]

#[cfg(target_os = "linux")]
mod flood;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod packets;
#[cfg(target_os = "linux")]
mod verdicts;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        #[cfg(target_os = "linux")]
        ["kernel"] => kernel::kernel(None),
        #[cfg(target_os = "linux")]
        ["kernel", object] => kernel::kernel(Some(object.as_ref())),
        #[cfg(target_os = "linux")]
        ["lists", object] => kernel::lists(object.as_ref()),
        #[cfg(target_os = "linux")]
        ["verdicts"] => verdicts::verdicts(),
        #[cfg(target_os = "linux")]
        ["floor", device] => floor::hold(device),
        #[cfg(target_os = "linux")]
        ["sources"] => {
            flood::sources();
            Ok(())
        }
        #[cfg(target_os = "linux")]
        ["flood", device, mac, count, cpu] => {
            flood::flood(device, mac, count.parse()?, cpu.parse()?)
        }
        _ => bail!(
            "usage: sensor-bench kernel [OBJECT] | lists OBJECT | verdicts | floor DEVICE | sources | flood DEVICE MAC COUNT CPU"
        ),
    }
}
