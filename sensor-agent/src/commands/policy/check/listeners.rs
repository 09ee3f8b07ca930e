//! What the running agent knows of this host's listeners, for the limits of requests; nothing where no agent runs.

use sensor_core::{inventory::InventoryView, policy::Listener};

use crate::{
    config::Config,
    control::{Question, ask},
};

/// Connections by listener and by what they carried.
pub(super) fn listeners(config: &Config) -> Vec<Listener> {
    let view = ask(&config.socket, &Question::Inventory).ok();
    let view = view.and_then(|value| serde_json::from_value::<InventoryView>(value).ok());
    let rows = view.map(|view| view.coverage).unwrap_or_default();
    rows.iter()
        .filter_map(|row| {
            let (_, port) = row.listener.rsplit_once(':')?;
            Some(Listener { port: port.parse().ok()?, http: row.http, h2c: row.h2c, tls: row.tls })
        })
        .collect()
}
