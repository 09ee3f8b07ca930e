//! What can be asked, what can be changed, and how an answer looks.
//!
//! One line of JSON each: `{"get":"status"}`, `{"do":"policy_confirm","terms":{}}`. A change that carries a document says how many bytes
//! follow its line; they are sent as they are. Bounds: [`REQUEST_BYTES_MAX`] a line, [`BODY_BYTES_MAX`] a document.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::explain::ExplainQuery;

/// Longest line that is read.
pub const REQUEST_BYTES_MAX: usize = 4096;
/// Largest document that is taken: a policy file may be as large.
pub const BODY_BYTES_MAX: u64 = sensor_core::policy::FILE_BYTES_MAX as u64;

/// A question, as `{"get":"status"}`. Changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "get", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// The inventory, coverage included (`sensor.inventory/v1`).
    Inventory,
    /// The states that endpoints had (`sensor.history/v1`), of one or of all.
    History {
        /// Id of the one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// What of each API document is used (`sensor.catalogue-coverage/v1`).
    CatalogueCoverage,
    /// The agent itself (`sensor.status/v1`).
    Status,
    /// The policy in force with its rules (`sensor.policy/v1`).
    Policy,
    /// The policy in force as a document.
    PolicyExport,
    /// What would happen to packets between a client and this host, by what is in the kernel.
    PolicyExplain(ExplainQuery),
    /// Drops since the one with this number (0 = all that are kept).
    Drops {
        /// Number of the last one known.
        after: u64,
    },
}

/// A change, as `{"do":"policy_remove","id":"..","terms":{}}`. Needs the right to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Puts a document in force in place of the policy file.
    PolicyApply {
        /// Where the document was read; list files are looked for beside it.
        file: String,
        /// Size of the document, which follows.
        body_bytes: u64,
        /// Reverted by itself after this time unless confirmed; none = for good at once.
        confirm_ms: Option<u64>,
        /// Terms.
        terms: Terms,
    },
    /// Makes what is provisional permanent.
    PolicyConfirm {
        /// Terms.
        terms: Terms,
    },
    /// Takes what is provisional back at once.
    PolicyRevert {
        /// Terms.
        terms: Terms,
    },
    /// Adds the rules of a document to what is in force.
    PolicyAdd {
        /// Size of the document, which follows.
        body_bytes: u64,
        /// Terms.
        terms: Terms,
    },
    /// Removes a rule that was added by command.
    PolicyRemove {
        /// The rule.
        id: String,
        /// Terms.
        terms: Terms,
    },
    /// Lets a rule that the guard stopped do again what it says.
    PolicyRearm {
        /// The rule.
        id: String,
        /// Terms.
        terms: Terms,
    },
    /// Takes an endpoint into the catalogue overlay.
    InventoryAccept {
        /// Its id.
        id: String,
        /// Whose it is.
        owner: String,
        /// What is worth knowing about it.
        note: String,
        /// Terms.
        terms: Terms,
    },
    /// Shows an endpoint no more; the reason is that of the terms.
    InventoryIgnore {
        /// Its id.
        id: String,
        /// Until when; none: for good.
        until_unix_ns: Option<u64>,
        /// Terms.
        terms: Terms,
    },
    /// Takes back that an endpoint was accepted or ignored.
    InventoryUndo {
        /// Its id, or `METHOD service/path` of what was said: it need not be there any more.
        id: String,
        /// Which of the two.
        word: OverlayWord,
        /// Terms.
        terms: Terms,
    },
    /// Switches enforcement.
    Enforcement {
        /// On or off.
        on: bool,
        /// Terms.
        terms: Terms,
    },
}

/// What an operator can say of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayWord {
    /// Declared.
    Accepted,
    /// Not shown.
    Ignored,
}

/// What every change may say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only when this generation is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
    /// Also when it would hit the host itself or everybody.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// `SSH_CONNECTION` of the command: its peer is protected while a policy is provisional.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
}

impl Change {
    /// Size of the document that follows the line.
    #[must_use]
    pub const fn body_bytes(&self) -> u64 {
        match self {
            Self::PolicyApply { body_bytes, .. } | Self::PolicyAdd { body_bytes, .. } => {
                *body_bytes
            }
            _ => 0,
        }
    }

    /// What it says beside itself.
    #[must_use]
    pub const fn terms(&self) -> &Terms {
        match self {
            Self::PolicyApply { terms, .. }
            | Self::PolicyConfirm { terms }
            | Self::PolicyRevert { terms }
            | Self::PolicyAdd { terms, .. }
            | Self::PolicyRemove { terms, .. }
            | Self::PolicyRearm { terms, .. }
            | Self::InventoryAccept { terms, .. }
            | Self::InventoryIgnore { terms, .. }
            | Self::InventoryUndo { terms, .. }
            | Self::Enforcement { terms, .. } => terms,
        }
    }
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A question.
    Get(Question),
    /// A change.
    Do(Change),
}

impl Request {
    /// Reads a line; the key that is there (`get` or `do`) says which of the two it is.
    pub fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(line)?;
        if value.get("do").is_some() {
            serde_json::from_value(value).map(Self::Do)
        } else {
            serde_json::from_value(value).map(Self::Get)
        }
    }
}

/// Who asks, by what the kernel says of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// Process, where it can be told.
    pub pid: Option<i32>,
}

/// An answer, as `{"ok":..}`, `{"error":".."}` or `{"denied":".."}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was asked for, or what the change came to.
    Ok(Value),
    /// Why there is none.
    Error(String),
    /// The peer may not.
    Denied(String),
}
