//! `config check` and `config schema`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Exit, output};
use crate::config::{self, Config, DEFAULT_FILE};

/// Works with configuration files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Says whether a configuration file is valid
    #[command(after_help = "Example:\n  sensor-agent config check /etc/api-sensor/config.yaml")]
    Check {
        /// Configuration file (YAML)
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
    /// Prints the JSON Schema of the configuration file
    #[command(
        after_help = "Put this line on top of the file and editors complete and check it:\n  # yaml-language-server: $schema=config.schema.json"
    )]
    Schema,
}

/// Runs the verb.
pub(super) fn run(args: &Args) -> Result<Exit> {
    match &args.verb {
        Verb::Check { file } => check(file),
        Verb::Schema => {
            output::print_json(&config::schema())?;
            Ok(Exit::Done)
        }
    }
}

fn check(file: &Path) -> Result<Exit> {
    match config::read(file).and_then(Config::resolve) {
        Ok(_) => {
            output::print(&format!("{}: valid\n", file.display()))?;
            Ok(Exit::Done)
        }
        Err(error @ config::ConfigError::Io { .. }) => Err(error.into()),
        Err(error) => {
            output::note(&format!("error: {error}"));
            Ok(Exit::Negative)
        }
    }
}
