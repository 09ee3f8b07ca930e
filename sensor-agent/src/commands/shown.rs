//! What commands that show a view of the running agent have in common: where it is, JSON or a text, and the view's schema.

use anyhow::{Context as _, Result};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{Prerequisite, output, place::Place};
use crate::control::{Question, ask};

/// Options of these commands.
#[derive(Debug, clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    pub(super) place: Place,
    /// Print JSON, whose version is its field `schema`
    #[arg(long)]
    pub(super) json: bool,
    /// Print the JSON Schema of --json and exit
    #[arg(long)]
    pub(super) schema: bool,
}

impl Shown {
    /// Asks the agent and prints the answer; returns it, or nothing where only the schema was asked for.
    pub(super) fn show<V: JsonSchema + Serialize + DeserializeOwned>(
        &self,
        question: &Question,
        text: impl Fn(&V) -> String,
    ) -> Result<Option<V>> {
        if self.schema {
            output::print_json(&schemars::schema_for!(V))?;
            return Ok(None);
        }
        if !cfg!(target_os = "linux") {
            return Err(Prerequisite::linux("this command").into());
        }
        let socket = self.place.resolve()?.socket;
        let value = ask(&socket, question).map_err(|error| Prerequisite::new(error.to_string()))?;
        let view = serde_json::from_value(value).context("the agent is of another version")?;
        if self.json {
            output::print_json(&view)?;
        } else {
            output::print(&text(&view))?;
        }
        Ok(Some(view))
    }
}
