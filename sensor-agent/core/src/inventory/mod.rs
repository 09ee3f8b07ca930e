//! Stage 7, inventory: exchanges to endpoints, services, egress rows and coverage, each with its state.
//!
//! [`Inventory::observe`] counts one exchange; [`Inventory::view`] makes rows at a time that is given;
//! [`Inventory::take_changes`] and [`Inventory::restore`] are for the store. Bounds are in
//! [`InventoryLimits`](crate::limits::InventoryLimits). Templates are the catalogue's, else what traffic
//! taught (`learned`, `teach`), else typed segments (`segment`, `path`).

mod answers;
mod cache;
mod catch_all;
mod clients;
mod clock;
mod coverage;
mod declared;
mod discovered;
mod documents;
mod egress;
mod endpoint;
mod evaluate;
mod evidence;
mod exposure;
mod facet;
mod fold;
mod history;
mod host;
mod http_date;
mod kind;
mod latency;
mod learned;
mod leaving;
mod life;
mod listener;
mod more;
mod names;
mod overlay;
mod owned;
mod owners;
mod pace;
mod path;
mod pinned;
mod pins;
mod placing;
mod query;
mod reach;
mod record;
mod risk;
mod row;
mod segment;
mod service;
mod shown;
mod slots;
mod sources;
mod summary;
mod sunset;
mod table;
mod teach;
#[cfg(test)]
mod tests;
mod version;
mod versions;
mod view;
mod watch;

pub use crate::shape::NOWHERE;
pub use coverage::ListenerTotals;
pub use documents::{
    CATALOGUE_COVERAGE_SCHEMA, CatalogueCoverageView, DocumentEvidence, DocumentRow,
    UndocumentedRow,
};
pub(crate) use endpoint::auth_name;
pub(crate) use exposure::Classifier;
pub use exposure::{ExposureNets, NETS_MAX, Origin, Way};
pub use facet::{
    AuthPosture, DecommissionRow, Exposure, ExposureRow, OperatorRow, OwnerSource, RiskFactor,
    RiskPart, RiskRow, SupersededRow, TrendRow, VersionFamilyRow, VersionRow, VersionShare,
    VersionSource,
};
pub use history::{HISTORY_SCHEMA, History, HistoryRecord, HistoryRow, HistoryView, StateChange};
pub use overlay::{Overlay, OverlayFull, Said, Word};
pub use owned::{BadGlob, OWNER_GLOBS_MAX, OwnerGlobs};
pub use owners::Owners;
pub use pins::{Pins, PinsError, PinsErrors};
pub use record::{Changes, RECORD_FORMAT, RecordTable, RestoreError, StoredRecord};
pub use row::{
    Accuracy, CoverageRow, EgressRow, EndpointRow, INVENTORY_SCHEMA, InventoryTotals,
    InventoryView, Kind, LatencyRow,
};
pub use sources::{Gate, IDENTITIES, Mark, SHARED_NS, Sources, WINDOW_NS};
pub use summary::Summary;
pub use table::{EndpointId, Inventory, InventoryLosses, Observed};
pub use view::RowFilter;
pub use watch::{Attached, Span};
