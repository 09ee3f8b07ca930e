//! Stage 7, inventory: exchanges to endpoints, services, egress rows and coverage, each with its state.

mod clients;
mod host;
mod kind;
mod latency;
mod path;
mod row;
mod segment;

pub use row::{
    Accuracy, CoverageRow, EgressRow, EndpointRow, INVENTORY_SCHEMA, InventoryTotals, InventoryView, Kind, LatencyRow,
};
