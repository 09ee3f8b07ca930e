//! Verbs of this repository; one file per verb.
#![forbid(unsafe_code)]
fn main() {}
