//! Configuration: what users write (`raw`, serde and clap over one struct) to what the program sees (`resolved`).
//!
//! Order: defaults < file < environment (`SENSOR_*`) < flags. One name everywhere: key `ring_bytes`, variable
//! `SENSOR_RING_BYTES`, flag `--ring-bytes`.

mod callers;
mod file;
mod folder;
mod host;
mod list_file;
mod pins_file;
mod plain_file;
mod policy_file;
mod raw;
mod resolved;
mod room;
mod units;

pub use callers::{RawExposure, exposure_flags, owner_flags};
pub use file::{ConfigError, DEFAULT_FILE, read, schema};
pub use folder::{CatalogueFolder, FolderError, Loaded};
pub use host::{Connected, connected, host_facts};
pub use list_file::{ListFiles, Watched, read_lists};
pub use pins_file::{PinsFile, PinsFileError};
pub(crate) use plain_file::{Stamp, open as open_plain};
pub use policy_file::{
    PolicyFileError, read_policy, read_policy_text, read_watched_policy, unix_ns,
};
pub use raw::{ClientAddress, ForwardedHeader, Hook, Mode, Pin, Raw, SamplingBudget, TcAttach};
pub use resolved::{Config, HealthCheck, Interfaces, MetricsListen};
pub(crate) use resolved::{SYSTEM_SOCKET, prefix};
pub use room::{NoRoom, Room};
pub use units::{Bytes, Share, Span};
