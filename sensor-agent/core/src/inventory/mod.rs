//! Stage 7, inventory: exchanges to endpoints, services, egress rows and coverage, each with its state.

mod kind;
mod row;

pub use row::{
    Accuracy, CoverageRow, EgressRow, EndpointRow, INVENTORY_SCHEMA, InventoryTotals, InventoryView, Kind, LatencyRow,
};
