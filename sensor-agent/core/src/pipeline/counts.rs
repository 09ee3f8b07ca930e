//! The pipeline's part of the loss ledger: where each record and each exchange went.
//!
//! Two sums hold at any time: `records = records_malformed + samples`, and `exchanges` = the counters from
//! `at_endpoints` to `transit`.

use crate::counts::counters;

counters! {
    /// A counter of the pipeline.
    enum PipelineCounter, struct PipelineCounts;
    /// Records taken from the ring.
    Records = "records",
    /// Of those, refused by the decoder.
    RecordsMalformed = "records_malformed",
    /// Of those, decoded.
    Samples = "samples",
    /// Exchanges given to the inventory.
    Exchanges = "exchanges",
    /// Counted at endpoints.
    AtEndpoints = "at_endpoints",
    /// To operations whose existence is not proven.
    Probing = "probing",
    /// Beyond a bound of the inventory, counted in overflow rows.
    Overflow = "overflow",
    /// CORS preflights.
    Preflight = "preflight",
    /// CONNECT, `OPTIONS *`, targets that are no path.
    NoOperation = "no_operation",
    /// Only the client is on this host.
    Egress = "egress",
    /// Neither end is.
    Transit = "transit",
    /// Candidates that made room for newer ones (their exchanges stay in `probing`).
    CandidatesEvicted = "candidates_evicted",
    /// Exchanges and connections of listeners beyond the bound.
    ListenersFull = "listeners_full",
    /// Host names that found no room as a service.
    HostsFull = "hosts_full",
    /// Clients that a full budget of sketches did not count.
    SketchesRefused = "sketches_refused",
    /// Names of parameters, media types or owners that found no room.
    NamesFull = "names_full",
    /// Segments that found no room among learned templates.
    LearnedFull = "learned_templates_full",
    /// Requests of more names at one place of a path than learned templates tell apart: counted together.
    LearnedRest = "learned_templates_rest",
    /// Undeclared endpoints whose retention ended.
    EndpointsRetired = "endpoints_retired",
    /// Look-ups in the catalogue that took too many steps: the path counts as undeclared.
    LookupsGivenUp = "catalogue_lookups_given_up",
    /// Look-ups of services that more documents name than are asked.
    LookupsPartial = "catalogue_lookups_partial",
    /// Events made.
    Events = "events",
    /// Events dropped because too many waited.
    EventsDropped = "events_dropped",
    /// Verdicts of detectors on a flow or a client.
    Verdicts = "verdicts",
    /// Verdicts dropped because too many waited.
    VerdictsDropped = "verdicts_dropped",
    /// Requests that a full table of clients could not charge to a limit that the agent counts.
    RequestsNotCharged = "requests_not_charged",
}

impl PipelineCounts {
    pub(super) fn set(&mut self, counter: PipelineCounter, to: u64) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = to;
        }
    }

    pub(super) fn one(&mut self, counter: PipelineCounter) {
        self.set(counter, self.value(counter).saturating_add(1));
    }
}
