//! The catalogue: declared API documents (OpenAPI 2.0, 3.0 and 3.1, YAML or JSON; gRPC descriptor sets; endpoints as CSV)
//! to an index that says whether a request is declared.
//!
//! `bytes -> pruned tree -> Document -> templates in a trie per bound service -> Declaration`. Pure: the shell reads
//! files and swaps catalogues. Bounds are in [`limits`]. Schemas, examples and texts are skipped while reading, so a
//! large document costs what its paths cost. How paths and hosts are compared is written in [`declare`].

mod binding;
#[expect(clippy::module_inception, reason = "the type that the folder is about")]
mod catalogue;
mod csv;
mod declare;
mod descriptor;
mod document;
mod error;
mod evidence;
mod format;
mod host;
mod index;
pub mod limits;
mod load;
mod locate;
mod owner;
mod path;
mod place;
mod pointer;
mod read;
mod refs;
mod servers;
mod sunset;
mod template;
mod trie;
mod version;
mod wire;

#[cfg(test)]
mod tests;

pub use crate::state::DeclarationKind;
pub use binding::BindingReason;
pub use catalogue::{BindingRow, Catalogue};
pub use declare::{Declaration, DeclaredOperation, LifecycleInputs, LookupLimit, ServiceView};
pub use document::{Document, Operation};
pub use error::{DocumentError, Problem, Severity};
pub use evidence::{Asked, EvidenceRow, ServiceEvidence, Verdict};
pub use format::{EXTENSIONS_TEXT, is_document_name};
pub(crate) use host::HostPattern;
pub use owner::OwnerSource;
pub use sunset::parse_date as parse_rfc3339;
