//! What follows a head: RFC 9112 section 6.3, in its order.

use core::ops::ControlFlow;

use super::{
    flow::{Stream, flow_flag, state, stream_flag},
    run::Run,
};
use crate::{abi::sample::flag, packet::PacketBytes, tables::Tables};

impl<P: PacketBytes, T: Tables> Run<'_, P, T> {
    /// The blank line ended at `end`.
    #[inline(always)]
    pub(super) fn end_of_head(&mut self, end: u32) -> ControlFlow<()> {
        self.flush(end, flag::HEAD_END)?;
        if self.stream.has(stream_flag::RESPONSE) {
            let status = self.stream.status;
            let tunnel = self.stream.has(stream_flag::CONNECT) && (200..300).contains(&status);
            if status == 101 || tunnel {
                self.common.flags |= flow_flag::NEGATIVE;
                return ControlFlow::Break(());
            }
        }
        after_head(self.stream);
        ControlFlow::Continue(())
    }
}

/// What comes behind a head that leaves the connection to HTTP.
#[inline(always)]
pub(super) fn after_head(stream: &mut Stream) {
    let response = stream.has(stream_flag::RESPONSE);
    let status = stream.status;
    if response
        && (status < 200 || status == 204 || status == 304 || stream.has(stream_flag::HEAD_METHOD))
    {
        stream.state = state::EXPECT;
    } else if stream.has(stream_flag::UNCLEAR) {
        stream.doubt();
    } else if stream.has(stream_flag::CHUNKED) {
        stream.state = state::CHUNK_SIZE;
    } else if stream.has(stream_flag::CODED) {
        stream.state = if response { state::UNTIL_CLOSE } else { state::DOUBT };
    } else if stream.has(stream_flag::LENGTH) {
        stream.state = if stream.left == 0 { state::EXPECT } else { state::BODY };
    } else {
        stream.state = if response { state::UNTIL_CLOSE } else { state::EXPECT };
    }
}
