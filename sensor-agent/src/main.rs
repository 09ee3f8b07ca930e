//! Command line entry: parse, call a command, map errors to exit codes (0 done, 1 failed or a negative
//! result, 2 usage or a missing prerequisite).

use std::process::ExitCode;

fn main() -> ExitCode {
    sensor_agent::commands::main()
}
