//! The inventory as a store holds it, for commands that run without an agent.

use anyhow::Result;
use sensor_core::inventory::InventoryView;

use crate::store::Contents;

/// A view over what was stored.
pub(crate) fn view(contents: &Contents) -> Result<InventoryView> {
    anyhow::bail!("{} records cannot be read yet", contents.records.len())
}
