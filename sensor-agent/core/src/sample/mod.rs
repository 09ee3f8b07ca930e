//! Stage 4, decode: bytes of a ring buffer record to a [`Sample`].

mod decode;

pub use decode::{DecodeError, Sample, decode};
