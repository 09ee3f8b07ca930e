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
/// Problems reported for one document.
pub const PROBLEMS_MAX: usize = 20;
/// Largest document of which an error's line is looked for by reading it again, bytes.
pub const LOCATE_BYTES_MAX: usize = 8 * 1024 * 1024;
