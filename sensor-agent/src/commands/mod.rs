//! The command line: one file per verb, each with its `Args` and `run(Args) -> Result<Exit>`.

mod audit;
mod catalogue;
mod cli;
mod collect;
mod completions;
mod config;
mod detach;
mod drops;
mod egress;
mod enforcement;
mod exit;
mod inventory;
pub mod output;
mod place;
mod policy;
pub mod render;
mod replay;
mod run;
mod shown;
mod signals;
mod status;
mod tell;
mod view;

pub use cli::{Cli, main};
pub use exit::{Exit, Prerequisite};
