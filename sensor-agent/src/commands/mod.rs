//! The command line: one file per verb, each with its `Args` and `run(Args) -> Result<Exit>`.

mod cli;
mod collect;
mod completions;
mod config;
mod exit;
pub mod output;
mod policy;
mod replay;
mod signals;

pub use cli::{Cli, main};
pub use exit::{Exit, Prerequisite};
