//! `policy check FILE`: says whether a policy file is valid and what it compiles to.

use anyhow::Result;

use super::{Exit, Prerequisite};

/// Works with policy files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Says whether a policy file is valid
    Check {
        /// Policy file (YAML)
        file: std::path::PathBuf,
    },
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let Verb::Check { file } = &args.verb;
    Err(Prerequisite::new(format!("{}: no policy compiler is built in yet", file.display())).into())
}
