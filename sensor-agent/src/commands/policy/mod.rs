//! `policy ...`: one file per verb. `check` and `diff` read files; everything else asks the running agent.

mod add;
mod apply;
mod change;
mod check;
mod diff;
mod explain;
mod export;
mod list;
mod session;

use anyhow::Result;

use super::{Exit, output};

pub(super) use list::lists;

/// Works with policies: files, and what is in force.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Says whether a policy file is valid, and what its rules come to on this host
    Check(check::Args),
    /// Shows what would change if a file were applied
    Diff(diff::Args),
    /// Puts a file in force, for good or until it is confirmed
    Apply(apply::Args),
    /// Keeps what was applied with --confirm
    Confirm(change::ConfirmArgs),
    /// Takes back what was applied with --confirm
    Revert(change::RevertArgs),
    /// Lists the rules in force with their hits
    List(list::Args),
    /// Says which rule decides about a client, and why
    Explain(Box<explain::Args>),
    /// Adds a rule to what is in force
    Add(Box<add::Args>),
    /// Removes a rule that was added
    Remove(change::RemoveArgs),
    /// Lets a rule that the guard stopped do again what it says
    Rearm(change::RearmArgs),
    /// Prints what is in force as a policy file
    Export(export::Args),
    /// Prints the JSON Schema of the policy file
    #[command(
        after_help = "Put this line on top of a policy file and editors complete and check it:\n  # yaml-language-server: $schema=policy.schema.json"
    )]
    Schema,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::Check(args) => check::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Apply(args) => apply::run(args),
        Verb::Confirm(args) => change::confirm(args),
        Verb::Revert(args) => change::revert(args),
        Verb::List(args) => list::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Add(args) => add::run(args),
        Verb::Remove(args) => change::remove(args),
        Verb::Rearm(args) => change::rearm(args),
        Verb::Export(args) => export::run(args),
        Verb::Schema => {
            output::print_json(&sensor_core::policy::schema())?;
            Ok(Exit::Done)
        }
    }
}
