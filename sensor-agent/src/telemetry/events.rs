//! Internal events: a struct each, whose `emit` writes the log line and moves the counter together.
//!
//! Text from outside (paths, errors that quote files, names) passes through `clean`: no control character reaches a log.

use std::{fmt, path::Path, time::Duration};

use sensor_core::catalogue::BindingRow;
use tracing::{error, info, warn};

use super::Own;
use crate::commands::output::clean;

/// Something the agent tells about itself.
pub trait Emit {
    /// Logs and counts it.
    fn emit(self);
}

fn text(value: impl fmt::Display) -> String {
    clean(&value.to_string()).into_owned()
}

/// A sink could not write; it tries again.
pub struct SinkFailed<'a, E> {
    /// Which.
    pub sink: &'a str,
    /// Why.
    pub error: &'a E,
    /// When it tries again.
    pub retry: Duration,
}

impl<E: fmt::Display> Emit for SinkFailed<'_, E> {
    fn emit(self) {
        Own::SinkFailures.count();
        warn!(
            sink = self.sink,
            error = text(self.error),
            retry_ms = self.retry.as_millis(),
            "sink failed, events wait in its queue"
        );
    }
}

/// A sink stopped for good.
pub struct SinkEnded<'a, E> {
    /// Which.
    pub sink: &'a str,
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for SinkEnded<'_, E> {
    fn emit(self) {
        Own::SinkFailures.count();
        error!(
            sink = self.sink,
            error = text(self.error),
            "sink ended, its further events are dropped and counted"
        );
    }
}

/// A sink reached its receiver.
pub struct SinkConnected<'a> {
    /// Which.
    pub sink: &'a str,
}

impl Emit for SinkConnected<'_> {
    fn emit(self) {
        Own::SinkConnects.count();
        info!(sink = self.sink, "sink connected");
    }
}

/// The store could not be used and lies beside the new one.
pub struct StoreSetAside<'a, E> {
    /// The store.
    pub path: &'a Path,
    /// Where it lies now.
    pub aside: &'a Path,
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for StoreSetAside<'_, E> {
    fn emit(self) {
        Own::StoreSetAside.count();
        error!(
            store = text(self.path.display()),
            set_aside = text(self.aside.display()),
            error = text(self.error),
            "store cannot be used: set aside, starting with an empty one"
        );
    }
}

/// A commit failed; the next one has everything of this one too.
pub struct StoreFailed<'a, E> {
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for StoreFailed<'_, E> {
    fn emit(self) {
        Own::StoreFailures.count();
        error!(error = text(self.error), "store not written, trying again with the next commit");
    }
}

/// A policy came into force.
pub struct PolicyApplied<'a> {
    /// Where from.
    pub origin: &'a str,
    /// Counts up.
    pub generation: u64,
    /// Of the file.
    pub hash: &'a str,
    /// Entries and limits in it.
    pub entries: usize,
}

impl Emit for PolicyApplied<'_> {
    fn emit(self) {
        Own::PolicyApplied.count();
        info!(
            policy = text(self.origin),
            generation = self.generation,
            hash = self.hash,
            entries = self.entries,
            "policy in force"
        );
    }
}

/// A policy file was refused whole.
pub struct PolicyRefused<'a> {
    /// Where from.
    pub origin: &'a str,
    /// What is wrong.
    pub error: &'a str,
}

impl Emit for PolicyRefused<'_> {
    fn emit(self) {
        Own::PolicyRefused.count();
        error!(
            policy = text(self.origin),
            error = text(self.error),
            "policy refused, the one before stays in force"
        );
    }
}

/// Something in a policy is allowed but worth a look.
pub struct PolicyWarning<'a> {
    /// Where from.
    pub origin: &'a str,
    /// Line in it.
    pub line: u64,
    /// What.
    pub warning: &'a str,
}

impl Emit for PolicyWarning<'_> {
    fn emit(self) {
        warn!(policy = text(self.origin), line = self.line, warning = text(self.warning), "policy");
    }
}

/// The catalogue was loaded.
pub struct CatalogueLoaded<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Documents in use.
    pub documents: usize,
    /// Operations in them.
    pub operations: usize,
}

