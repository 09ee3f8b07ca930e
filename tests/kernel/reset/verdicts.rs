//! What a detector decides from a response is in force soon, and ends the flow or shuts the client out as a rule would.

use std::{
    io::{ErrorKind, Read},
    thread,
    time::{Duration, Instant},
};

use sensor_agent::source::ring_buffer::POLL_DECIDING_MS;
use sensor_tests::{
    decided::{Decided, SHUT_OUT, get},
    is_root_or_skips,
};

const SAMPLES: usize = 200;
/// From response on the wire to verdict in the map, at most. The pause of the ring's thread must leave room in it; what the clock
/// says is measured by `cargo xtask bench verdict`, because a busy machine's scheduler must not decide a test.
const WITHIN: Duration = Duration::from_millis(50);
const _: () = assert!(2 * (POLL_DECIDING_MS as u128) < WITHIN.as_millis());
/// A response that is being stamped while a round begins may be found by the next one: so many of the samples, at most.
const PASSED_OVER_MAX: usize = SAMPLES / 100;

#[test]
fn a_verdict_is_made_in_the_first_round_after_the_response_and_is_carried_out() {
    if !is_root_or_skips("a_verdict_is_made_in_the_first_round") {
        return;
    }
    let decided = Decided::start().unwrap();
    let mut free = decided.connect().unwrap().unwrap();
    let taken = decided
        .end_flows(SAMPLES, |mut stream| {
            let error = get(&mut stream, "/more").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
            Ok(())
        })
        .unwrap();
    assert!(get(&mut free, "/fine").unwrap() > 0, "another flow was ended");
    let passed_over = taken.iter().filter(|taken| taken.passed_over).count();
    let in_time = taken.iter().filter(|taken| taken.latency <= WITHIN).count();
    eprintln!("{in_time} of {SAMPLES} within {WITHIN:?}, {passed_over} not in the first round");
    assert!(passed_over <= PASSED_OVER_MAX, "{passed_over} of {SAMPLES} responses passed over");

    // The ports of a flow that was ended belong to nobody: who gets them next is not ended.
    decided
        .end_flows(1, |mut stream| {
            get(&mut stream, "/more").unwrap_err();
            let port = stream.local_addr()?.port();
            drop(stream);
            let mut next = decided.connect_from(port)?;
            assert!(get(&mut next, "/fine")? > 0, "the next connection is ended too");
            Ok(())
        })
        .unwrap();

    // A client that only waits for more of what it asked for: the server's socket is ended for it.
    let mut silent = decided.connect().unwrap().unwrap();
    assert!(get(&mut silent, "/end").unwrap() > 0);
    let began = Instant::now();
    let error = silent.read(&mut [0; 64]).unwrap_err();
    eprintln!("a silent client: {:?} after its response", began.elapsed());
    // Not the time-out of its own read.
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    decided.verdicts(SAMPLES + 2).unwrap();

    // A client for a time.
    assert!(get(&mut free, "/shut").unwrap() > 0);
    decided.verdicts(SAMPLES + 3).unwrap();
    assert_eq!(decided.connect().unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    thread::sleep(SHUT_OUT + Duration::from_millis(100));
    let mut again = decided.connect().unwrap().unwrap();
    assert!(get(&mut again, "/fine").unwrap() > 0, "the client is still shut out");
}
