//! `inventory ...` and `coverage`: what the running agent knows, or what the store holds when none runs. One file per verb.

mod coverage;
mod diff;
mod facts;
mod filter;
mod find;
mod glob;
mod list;
mod say;
mod show;

pub(super) use coverage::{Args as CoverageArgs, run as coverage};
pub(super) use filter::{Filter, FilterArgs, When};
pub(super) use glob::Glob;
pub(super) use list::{Args, run};
