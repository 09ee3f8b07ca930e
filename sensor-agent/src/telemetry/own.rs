//! The agent's own counters that belong to no stage: a closed enum over atomics, read by `/metrics` and `status`.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! own {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $help:literal;)*) => {
        /// A counter of the agent itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Own { $($(#[$doc])* $name,)* }

        impl Own {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name in metrics, without prefix and `_total`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// One line for `/metrics`.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help,)* }
            }
        }
    };
}

own! {
    /// A sink could not write or lost its receiver.
    SinkFailures = "sink_failures", "Times a sink could not write or lost its receiver";
    /// A sink connected to its receiver.
    SinkConnects = "sink_connects", "Connections made to receivers";
    /// Commits of the store.
    StoreCommits = "store_commits", "Durable commits of the store";
    /// Commits that failed.
    StoreFailures = "store_failures", "Commits of the store that failed";
    /// Stores set aside.
    StoreSetAside = "store_set_aside", "Stores that were corrupt and set aside";
    /// Records of the store that could not be read.
    StoreRecordsSkipped = "store_records_skipped", "Records of the store of an unknown layout, skipped";
    /// Policies that came into force.
    PolicyApplied = "policy_applied", "Policies that came into force";
    /// Policy files refused.
    PolicyRefused = "policy_refused", "Policy files refused; the one before stayed in force";
    /// Catalogues loaded.
    CatalogueLoaded = "catalogue_loaded", "Times the catalogue was loaded";
    /// API documents refused.
    DocumentsRefused = "catalogue_documents_refused", "API documents refused; the last good one stayed";
    /// Files of templates refused.
    TemplatesRefused = "templates_refused", "Files of path templates refused; the one before stayed in force";
    /// Changes of state and endpoints that the history has no room for.
    HistoryForgotten = "history_forgotten", "Changes of state and endpoints that the history has no room for";
    /// Lines of the overlay refused.
    OverlayRefused = "overlay_lines_refused", "Lines of the overlay files that were refused";
    /// Requests on the control socket.
    ControlRequests = "control_requests", "Requests on the control socket";
    /// Entries of the audit log.
    AuditEntries = "audit_entries", "Entries written to the audit log by this run";
    /// Entries that could not be written.
    AuditFailures = "audit_failures", "Entries of the audit log that could not be written";
    /// Rules that the guard stopped.
    GuardStops = "guard_stops", "Rules that hit too many clients and fell back to monitor";
    /// Times a source was marked as shared.
    SharedSources = "shared_sources_marked", "Times a source was marked as shared by many clients";
    /// Times that failed.
    SharedSourcesRefused = "shared_sources_refused", "Shared sources that could not be marked";
    /// Peers turned away there.
    ControlRefused = "control_refused", "Peers turned away at the control socket";
}

static VALUES: [AtomicU64; Own::ALL.len()] = [const { AtomicU64::new(0) }; Own::ALL.len()];

impl Own {
    /// Counts one.
    pub fn count(self) {
        self.add(1);
    }

    /// Counts several.
    pub fn add(self, amount: u64) {
        if let Some(value) = VALUES.get(self as usize) {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// The total so far.
    #[must_use]
    pub fn value(self) -> u64 {
        VALUES.get(self as usize).map_or(0, |value| value.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_values_move() {
        let mut names: Vec<_> = Own::ALL.iter().map(|own| own.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Own::ALL.len());
        let before = Own::ControlRefused.value();
        Own::ControlRefused.count();
        assert!(Own::ControlRefused.value() > before);
    }
}
