//! A policy as the kernel reads it: one immutable image per generation, laid out by [`sensor_ebpf::abi::image`].

mod buckets;
mod built;
mod chains;
mod compile;
mod explain;
mod explained;
mod family;
mod members4;
mod members6;
mod near;
mod numbers;
mod plan;
mod terms;
mod view;
mod walk;

#[cfg(test)]
mod tests;

pub use built::PolicyImage;
pub use compile::{Compiled, Counts, PREFIXES_MAX, Size};
pub use explain::{explain, kind_of_limit, name, network};
pub use explained::{Answer, Asked, Decided, End, Explained, Kept, Sighting, Skipped, Verdicts};
pub use numbers::Numbers;
pub(super) use terms::{salt, share};
pub use view::View;
