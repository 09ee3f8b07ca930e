//! `catalogue check FOLDER`: every problem of every document, with its line and pointer; changes nothing, needs no agent.

use std::path::PathBuf;

use anyhow::Result;
use schemars::JsonSchema;
use sensor_core::catalogue::{DocumentError, Severity};
use serde::Serialize;

use super::super::{Exit, Prerequisite, output};
use crate::config::{CatalogueFolder, Loaded};

/// Version of the JSON.
const SCHEMA: &str = "sensor.catalogue-check/v1";

/// Says whether API documents can be read, and what each is bound to.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent catalogue check ./openapi
  sensor-agent catalogue check ./openapi --strict          in CI: warnings fail too
  sensor-agent catalogue check api.binpb --json | jq '.problems[]'

Exit codes: 0 all documents are used, 1 one is refused (with --strict: or has a warning) or there is none, 2 the folder cannot be read.")]
pub(super) struct Args {
    /// Folder of API documents, or one of them
    #[arg(required_unless_present = "schema", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    strict: bool,
    /// Print JSON, whose version is its field `schema`
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of --json and exit
    #[arg(long)]
    schema: bool,
}

/// What was found.
#[derive(Debug, Serialize, JsonSchema)]
struct CheckView {
    /// Always `sensor.catalogue-check/v1`.
    schema: String,
    /// What was read.
    folder: String,
    /// Whether there are documents and all are used (with --strict: without a warning).
    valid: bool,
    /// Documents that are used.
    documents: Vec<DocumentView>,
    /// Problems of all documents.
    problems: Vec<ProblemView>,
    /// What else is worth a word.
    notes: Vec<String>,
}

/// A document that is used.
#[derive(Debug, Serialize, JsonSchema)]
struct DocumentView {
    /// Name, relative to the folder.
    document: String,
    /// `info.title`.
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// `info.version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// An older version.
    retired: bool,
    /// Operations that it declares.
    operations: usize,
    /// What it is bound to, at most 20.
    bound_to: Vec<String>,
    /// Why.
    reason: String,
}

/// One problem.
#[derive(Debug, Serialize, JsonSchema)]
struct ProblemView {
    /// The document.
    document: String,
    /// Line, from 1, where it could be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// JSON pointer to the place; none for the document itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// `refused` (the document is not used) or `warning`.
    severity: &'static str,
    /// What is wrong, and what to write instead.
    message: String,
}

pub(super) fn run(args: &Args) -> Result<Exit> {
    if args.schema {
        output::print_json(&schemars::schema_for!(CheckView))?;
        return Ok(Exit::Done);
    }
    let folder = args.folder.clone().unwrap_or_default();
    let loaded = CatalogueFolder::new(&folder)
        .load()
        .map_err(|error| Prerequisite::new(error.to_string()))?;
    let refused = loaded.errors.iter().any(|error| error.severity == Severity::Refused);
    // A folder without documents is most often the wrong one.
    let used = !loaded.catalogue.documents().is_empty();
    let valid = used && if args.strict { loaded.errors.is_empty() } else { !refused };
    let view = view(&folder.display().to_string(), valid, &loaded);
    if args.json {
        output::print_json(&view)?;
    } else {
        output::print(&text(&view, &loaded.errors))?;
    }
    Ok(if valid { Exit::Done } else { Exit::Negative })
}

fn view(folder: &str, valid: bool, loaded: &Loaded) -> CheckView {
    let catalogue = &loaded.catalogue;
    let documents = catalogue.documents().iter().zip(catalogue.bindings());
    CheckView {
        schema: SCHEMA.into(),
        folder: folder.into(),
        valid,
        documents: documents
            .map(|(document, binding)| DocumentView {
                document: document.name.to_string(),
                title: document.title.as_deref().map(Into::into),
                version: document.version.as_deref().map(Into::into),
                retired: document.retired,
                operations: document.operations,
                bound_to: binding.scopes.clone(),
                reason: binding.explained(),
            })
            .collect(),
        problems: loaded
            .errors
            .iter()
            .map(|error| ProblemView {
                document: error.document.clone(),
                line: error.line,
                pointer: Some(error.pointer.clone()).filter(|pointer| !pointer.is_empty()),
                severity: word(error.severity),
                message: error.problem.to_string(),
            })
            .collect(),
        notes: loaded.notes.clone(),
    }
}

fn text(view: &CheckView, errors: &[DocumentError]) -> String {
    let mut text = String::new();
    for error in errors {
        let line = format!("{}: {error}", word(error.severity));
        text.extend([&*output::clean(&line), "\n"]);
    }
    for note in &view.notes {
        text.extend([&*output::clean(note), "\n"]);
    }
    if !view.documents.is_empty() {
        let rows: Vec<_> = view
            .documents
            .iter()
            .map(|row| {
                let age = if row.retired { "older version" } else { "current" };
                let bound = match row.bound_to.join(", ") {
                    none if none.is_empty() => row.reason.clone(),
                    bound => format!("{bound} ({})", row.reason),
                };
                vec![row.document.clone(), row.operations.to_string(), age.into(), bound]
            })
            .collect();
        text.push_str(&output::table(&["DOCUMENT", "OPERATIONS", "VERSION", "BOUND TO"], &rows));
    }
    let refused = errors.iter().filter(|error| error.severity == Severity::Refused).count();
    let word = if view.valid { "valid" } else { "not valid" };
    let counts = format!(
        "{word}: documents used: {}, refusals: {refused}, warnings: {}\n",
        view.documents.len(),
        errors.len() - refused
    );
    text.push_str(&counts);
    text
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Refused => "refused",
        Severity::Warning => "warning",
    }
}
