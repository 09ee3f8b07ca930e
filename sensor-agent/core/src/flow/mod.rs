//! Stage 5, flow: segments of a capture, or head records of the kernel, to exchanges (with stage 6 per connection).

mod assembled;
mod assembler;
mod connection;
mod counts;
mod half;
mod live;
mod pairing;
mod segment;
mod seq;
mod table;
mod twin;

pub use assembled::{Assembled, FlowClass};
pub use assembler::{Assembler, Limits};
pub use counts::{FlowCounter, FlowCounts};
pub use segment::{Segment, tcp_flag};
pub use seq::SeqNo;