impl Emit for CatalogueLoaded<'_> {
    fn emit(self) {
        Own::CatalogueLoaded.count();
        info!(
            folder = text(self.folder.display()),
            documents = self.documents,
            operations = self.operations,
            "catalogue loaded"
        );
    }
}

/// A document is bound to services, at a load or by what was asked since.
pub struct DocumentBound<'a> {
    /// What is bound to what, and why.
    pub binding: &'a BindingRow,
}

impl Emit for DocumentBound<'_> {
    fn emit(self) {
        info!(
            document = text(&self.binding.document),
            services = text(self.binding.scopes.join(", ")),
            reason = text(self.binding.explained()),
            "catalogue"
        );
    }
}

/// An API document was refused.
pub struct DocumentRefused<'a> {
    /// What is wrong, with its name.
    pub error: &'a str,
}

impl Emit for DocumentRefused<'_> {
    fn emit(self) {
        Own::DocumentsRefused.count();
        warn!(error = text(self.error), "API document refused");
    }
}

/// A peer at the control socket may not ask.
pub struct ControlRefused {
    /// Who.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
}

impl Emit for ControlRefused {
    fn emit(self) {
        Own::ControlRefused.count();
        warn!(uid = self.uid, gid = self.gid, "control socket: peer turned away");
    }
}

/// An entry of the audit log could not be written.
pub struct AuditFailed<'a, E> {
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for AuditFailed<'_, E> {
    fn emit(self) {
        Own::AuditFailures.count();
        error!(
            error = text(self.error),
            "audit log not written: no command may change anything until it can be"
        );
    }
}

/// The policy was changed, or somebody tried.
pub struct PolicyChanged<'a> {
    /// What.
    pub action: &'a str,
    /// Who.
    pub who: &'a str,
    /// `done`, or why not.
    pub result: &'a str,
    /// Entry of the audit log.
    pub entry: u64,
}

impl Emit for PolicyChanged<'_> {
    fn emit(self) {
        Own::AuditEntries.count();
        info!(
            action = self.action,
            who = text(self.who),
            result = text(self.result),
            entry = self.entry,
            "audit"
        );
    }
}

/// Templates of operators came into force.
pub struct TemplatesLoaded<'a> {
    /// The file.
    pub file: &'a Path,
    /// How many.
    pub templates: usize,
}

impl Emit for TemplatesLoaded<'_> {
    fn emit(self) {
        info!(file = %self.file.display(), templates = self.templates, "templates loaded");
    }
}

/// A file of templates was refused.
pub struct TemplatesRefused<'a, E> {
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for TemplatesRefused<'_, E> {
    fn emit(self) {
        Own::TemplatesRefused.count();
        warn!(error = text(self.error), "templates refused, the ones before stay in force");
    }
}

/// Something in the overlay's files cannot be read.
pub struct OverlayRefused<'a> {
    /// File, line, and what is wrong.
    pub problem: &'a str,
}

impl Emit for OverlayRefused<'_> {
    fn emit(self) {
        Own::OverlayRefused.count();
        warn!(problem = text(self.problem), "overlay: left out; what could be read holds");
    }
}

/// The guard stopped a rule.
pub struct GuardStopped<'a> {
    /// The rule.
    pub rule: &'a str,
    /// Why.
    pub why: &'a str,
}

impl Emit for GuardStopped<'_> {
    fn emit(self) {
        Own::GuardStops.count();
        error!(
            rule = text(self.rule),
            why = text(self.why),
            "guard: a rule hits too many clients and only monitors from now on (policy rearm)"
        );
    }
}

/// A source is shared by many clients.
pub struct SharedSource {
    /// Its address.
    pub source: std::net::IpAddr,
}

impl Emit for SharedSource {
    fn emit(self) {
        Own::SharedSources.count();
        info!(
            source = text(self.source),
            "many clients share this source: rules by address skip it"
        );
    }
}

/// A shared source could not be marked.
pub struct SharedSourceRefused<'a, E> {
    /// Its address.
    pub source: std::net::IpAddr,
    /// Why.
    pub error: &'a E,
}

impl<E: fmt::Display> Emit for SharedSourceRefused<'_, E> {
    fn emit(self) {
        Own::SharedSourcesRefused.count();
        warn!(
            source = text(self.source),
            error = text(self.error),
            "many clients share this source, but it cannot be marked: rules by address hit it"
        );
    }
}
