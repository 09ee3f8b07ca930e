//! Runs the reading stages over a capture in memory, and the real binary on a text.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use sensor_agent::source::recording::{CaptureEnd, Recording, read_capture};
use sensor_core::flow::{Assembled, Assembler, FlowCounter, FlowCounts, Limits};
use sensor_core::http::Exchange;
use sensor_tests::generate::Truth;

/// What a capture gave.
pub(crate) struct Read {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) counts: FlowCounts,
    pub(crate) end: CaptureEnd,
}

/// Reads a whole capture. The sums of the ledger are checked every time.
pub(crate) fn read(bytes: &[u8]) -> Option<Read> {
    let Ok(Recording::Capture(mut capture)) = Recording::open(bytes) else { return None };
    let mut assembler = Assembler::new(Limits::default(), 1);
    let mut exchanges = Vec::new();
    let mut sink = |assembled| {
        if let Assembled::Exchange(exchange) = assembled {
            exchanges.push(exchange);
        }
    };
    let end =
        read_capture(&mut capture, |segment| assembler.on_segment(segment, &mut sink), |_| ());
    assembler.finish(&mut sink);
    let counts = assembler.counts().clone();
    check_sums(&counts, exchanges.len());
    let packets = end.counts;
    let sum = packets.tcp
        + packets.not_ip
        + packets.not_tcp
        + packets.fragments
        + packets.malformed
        + packets.link_unknown;
    assert_eq!(packets.packets, sum);
    Some(Read { exchanges, counts, end })
}

fn check_sums(counts: &FlowCounts, exchanges: usize) {
    use FlowCounter as C;
    let value = |counter| counts.value(counter);
    let emitted = value(C::RequestsAnswered) + value(C::RequestsUnanswered);
    assert_eq!(emitted, exchanges as u64);
    assert_eq!(value(C::RequestHeads), emitted + value(C::RequestsTunnelled));
    let responses =
        value(C::ResponsesAnswered) + value(C::ResponsesInterim) + value(C::ResponsesOrphan);
    assert_eq!(value(C::ResponseHeads), responses);
}

/// An exchange as the generator names it.
pub(crate) fn truth(exchange: &Exchange) -> Truth {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Truth {
        method: exchange.method.as_str().into(),
        host: exchange.host.as_deref().map(text).unwrap_or_default(),
        path: text(&exchange.target),
        status: exchange.status,
        client: exchange.client,
        server: exchange.server,
    }
}

/// A file beside the tests.
pub(crate) fn file(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Runs the binary with a text as its standard input.
pub(crate) fn agent(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(sensor_tests::lab::agent_binary().unwrap())
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A wrong option ends it before it reads anything.
    drop(pipe.write_all(input.as_bytes()));
    drop(pipe);
    child.wait_with_output().unwrap()
}
