//! Command line entry: parse, call a command, map errors to exit codes.
fn main() {}
