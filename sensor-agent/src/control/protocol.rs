//! What can be asked, and how an answer looks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest question that is read.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// A question, as `{"get":"status"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "get", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// The inventory, coverage included (`sensor.inventory/v1`).
    Inventory,
    /// The agent itself (`sensor.status/v1`).
    Status,
}

/// An answer, as `{"ok":..}` or `{"error":".."}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why there is none.
    Error(String),
}
