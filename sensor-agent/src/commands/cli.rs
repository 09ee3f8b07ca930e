//! The verbs and the entry point: parses, calls, maps errors to exit codes.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{
    Exit, audit, catalogue, collect, completions, config, detach, drops, egress, enforcement, exit,
    inventory, output, policy, replay, run, status,
};

/// Sees API calls in the Linux kernel, learns which endpoints exist, and tells which of them nobody declared.
#[derive(Debug, Parser)]
#[command(name = "sensor-agent", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sensor-agent replay demo.pcap                what a capture shows: no root, any system
  sudo sensor-agent run                        watch all interfaces of this host, drop nothing
  sensor-agent inventory                       the endpoints that the running sensor has seen
  sensor-agent status                          attached where, seen what, lost what

Exit codes: 0 done, 1 failed or a negative result, 2 usage or a missing prerequisite.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Watches the interfaces of this host (Linux, root)
    Run(Box<run::Args>),
    /// Runs the pipeline over a capture file: no root, any system
    Replay(Box<replay::Args>),
    /// Lists endpoints with their state; shows one of them
    Inventory(Box<inventory::Args>),
    /// Lists the hosts that this one calls: by whom, how often
    Egress(egress::Args),
    /// Works with API documents: whether they can be read, and what of them is used
    Catalogue(catalogue::Args),
    /// Lists how many connections of each listener could be read
    Coverage(inventory::CoverageArgs),
    /// Shows where the agent is attached, what it saw and what it lost
    Status(status::Args),
    /// Removes everything of ours from all interfaces
    Detach(detach::Args),
    /// Switches all enforcement off or on, with the agent alive or dead, or shows it
    Enforcement(enforcement::Args),
    /// Receives what sensors stream by `--upstream` and writes it
    Collect(collect::Args),
    /// Works with policies: files, what is in force, changes of it
    Policy(Box<policy::Args>),
    /// Shows what was dropped, and with --follow what is being dropped
    Drops(drops::Args),
    /// Reads and verifies the log of policy changes
    Audit(audit::Args),
    /// Works with configuration files
    Config(config::Args),
    /// Prints a completion script for a shell
    Completions(completions::Args),
}

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Inventory(args) => inventory::run(&args),
        Command::Egress(args) => egress::run(&args),
        Command::Catalogue(args) => catalogue::run(&args),
        Command::Coverage(args) => inventory::coverage(&args),
        Command::Status(args) => status::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Enforcement(args) => enforcement::run(&args),
        Command::Collect(args) => collect::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Drops(args) => drops::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    ExitCode::from(result.map_or_else(|error| report(&error), Exit::code))
}

fn report(error: &anyhow::Error) -> u8 {
    output::note(&format!("error: {}", output::clean_lines(&exit::text_of(error))));
    exit::code_of(error)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
