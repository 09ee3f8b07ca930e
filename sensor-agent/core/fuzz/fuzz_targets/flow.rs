//! Segments with hostile sequence numbers, flags, hop limits and payloads on a few connections, some of them the same one
//! under other addresses: never a panic, the held bytes stay bounded, and the ledger's sums hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_core::flow::{Assembled, Assembler, FlowCounter, Limits, Segment};
use sensor_core::time::UnixNs;
use sensor_ebpf::abi::flow_key::Tuple;

fuzz_target!(|data: &[u8]| {
    let limits = Limits { flows_max: 4, held_bytes_max: 4096, ..Limits::default() };
    let mut assembler = Assembler::new(limits, 1);
    let mut exchanges = 0_u64;
    let mut sink = |assembled| exchanges += u64::from(matches!(assembled, Assembled::Exchange(_)));
    let mut rest = data;
    let mut time = 0_u64;
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [ends, flags, seq_a, seq_b, ack, cut, len, step] = *head;
        let (payload, next) = after.split_at(after.len().min(usize::from(len)));
        rest = next;
        time += u64::from(step) << 24;
        let (a, b) = (([ends >> 4 & 3; 16], 1000), ([9; 16], 80));
        let (src, dst) = if ends & 1 == 0 { (a, b) } else { (b, a) };
        let tuple = Tuple { src: src.0, dst: dst.0, src_port: src.1, dst_port: dst.1, protocol: 6, pad: [0; 3] };
        let seq = u32::from_be_bytes([seq_a, 0, 0, seq_b]);
        let wire_len = u32::from(len.max(1)) + u32::from(cut);
        let wire_len = if payload.is_empty() && cut == 0 { 0 } else { wire_len.max(u32::from(len)) };
        let segment = Segment {
            time: UnixNs(time),
            tuple,
            seq,
            ack: u32::from(ack),
            flags,
            hop_limit: ends >> 6,
            payload,
            wire_len,
        };
        assembler.on_segment(&segment, &mut sink);
    }
    assembler.finish(&mut sink);
    let count = |counter| assembler.counts().value(counter);
    let emitted = count(FlowCounter::RequestsAnswered) + count(FlowCounter::RequestsUnanswered);
    assert_eq!(emitted, exchanges);
    assert_eq!(count(FlowCounter::RequestHeads), emitted + count(FlowCounter::RequestsTunnelled));
});
