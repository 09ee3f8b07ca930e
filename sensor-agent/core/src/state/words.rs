//! Inputs and outcomes of the state table; the spelling in JSON, on the wire and in the documentation is the
//! kebab-case of the variant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! words {
    ($($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All values, in the order of the table's documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as shown, stored and sent.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(self.as_str())
            }
        }
    )*};
}

words! {
    /// Where the server of an exchange is, seen from this host.
    pub enum Role {
        /// The server's address is local to this host or to a workload on it: makes endpoints.
        Server = "server",
        /// Only the client is: makes egress rows.
        Client = "client",
        /// Neither is: counted.
        Transit = "transit",
    }

    /// What the catalogue says about an operation.
    pub enum DeclarationKind {
        /// In a current document, or accepted by an operator.
        Current = "current",
        /// In an older version of a document, not in the current one.
        OlderOnly = "older-only",
        /// The path is declared, the method is not.
        MethodUnknown = "method-unknown",
        /// A document names this service, but not this path.
        PathUnknown = "path-unknown",
        /// A catalogue is loaded, and none of its documents names this service.
        ServiceUnknown = "service-unknown",
        /// Nothing is loaded.
        NoCatalogue = "no-catalogue",
    }

    /// Where an operation stands in its life, now.
    pub enum Lifecycle {
        /// Neither deprecated nor past its sunset.
        Supported = "supported",
        /// Deprecated, with no sunset in the future (RFC 9745).
        Deprecated = "deprecated",
        /// Deprecated, with a sunset in the future (RFC 8594).
        DeprecatedSunsetAhead = "deprecated-sunset-ahead",
        /// Its sunset has passed.
        SunsetPassed = "sunset-passed",
    }

    /// What the server answered within the window; mixtures take the first that applies.
    pub enum Activity {
        /// At least one success.
        Served = "served",
        /// Only refusals (401, 403, 405, 407, 429 and other client errors that do not deny the path).
        Refused = "refused",
        /// Only 5xx.
        Failing = "failing",
        /// Only 404, 410, 501, or redirects elsewhere.
        Absent = "absent",
        /// Nothing.
        Silent = "silent",
    }

    /// Whether an undeclared operation was proven to exist.
    pub enum Existence {
        /// A success that is not catch-all, or a refusal of a listener that discriminates.
        Proven = "proven",
        /// No such answer.
        Unproven = "unproven",
    }

    /// Whether a listener answers 404 to what does not exist (three other paths in the same credentials state).
    pub enum Listening {
        /// A refusal tells something about the path.
        Discriminates = "discriminates",
        /// It refuses everything, or that is not known.
        Unknown = "unknown",
    }

    /// Whether the calls suffice to say that a declared operation is not served.
    pub enum MissingEvidence {
        /// Ten calls, and no parameter or five distinct values.
        Enough = "enough",
        /// Fewer.
        TooLittle = "too-little",
    }

    /// How long the service has been observed.
    pub enum Observed {
        /// For the whole window.
        WholeWindow = "whole-window",
        /// For less.
        Shorter = "shorter",
    }

    /// What an operator said about the endpoint.
    pub enum Operator {
        /// Nothing, or it expired.
        Nothing = "nothing",
        /// To ignore it.
        Ignored = "ignored",
    }

    /// Why silence proves nothing.
    pub enum NotCovered {
        /// Less than 99 % of the service's connections were readable.
        Encrypted = "encrypted",
        /// Heads were sampled out.
        Sampled = "sampled",
        /// Heads were lost.
        Loss = "loss",
        /// The sensor was away for more than 1 % of the window.
        AttachedSince = "attached-since",
        /// No listener of the service was seen on this host.
        NoInstanceHere = "no-instance-here",
    }

    /// How sure a state is.
    pub enum Confidence {
        /// As the table says.
        Normal = "normal",
        /// The only evidence is a refusal.
        Low = "low",
    }

    /// The state of an endpoint.
    pub enum State {
        /// Not an endpoint of this host.
        Egress = "egress",
        /// Ignored by an operator.
        Ignored = "ignored",
        /// No endpoint: counted as probing.
        Probing = "probing",
        /// Removed from the current document, still answered.
        ZombieRemoved = "zombie-removed",
        /// Not answered any more, still called.
        Gone = "gone",
        /// Not called any more, and that is proven.
        Retired = "retired",
        /// Silent, and nothing is proven by it.
        NotCovered = "not-covered",
        /// Past its sunset, still answered.
        ZombieSunset = "zombie-sunset",
        /// Declared, called, and not served.
        Missing = "missing",
        /// Deprecated without a plan, still called.
        ZombieDeprecated = "zombie-deprecated",
        /// Deprecated, its sunset ahead, still called.
        Deprecated = "deprecated",
        /// Declared and called.
        Declared = "declared",
        /// Declared, and observed for too short to say more.
        Pending = "pending",
        /// Declared and never called, and that is proven.
        Dormant = "dormant",
        /// Called; no catalogue is loaded.
        Observed = "observed",
        /// Called on a service that no document names.
        ShadowHost = "shadow-host",
        /// Called on a path that no document of its service names.
        ShadowPath = "shadow-path",
        /// Called with a method that its path does not declare.
        ShadowMethod = "shadow-method",
    }
}

/// Whether silence over the window proves that nobody called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Covered {
    /// It does.
    Yes,
    /// It does not, for this reason.
    No(NotCovered),
}

impl DeclarationKind {
    /// Whether no document, current or older, has the operation.
    #[must_use]
    pub const fn is_undeclared(self) -> bool {
        !matches!(self, Self::Current | Self::OlderOnly)
    }
}
