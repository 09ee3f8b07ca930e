//! One entry as it is written and read.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest line; what could be longer (a diff, an error) is cut before.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Lines of a diff in one entry.
const DIFF_LINES_MAX: usize = 40;
/// Characters of one text; with at most 4 bytes each, everything together stays below [`LINE_BYTES_MAX`].
const TEXT_CHARS_MAX: usize = 300;

/// What was done, or tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The agent started and took what it found.
    Start,
    /// A document was put in force by command.
    Apply,
    /// A document was put in force until a deadline.
    ApplyProvisional,
    /// What was provisional is in force for good.
    Confirm,
    /// What was provisional is gone, the policy before is in force.
    Revert,
    /// The policy file changed.
    File,
    /// A rule was added by command.
    Add,
    /// A rule that was added by command is gone.
    Remove,
    /// Rules that were added for a time ended.
    Expire,
    /// The guard turned a rule to monitor.
    Guard,
    /// A rule that the guard stopped does again what it says.
    Rearm,
    /// Enforcement was switched.
    Enforcement,
    /// An endpoint was taken into the catalogue overlay.
    InventoryAccept,
    /// An endpoint is not shown any more.
    InventoryIgnore,
    /// What was said of an endpoint was taken back.
    InventoryUndo,
    /// Rotation dropped the oldest entries.
    Rotate,
    /// The end of the log was torn (a crash in the middle of a write) and cut off.
    Recover,
}

/// Who asked for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Who {
    /// A command, by the credentials that the kernel gives.
    Peer {
        /// User.
        uid: u32,
        /// Main group.
        gid: u32,
        /// Process.
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
        /// Name of the user, where the host knows it.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// User that logged in (behind sudo), where the kernel keeps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        login_uid: Option<u32>,
        /// `SSH_CONNECTION` of the command, as it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        ssh: Option<String>,
    },
    /// Whoever may write this file.
    File {
        /// Its path.
        path: String,
    },
    /// The agent by itself.
    Agent,
}

/// What was in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Counts up with each policy that came into force.
    pub generation: u64,
    /// Short hash, as metrics and `status` show it.
    pub hash: String,
    /// SHA-256 over the texts that make the policy.
    pub sha256: String,
}

/// Entries that rotation dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Number of the last one.
    pub until: u64,
    /// Its hash: the first entry that is left states it as `previous`.
    pub hash: String,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub action: Action,
    /// Who.
    pub who: Who,
    /// Why, as given.
    pub reason: Option<String>,
    /// In force before.
    pub before: Version,
    /// In force afterwards.
    pub after: Version,
    /// One line for each rule that is new, gone or another.
    pub diff: Vec<String>,
    /// `begun`, `done`, or why not.
    pub result: String,
    /// Only with [`Action::Rotate`].
    pub dropped: Option<Dropped>,
}

impl Change {
    /// Something that was done by the agent itself and changed no rule.
    #[must_use]
    pub fn by_agent(action: Action, version: Version) -> Self {
        Self {
            action,
            who: Who::Agent,
            reason: None,
            before: version.clone(),
            after: version,
            diff: Vec::new(),
            result: DONE.into(),
            dropped: None,
        }
    }
}

/// [`Change::result`] of what worked.
pub(crate) const DONE: &str = "done";
/// [`Change::result`] of what is about to be made: the entry that says what it came to follows.
pub(crate) const BEGUN: &str = "begun";

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// From 1, without a hole.
    pub number: u64,
    /// RFC 3339.
    pub time: String,
    /// The same, nanoseconds since 1970.
    pub unix_ns: u64,
    /// What.
    pub action: Action,
    /// Who.
    pub who: Who,
    /// Why, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In force before.
    pub before: Version,
    /// In force afterwards.
    pub after: Version,
    /// One line for each rule that is new, gone or another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<String>,
    /// `begun`, `done`, or why not.
    pub result: String,
    /// What rotation dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Hash of the entry before; zeros for the first.
    pub previous: String,
    /// Hash of this entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

impl Entry {
    /// Makes the entry that follows `previous`; texts are cut to their bounds.
    pub(super) fn new(change: Change, number: u64, unix_ns: u64, previous: String) -> Self {
        let more = change.diff.len().saturating_sub(DIFF_LINES_MAX);
        let mut diff: Vec<String> =
            change.diff.into_iter().take(DIFF_LINES_MAX).map(short).collect();
        if more > 0 {
            diff.push(format!("and {more} more"));
        }
        Self {
            number,
            time: sensor_proto::json::rfc3339(unix_ns),
            unix_ns,
            action: change.action,
            who: change.who.short(),
            reason: change.reason.map(short),
            before: change.before,
            after: change.after,
            diff,
            result: short(change.result),
            dropped: change.dropped,
            previous,
            hash: String::new(),
        }
    }
}

impl Who {
    fn short(self) -> Self {
        match self {
            Self::Peer { uid, gid, pid, name, login_uid, ssh } => {
                Self::Peer { uid, gid, pid, name: name.map(short), login_uid, ssh: ssh.map(short) }
            }
            Self::File { path } => Self::File { path: short(path) },
            Self::Agent => Self::Agent,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { uid, name, login_uid, .. } => {
                match name {
                    Some(name) => write!(out, "{name} (uid {uid}")?,
                    None => write!(out, "unknown user (uid {uid}")?,
                }
                match login_uid.filter(|login| login != uid) {
                    Some(login) => write!(out, ", logged in as uid {login})"),
                    None => out.write_str(")"),
                }
            }
            Self::File { path } => write!(out, "file {path}"),
            Self::Agent => out.write_str("agent"),
        }
    }
}

impl Action {
    /// As written in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Apply => "apply",
            Self::ApplyProvisional => "apply_provisional",
            Self::Confirm => "confirm",
            Self::Revert => "revert",
            Self::File => "file",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Expire => "expire",
            Self::Guard => "guard",
            Self::Rearm => "rearm",
            Self::Enforcement => "enforcement",
            Self::InventoryAccept => "inventory_accept",
            Self::InventoryIgnore => "inventory_ignore",
            Self::InventoryUndo => "inventory_undo",
            Self::Rotate => "rotate",
            Self::Recover => "recover",
        }
    }
}

/// Cut, and without control characters: JSON would write them in six bytes.
fn short(text: String) -> String {
    let long = text.chars().nth(TEXT_CHARS_MAX).is_some();
    if !long && !text.contains(char::is_control) {
        return text;
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut cut: String = text.chars().take(TEXT_CHARS_MAX).map(plain).collect();
    if long {
        cut.push_str("...");
    }
    cut
}
