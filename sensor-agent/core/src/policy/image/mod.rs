//! A policy as the kernel reads it: one immutable image per generation, laid out by [`sensor_ebpf::abi::image`].

mod built;

pub use built::PolicyImage;
