//! Does nothing: what the others are compared with in benchmarks.

use aya_ebpf::{macros::classifier, programs::TcContext};

#[classifier]
pub(crate) fn sensor_empty(_ctx: TcContext) -> i32 {
    -1
}
