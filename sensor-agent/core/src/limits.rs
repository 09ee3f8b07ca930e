//! Every bound of the core: its name, its default and why it is that. Stages count what they evict or refuse.

/// Bounds of the inventory. `Default` is what runs; tests make smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryLimits {
    /// Endpoints of the whole inventory. About 500 B each with few calls: 25 MB.
    pub endpoints: usize,
    /// Endpoints that no document declares: the rest is kept free for declared ones.
    pub endpoints_undeclared: usize,
    /// Undeclared endpoints of one service, so that one service cannot take the place of all others.
    pub endpoints_per_service: usize,
    /// Operations whose existence is not proven: a scan only churns these, oldest first.
    pub candidates: usize,
    /// Listeners (server address and port). A host seldom has more than some hundred.
    pub listeners: usize,
    /// Host names of one listener that make a service of their own; further ones count for the listener.
    pub hosts_per_listener: usize,
    /// Services of the whole inventory.
    pub services: usize,
    /// Remembered raw paths, so that a path that comes again is not matched again. 32 B each.
    pub path_cache: usize,
    /// Egress rows (host and method); further ones are counted in one overflow row.
    pub egress: usize,
    /// Names of owners (units, containers).
    pub owners: usize,
    /// Bytes of all latency and client sketches that have grown beyond their inline size.
    pub sketch_bytes: usize,
    /// Bytes of a path template; a longer path is cut at a segment border and ends in `{rest}`.
    pub template_bytes: usize,
    /// Segments of a path template.
    pub template_segments: usize,
    /// Names of query parameters of one endpoint.
    pub query_names: usize,
    /// Bytes of one name of a query parameter.
    pub query_name_bytes: usize,
    /// Media types of one endpoint and direction.
    pub media_types: usize,
    /// Client addresses of one endpoint that are listed (the number of clients is estimated without a bound).
    pub callers: usize,
    /// Client owners of one endpoint that are listed.
    pub client_owners: usize,
    /// TLS server names and ALPN protocols of one listener.
    pub hello_names: usize,
    /// Redirect targets of one listener that are watched for being generic.
    pub redirects: usize,
    /// Nodes of the tries that templates are learned from, of all services; about 200 B each.
    pub learned_nodes: usize,
    /// Days after which an undeclared endpoint that is silent leaves the inventory.
    pub retention_days: u64,
}

impl Default for InventoryLimits {
    fn default() -> Self {
        Self {
            endpoints: 50_000,
            endpoints_undeclared: 40_000,
            endpoints_per_service: 20_000,
            candidates: 4_096,
            listeners: 4_096,
            hosts_per_listener: 256,
            services: 8_192,
            path_cache: 32_768,
            egress: 10_000,
            owners: 4_096,
            sketch_bytes: 16 << 20,
            template_bytes: 512,
            template_segments: 64,
            query_names: 32,
            query_name_bytes: 64,
            media_types: 8,
            callers: 8,
            client_owners: 8,
            hello_names: 32,
            redirects: 64,
            learned_nodes: 250_000,
            retention_days: 90,
        }
    }
}

/// Endpoints whose states are remembered, those that left included. About 300 B each: what nobody calls any more makes room first.
pub const HISTORY_ENDPOINTS_MAX: usize = 100_000;
/// Changes of state of one endpoint that are remembered; the oldest make room.
pub const HISTORY_CHANGES_MAX: usize = 16;
/// Days for which an endpoint that left is remembered.
pub const HISTORY_DAYS: u64 = 365;
/// Pins, splits and renames of templates; each is looked at for a path that is new.
pub const PINS_MAX: usize = 2_000;
/// Bytes of their file.
pub const PINS_BYTES_MAX: usize = 1 << 20;
/// Endpoints that operators accepted, and as many that they ignore; further ones are refused.
pub const OVERLAY_ENTRIES_MAX: usize = 10_000;
/// Verdicts of detectors that wait to be taken; when full, the newest is dropped and counted.
pub const VERDICTS_PENDING_MAX: usize = 1024;
/// Detectors at most; each looks at every exchange.
pub const DETECTORS_MAX: usize = 64;
/// Longest time of a verdict: a day. What is wanted for longer is a rule.
pub const VERDICT_NS_MAX: u64 = 86_400_000_000_000;
/// Events that wait to be taken; when full, the newest is dropped and counted.
pub const EVENTS_PENDING_MAX: usize = 16_384;

/// Distinct values that an undeclared listener must answer with 404 before its refusals mean something.
pub const DISCRIMINATES_PATHS_MIN: usize = 3;

/// Different paths with the same redirect after which it is generic.
pub const GENERIC_REDIRECT_PATHS_MIN: usize = 3;

/// Calls answered as absent after which a declared operation can be called missing.
pub const MISSING_CALLS_MIN: u64 = 10;

/// Distinct raw paths needed for that when the template has a parameter.
pub const MISSING_VALUES_MIN: usize = 5;

/// Share of the window, in parts per thousand, that must be attached and readable for silence to prove something.
pub const COVERED_PERMILLE_MIN: u64 = 990;

/// Default window W in nanoseconds: 30 days.
pub const WINDOW_NS_DEFAULT: u64 = 30 * 24 * 3600 * 1_000_000_000;
