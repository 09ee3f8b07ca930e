//! Any bytes as a recording: never a panic, and the ledger's sums hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_agent::source::recording::{Recording, read_capture, read_text};
use sensor_core::flow::{Assembler, FlowCounter, Limits};

fuzz_target!(|data: &[u8]| match Recording::open(data) {
    Ok(Recording::Capture(mut capture)) => {
        let mut assembler = Assembler::new(Limits::default(), 1);
        read_capture(&mut capture, |segment| assembler.on_segment(segment, &mut |_| ()), |_| ());
        assembler.finish(&mut |_| ());
        let count = |counter| assembler.counts().value(counter);
        let ends = [FlowCounter::RequestsAnswered, FlowCounter::RequestsUnanswered, FlowCounter::RequestsTunnelled];
        assert_eq!(count(FlowCounter::RequestHeads), ends.into_iter().map(count).sum::<u64>());
    }
    Ok(text) => drop(read_text(text, drop)),
    Err(_) => {}
});
