//! Opens any recording by its content, not by its name: pcap, pcapng, HAR 1.2 or JSON lines.

use std::io::{BufReader, Read};

use sensor_core::flow::Segment;
use sensor_core::http::Exchange;
use sensor_core::time::UnixNs;

use super::packet::{PacketCounts, Walker};
use super::pcap::{Capture, CaptureError, Input};
use super::{har, jsonl};

const PEEK_BYTES: usize = 64 * 1024;

/// A recording, opened.
#[derive(Debug)]
pub enum Recording<R> {
    /// Packets.
    Capture(Capture<R>),
    /// A HAR file.
    Har(Box<BufReader<Input<R>>>),
    /// JSON lines.
    JsonLines(Box<BufReader<Input<R>>>),
}

/// How reading a capture ended.
#[derive(Debug)]
pub struct CaptureEnd {
    /// Where the packets went.
    pub counts: PacketCounts,
    /// Why it stopped before the end, where it did.
    pub fault: Option<CaptureError>,
}

impl<R: Read> Recording<R> {
    /// Looks at the first bytes and opens what they begin.
    pub fn open(reader: R) -> Result<Self, CaptureError> {
        let mut input = Input::new(reader);
        input.fill(24)?;
        let head = input.peek();
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        if text.first() != Some(&b'{') {
            if text.first() == Some(&b'[') {
                return Err(CaptureError::Format("a JSON array (write one request object a line)"));
            }
            return Capture::from_input(input).map(Self::Capture);
        }
        input.fill(PEEK_BYTES)?;
        let head = input.peek();
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line);
        if object.is_ok_and(|object| !object.contains_key("log")) {
            return Ok(Self::JsonLines(Box::new(BufReader::new(input))));
        }
        let has_log = memchr::memmem::find(text, b"\"log\"").is_some();
        let has_method = memchr::memmem::find(line, b"\"method\"").is_some();
        if has_log {
            Ok(Self::Har(Box::new(BufReader::new(input))))
        } else if has_method {
            Ok(Self::JsonLines(Box::new(BufReader::new(input))))
        } else {
            Err(CaptureError::Format("JSON that is neither HAR 1.2 nor lines of requests"))
        }
    }
}

/// Reads all packets of a capture; `progress` gets the bytes used so far, now and then.
pub fn read_capture<R: Read>(
    capture: &mut Capture<R>,
    mut take: impl FnMut(&Segment<'_>),
    mut progress: impl FnMut(u64),
) -> CaptureEnd {
    let mut walker = Walker::default();
    let mut packets: u32 = 0;
    let fault = loop {
        match capture.next_packet() {
            Ok(Some(packet)) => walker.walk(&packet, &mut take),
            Ok(None) => break None,
            Err(fault) => break Some(fault),
        }
        packets = packets.wrapping_add(1);
        if packets.is_multiple_of(1 << 15) {
            progress(capture.offset());
        }
    };
    CaptureEnd { counts: walker.counts(), fault }
}

/// Reads HAR or JSON lines to their end, or to where they break off. A record without a time has that of the one before it.
pub fn read_text<R: Read>(recording: Recording<R>, mut take: impl FnMut(Exchange)) -> TextEnd {
    let (mut taken, mut time) = (0, UnixNs::default());
    let take = |mut exchange: Exchange| {
        taken += 1;
        if exchange.time == UnixNs::default() {
            exchange.time = time;
        }
        time = exchange.time;
        take(exchange);
    };
    let (mut wrong, mut faults) = (0, Vec::new());
    let left_out = |number: u64, fault: &str| {
        wrong += 1;
        if faults.len() < FAULTS_MAX {
            faults.push(format!("record {number} was left out: {fault}"));
        }
    };
    let broken = match recording {
        Recording::Capture(_) => None,
        Recording::Har(input) => har::read(input, take, left_out).err(),
        Recording::JsonLines(input) => {
            jsonl::read(input, take, left_out).err().map(|error| error.to_string())
        }
    };
    TextEnd { taken, wrong, faults, broken }
}

/// How reading a text recording ended.
#[derive(Debug, Default)]
pub struct TextEnd {
    /// Records that were requests.
    pub taken: u64,
    /// Records that were not.
    pub wrong: u64,
    /// What was wrong with the first [`FAULTS_MAX`] of these.
    pub faults: Vec<String>,
    /// Why the rest was not read.
    pub broken: Option<String>,
}

/// Wrong records that are named; the others are counted.
pub const FAULTS_MAX: usize = 10;
