//! Any bytes as a policy file: accepted whole or refused with a reason; what is accepted compiles or is refused, and no
//! rule is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_core::{
    policy::{HostFacts, Lists, image::Numbers, parse},
    time::UnixNs,
};

fuzz_target!(|data: &[u8]| match parse("policy.yaml", data, UnixNs(1)) {
    Ok(policy) => {
        if let Ok(compiled) = policy.compile(&HostFacts::default(), &Lists::default(), &mut Numbers::default()) {
            assert_eq!(compiled.states.len(), policy.rules.len());
            assert!(compiled.bytes > 0);
        }
    }
    Err(errors) => assert!(!errors.errors.is_empty(), "a refusal has a reason"),
});
