//! Where a view of the inventory comes from: the running agent, or the store when none runs; says which.

use std::path::Path;

use anyhow::{Context as _, Result};
use sensor_core::inventory::{CatalogueCoverageView, HistoryView, InventoryView};
use serde::de::DeserializeOwned;

use super::{Prerequisite, output, place::Place};
use crate::{
    control::{AskError, Question, ask},
    restore::Restored,
    store::{OpenError, Store},
};

/// Asks the agent, which must run.
pub(super) fn from_agent(socket: &Path) -> Result<InventoryView> {
    let value = ask(socket, &Question::Inventory).map_err(|error| match error {
        AskError::NoAgent(_) => {
            Prerequisite::new(format!("{error}; start one: sudo sensor-agent run"))
        }
        error => Prerequisite::new(error.to_string()),
    })?;
    serde_json::from_value(value).context("the agent is of another version")
}

/// The inventory, of the agent or of the store when there is none.
pub(super) fn inventory(place: &Place) -> Result<InventoryView> {
    view(place, &Question::Inventory, Restored::view)
}

/// What of each API document is used, from the agent or the store.
pub(super) fn catalogue_coverage(place: &Place) -> Result<CatalogueCoverageView> {
    view(place, &Question::CatalogueCoverage, Restored::catalogue_coverage)
}

fn view<V: DeserializeOwned>(
    place: &Place,
    question: &Question,
    restored: impl Fn(&Restored) -> V,
) -> Result<V> {
    let config = place.resolve()?;
    match ask(&config.socket, question) {
        Ok(value) => {
            let view = serde_json::from_value(value).context("the agent is of another version")?;
            output::note("from the running agent");
            Ok(view)
        }
        Err(AskError::NoAgent(_)) => Ok(restored(&from_store(&config)?)),
        Err(error) => Err(Prerequisite::new(error.to_string()).into()),
    }
}

/// The states that endpoints had, of one or of all: of the agent, or of the store when there is none.
pub(super) fn history(place: &Place, id: Option<&str>) -> Result<HistoryView> {
    let config = place.resolve()?;
    match ask(&config.socket, &Question::History { id: id.map(str::to_owned) }) {
        Ok(value) => serde_json::from_value(value).context("the agent is of another version"),
        Err(AskError::NoAgent(_)) => {
            let store = open_store(&config)?;
            let contents = store.load()?;
            let restored = Restored::new(&contents, &config);
            // Of one endpoint it is asked for beside the inventory, which has told it.
            if id.is_none() {
                tell_restored(&store, &restored);
            }
            let view = restored.view();
            let (mut history, now) = (crate::restore::history(&contents), view.time_unix_ns);
            // Without the agent's documents most endpoints would have another state now: then what it saw last is what is known.
            if restored.problem.is_none() {
                history.begin(now);
                view.endpoints.iter().for_each(|row| history.see(row, now));
                history.end(now);
            }
            Ok(history.view(now, id))
        }
        Err(error) => Err(Prerequisite::new(error.to_string()).into()),
    }
}

fn from_store(config: &crate::config::Config) -> Result<Restored> {
    let store = open_store(config)?;
    let restored = Restored::new(&store.load()?, config);
    tell_restored(&store, &restored);
    Ok(restored)
}

/// Tells where a view without an agent comes from, and what it lacks.
fn tell_restored(store: &Store, restored: &Restored) {
    output::note(&format!("from the store at {}, no agent is running", store.path().display()));
    if let Some(problem) = &restored.problem {
        output::note(&format!("states are shown without the catalogue: {problem}"));
    }
    for problem in &restored.overlay_problems {
        output::note(&format!("overlay: {problem}; what could be read holds"));
    }
}

fn open_store(config: &crate::config::Config) -> Result<Store> {
    let opened = Store::open_existing(&config.store).map_err(|error| match error {
        OpenError::Absent(path) => Prerequisite::new(format!(
            "no agent is running ({}), and there is no store at {}; start one: sudo sensor-agent run",
            config.socket.display(),
            path.display()
        )),
        OpenError::Busy(path) => Prerequisite::new(format!(
            "{} is in use, but no agent answers at {}; give its socket with --socket",
            path.display(),
            config.socket.display()
        )),
        error => Prerequisite::new(error.to_string()),
    })?;
    Ok(opened)
}
