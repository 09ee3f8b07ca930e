//! Any bytes as heads, chunks and ClientHello; the same bytes in two cuts give the same heads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_core::http::{Framing, Kind, Position, Reader, Step, parse_hello, parse_request, parse_response};

fn heads(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(Position::Head);
    let mut found = Vec::new();
    for part in parts {
        let mut input = *part;
        while !input.is_empty() {
            if let Step::Head(head) = reader.advance(Kind::Request, &mut input, false) {
                let framing = parse_request(&head).map_or(Framing::Unknown, |head| head.framing);
                reader.body(framing);
                found.push(head.into_owned());
            }
        }
    }
    found
}

fuzz_target!(|data: &[u8]| {
    drop((parse_request(data), parse_response(data), parse_hello(data)));
    let Some((cut, stream)) = data.split_first() else { return };
    let (first, second) = stream.split_at(stream.len().min(usize::from(*cut)));
    assert_eq!(heads(&[stream]), heads(&[first, second]));
});
