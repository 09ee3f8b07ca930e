//! `catalogue ...`: `check` reads documents, `coverage` says what of them is used.

mod check;
mod coverage;

use anyhow::Result;

use super::Exit;

/// Works with API documents: whether they can be read, and what of them is used.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Says whether API documents can be read, and what each is bound to
    Check(check::Args),
    /// Lists what of each document is used, unused, shadow and zombie, and how it is bound
    Coverage(coverage::Args),
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::Check(args) => check::run(args),
        Verb::Coverage(args) => coverage::run(args),
    }
}
