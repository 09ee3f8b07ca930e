//! Bounds of the catalogue; what is beyond one is refused with the figure.

/// Largest document, bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Largest binding file, bytes.
pub const BINDING_BYTES_MAX: usize = 1024 * 1024;
/// Documents in one catalogue.
pub const DOCUMENTS_MAX: usize = 4096;
/// Values kept of one document after pruning.
pub const VALUES_MAX: usize = 4_000_000;
/// Nesting of a YAML document, skipped parts included (a level costs 4 KiB of stack in a debug build).
pub const DEPTH_MAX: usize = 128;
/// Nesting of what is kept; below it values are skipped (20 KiB of stack a level in a debug build; servers need 8).
pub const DEPTH_KEPT_MAX: usize = 24;
/// Operations in one catalogue.
pub const OPERATIONS_MAX: usize = 500_000;
/// Templates over all bound services (an operation counts once for each of its servers).
pub const ENTRIES_MAX: usize = 2_000_000;
/// Steps of one chain of `$ref`.
pub const REF_DEPTH_MAX: usize = 16;
/// Servers of one document, path or operation after the expansion of their variables.
pub const SERVERS_MAX: usize = 256;
/// Bytes of a path template, and of the name of a gRPC service or method.
pub const TEMPLATE_BYTES_MAX: usize = 8 * 1024;
/// See [`TEMPLATE_BYTES_MAX`].
pub const NAME_BYTES_MAX: usize = 1024;
/// Segments of a path or template; a longer path is `PathUnknown`, a longer template is refused.
pub const SEGMENTS_MAX: usize = 64;
/// Partial-segment templates (`{name}.json`) beside each other in one place.
pub const PARTIAL_MAX: usize = 1024;
/// Steps of one look-up in one trie; beyond, the path is `PathUnknown` (real documents need 10 to 50).
pub const STEPS_MAX: u32 = 20_000;
/// Wildcard hosts in one catalogue.
pub const WILDCARDS_MAX: usize = 1024;
/// Tries that one service can be bound to.
pub const BOUND_MAX: usize = 64;
/// Operations of a document that one of a higher `info.version` must have too for it to be an older version of that, percent.
pub const VERSION_SHARED_PERCENT_MIN: usize = 25;
/// Documents without a host that evidence may bind to services, the first by name; others are for every host.
pub const EVIDENCE_DOCUMENTS_MAX: usize = 32;
/// Services that are asked for evidence, the busiest first.
pub const EVIDENCE_SERVICES_MAX: usize = 1024;
/// Operations of a service that are looked up for evidence, the busiest first.
pub const EVIDENCE_OPERATIONS_MAX: usize = 2_000;
/// Requests of a service below which they show nothing: a document without a host is for it as for any.
pub const EVIDENCE_REQUESTS_MIN: u64 = 20;
/// Share of a service's requests that a document must have for it to be about that service, percent.
pub const EVIDENCE_SHARE_MIN: u64 = 20;
/// Services that the evidence of one document lists.
pub const EVIDENCE_ROWS_MAX: usize = 16;
/// Documents of one host that a binding lists.
pub const NEIGHBOURS_MAX: usize = 16;
/// Problems reported for one document.
pub const PROBLEMS_MAX: usize = 20;
/// Largest document of which an error's line is looked for by reading it again, bytes.
pub const LOCATE_BYTES_MAX: usize = 8 * 1024 * 1024;
