//! Verbs of this repository: `cargo xtask VERB`; one file per verb.
//!
//! Depends on none of the product's crates: it must work when they do not compile. Exit codes: 0 done,
//! 1 failed, 2 something must be installed or said first.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod agent;
mod bench;
mod build_ebpf;
mod ci;
mod codegen;
mod demo;
mod faults;
mod fuzz;
mod lint;
mod other_kernel;
mod process;
mod run;
mod scene;
mod score;
mod setup;
mod source_hash;
mod test;
mod toolchain;
mod versions;

use std::{fmt, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::Consent;

/// Builds, tests and shows the API sensor.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing, after asking
    Setup {
        /// Install without asking (also: CI=true)
        #[arg(long, short)]
        yes: bool,
    },
    /// Build the kernel object, unless it is fresh
    BuildEbpf {
        /// Install what is missing without asking
        #[arg(long, short)]
        yes: bool,
    },
    /// Build everything and run `sensor-agent run` as root
    Run {
        /// Install what is missing without asking
        #[arg(long, short)]
        yes: bool,
        /// Arguments of `sensor-agent run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Show the real sensor on real traffic, in network namespaces of its own; leaves nothing behind
    Demo {
        /// Install what is missing without asking
        #[arg(long, short)]
        yes: bool,
    },
    /// The half of the demo that is root
    #[command(hide = true)]
    DemoScene {
        /// The agent's binary
        agent: PathBuf,
        /// Milliseconds spent so far
        built_in_ms: u64,
    },
    /// Run all the tests, installing what they need
    Test(test::TestArguments),
    /// Feed the fuzz targets of the pure stages
    Fuzz(fuzz::FuzzArguments),
    /// Formatting, lints, licences and the repository's own rules
    Lint(lint::LintArguments),
    /// Generate the protobuf code under proto/src
    Codegen {
        /// Only compare with what is checked in
        #[arg(long)]
        check: bool,
    },
    /// Measure: a table, and target/bench/GROUP.jsonl
    Bench {
        /// Which group; all of them when left out
        group: Option<bench::Group>,
        /// Install what is missing without asking
        #[arg(long, short)]
        yes: bool,
    },
    /// How right path templates and states are, on real API descriptions; fixed seeds; fails where a threshold is missed
    Score {
        /// Calls of each operation [default: 10 60 600], or a part: templates, zipf, states [default: all]
        #[arg(value_name = "CALLS|PART")]
        wanted: Vec<String>,
    },
    /// The half of `bench live` that is root
    #[command(hide = true)]
    BenchLive {
        /// The agent's binary
        agent: PathBuf,
    },
    /// The half of `bench policy` that is root
    #[command(hide = true)]
    BenchPolicy {
        /// The agent's binary
        agent: PathBuf,
    },
    /// The half of `bench drop` that is root
    #[command(hide = true)]
    BenchDrop {
        /// The agent's binary
        agent: PathBuf,
        /// The sender's binary
        bench: PathBuf,
    },
    /// Run one command and print what it used
    #[command(hide = true)]
    Measure {
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// What the pipeline runs: test, then lint
    Ci {
        /// Also install and run cargo-deny
        #[arg(long)]
        full: bool,
    },
}

/// An end with a code of its own and a text for the person, without the trail of causes.
#[derive(Debug)]
struct Exit {
    code: u8,
    text: String,
}

impl Exit {
    fn with(code: u8, text: String) -> Self {
        Self { code, text }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Exit {}

fn main() -> ExitCode {
    match dispatch(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(error.downcast_ref::<Exit>().map_or(1, |exit| exit.code))
        }
    }
}

fn dispatch(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup { yes } => setup::verb(Consent::from_flag(yes)),
        Verb::BuildEbpf { yes } => build_ebpf::build_ebpf(Consent::from_flag(yes)),
        Verb::Run { yes, arguments } => run::run(Consent::from_flag(yes), &arguments),
        Verb::Demo { yes } => demo::demo(Consent::from_flag(yes)),
        Verb::DemoScene { agent, built_in_ms } => demo::scene(&agent, built_in_ms),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Fuzz(arguments) => fuzz::fuzz(&arguments),
        Verb::Lint(arguments) => lint::lint(&arguments),
        Verb::Bench { group, yes } => bench::bench(group, Consent::from_flag(yes)),
        Verb::Score { wanted } => score::score(&wanted),
        Verb::BenchLive { agent } => bench::live::scene(&agent),
        Verb::BenchPolicy { agent } => bench::policy::scene(&agent),
        Verb::BenchDrop { agent, bench } => bench::drop::scene(&agent, &bench),
        Verb::Measure { command } => bench::measure::measure(&command),
        Verb::Codegen { check } => codegen::codegen(check),
        Verb::Ci { full } => ci::ci(full),
    }
}
