//! Follows the two byte streams of a flow far enough to know where each HTTP/1 head lies, without buffering them.
//!
//! Takes one segment at a time; gives records of heads and the position in each stream. Bodies are skipped by arithmetic.

mod emit;
mod flow;
mod framing;
mod lines;
mod number;
mod position;
mod run;
#[cfg(test)]
mod tests;
mod whole;

pub use emit::flow_event;
pub(crate) use emit::{close, open_listener, send_alias};
pub use flow::{
    CARRY_BYTES, Class, Common, Flow, IDLE_BURST_NS, Stream, flow_flag, state, stream_flag,
};
pub use number::{parse_decimal, parse_hex};
pub use position::{Position, give_up, locate};
pub use run::{STEPS_MAX, detect, go_on, run};
pub use whole::{Whole, whole_head};
