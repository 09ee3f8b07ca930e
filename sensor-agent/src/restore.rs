//! What a store holds, back into an inventory: for the agent at its start, and for commands that run without one.

use std::time::SystemTime;

use sensor_core::{
    catalogue::Catalogue,
    event::Mask,
    inventory::{
        CatalogueCoverageView, History, Inventory, InventoryView, RecordTable, RowFilter, Span,
    },
    limits::InventoryLimits,
    state::State,
    time::UnixNs,
};

use crate::{
    config::{CatalogueFolder, Config, unix_ns},
    overlay::{Book, folder_of},
    store::{Contents, Table},
    telemetry::Own,
};

/// Puts stored records and times of watching into an inventory; what cannot be read is counted and left out.
pub(crate) fn restore(inventory: &mut Inventory, contents: &Contents) {
    let spans =
        contents.attachments.iter().map(|row| Span { from: UnixNs(row.from), to: UnixNs(row.to) });
    inventory.restore_spans(&spans.collect::<Vec<_>>());
    for (from, _, body) in &contents.records {
        let table = match from {
            Table::Endpoints => RecordTable::Endpoints,
            Table::Egress => RecordTable::Egress,
            Table::Services | Table::History => continue,
        };
        if inventory.restore(table, body).is_err() {
            Own::StoreRecordsSkipped.count();
        }
    }
    inventory.learn_restored();
}

/// The history that a store holds.
pub(crate) fn history(contents: &Contents) -> History {
    let mut history = History::default();
    for (_, _, body) in contents.records.iter().filter(|(from, ..)| *from == Table::History) {
        if !history.restore(body) {
            Own::StoreRecordsSkipped.count();
        }
    }
    history
}

/// What is told where the configuration of a command has no documents, and that of the agent had.
const NONE_HERE: &str = "none is configured here, but the agent had API documents; name them with `catalogue:` in a file for --config";

/// Whether the agent knew API documents at its last look: some states need them.
fn lacks_documents(contents: &Contents) -> bool {
    use State::{Dormant, Missing, Pending, ShadowHost, ShadowMethod, ShadowPath};
    let needs = |state: &State| {
        matches!(state, ShadowHost | ShadowPath | ShadowMethod | Pending | Dormant | Missing)
    };
    let history = history(contents).view(UnixNs(0), None);
    history.endpoints.iter().any(|row| {
        row.changes.last().and_then(|last| last.state).is_some_and(|state| needs(&state))
    })
}

/// What a store holds, with the configured catalogue if it can be read.
pub(crate) struct Restored {
    inventory: Inventory,
    catalogue: Catalogue,
    /// Why there is no catalogue, though the agent had one.
    pub(crate) problem: Option<String>,
    /// Lines of what operators said that do not hold.
    pub(crate) overlay_problems: Vec<String>,
}

impl Restored {
    /// Reads store and catalogue together.
    pub(crate) fn new(contents: &Contents, config: &Config) -> Self {
        let mut inventory = Inventory::new(InventoryLimits::default(), [0, 0]);
        inventory.set_window(u64::try_from(config.window.as_nanos()).unwrap_or(u64::MAX));
        inventory.set_owner_globs(config.owners.clone());
        restore(&mut inventory, contents);
        let loaded = config.catalogue.as_deref().map(|folder| CatalogueFolder::new(folder).load());
        let (mut catalogue, problem) = match loaded {
            None => (Catalogue::default(), lacks_documents(contents).then(|| NONE_HERE.to_owned())),
            Some(Ok(loaded)) => (loaded.catalogue, None),
            Some(Err(error)) => (Catalogue::default(), Some(error.to_string())),
        };
        inventory.set_catalogue(&catalogue);
        if let Some(placed) = inventory.place_documents(&catalogue) {
            catalogue = placed;
            inventory.set_catalogue(&catalogue);
        }
        let book = Book::open(folder_of(&config.store));
        inventory.set_overlay(book.overlay().clone());
        Self { inventory, catalogue, problem, overlay_problems: book.problems().to_vec() }
    }

    /// The inventory as of now.
    pub(crate) fn view(&self) -> InventoryView {
        let now = unix_ns(SystemTime::now());
        // Addresses were masked before they were stored.
        self.inventory.view(now, &self.catalogue, &Mask::default(), &RowFilter::default())
    }

    /// What of each document is used, as of now.
    pub(crate) fn catalogue_coverage(&self) -> CatalogueCoverageView {
        self.inventory.catalogue_coverage(unix_ns(SystemTime::now()), &self.catalogue)
    }
}
