//! The table: `Inputs` to one `Decision`. One match arm a row, in the order of the documentation.

use super::words::{
    Activity, Confidence, Covered, DeclarationKind, Existence, Lifecycle, Listening,
    MissingEvidence, NotCovered, Observed, Operator, Role, State,
};

/// Everything that a state depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Role of the exchanges.
    pub role: Role,
    /// An operator's word.
    pub operator: Operator,
    /// What the catalogue says.
    pub declaration: DeclarationKind,
    /// Where it stands in its life.
    pub lifecycle: Lifecycle,
    /// What was answered in the window.
    pub activity: Activity,
    /// Asked only of what is undeclared.
    pub existence: Existence,
    /// Whether a refusal of this listener means something.
    pub listening: Listening,
    /// Whether a declared operation was called enough to be called missing.
    pub missing: MissingEvidence,
    /// Observed for the whole window or less.
    pub observed: Observed,
    /// Whether silence proves something.
    pub covered: Covered,
}

/// Number of the row of the table that decided, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row(pub u8);

impl Row {
    /// Number of rows.
    pub const LAST: Self = Self(20);
}

/// A state with what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state.
    pub state: State,
    /// The row that matched.
    pub row: Row,
    /// How sure.
    pub confidence: Confidence,
    /// Why silence proves nothing, with [`State::NotCovered`].
    pub reason: Option<NotCovered>,
}

/// Decides the state: the first row that matches.
#[must_use]
pub const fn decide(inputs: &Inputs) -> Decision {
    use Activity as A;
    use DeclarationKind as D;
    use Lifecycle as L;
    use State as S;

    if !matches!(inputs.role, Role::Server) {
        return at(1, S::Egress);
    }
    if matches!(inputs.operator, Operator::Ignored) {
        return at(2, S::Ignored);
    }
    let undeclared = inputs.declaration.is_undeclared();
    if undeclared && matches!(inputs.existence, Existence::Unproven) {
        return at(3, S::Probing);
    }
    if matches!(inputs.declaration, D::OlderOnly) {
        return older_only(inputs);
    }
    match (inputs.lifecycle, inputs.activity) {
        (L::SunsetPassed, A::Served | A::Failing | A::Refused) => return at(8, S::ZombieSunset),
        (L::SunsetPassed, A::Absent) => return at(9, S::Gone),
        (L::SunsetPassed, A::Silent) => return if_covered(10, S::Retired, inputs.covered),
        _ => {}
    }
    match (inputs.declaration, inputs.lifecycle, inputs.activity) {
        (D::Current, _, A::Absent) if matches!(inputs.missing, MissingEvidence::Enough) => {
            at(11, S::Missing)
        }
        (D::Current, _, A::Silent) if matches!(inputs.observed, Observed::Shorter) => {
            at(15, S::Pending)
        }
        (D::Current, _, A::Silent) => if_covered(16, S::Dormant, inputs.covered),
        (D::Current, L::DeprecatedSunsetAhead, _) => at(13, S::Deprecated),
        (D::Current, L::Deprecated, _) => at(12, S::ZombieDeprecated),
        (D::Current, ..) => at(14, S::Declared),
        // Undeclared rows keep their state while silent, until retention.
        (D::NoCatalogue, ..) => at(17, S::Observed),
        (D::ServiceUnknown, ..) => at(18, S::ShadowHost),
        (D::MethodUnknown, ..) => at(20, S::ShadowMethod),
        (D::PathUnknown | D::OlderOnly, ..) => at(19, S::ShadowPath),
    }
}

const fn older_only(inputs: &Inputs) -> Decision {
    match inputs.activity {
        Activity::Served | Activity::Failing => at(4, State::ZombieRemoved),
        Activity::Refused => match inputs.listening {
            Listening::Discriminates => {
                Decision { confidence: Confidence::Low, ..at(5, State::ZombieRemoved) }
            }
            Listening::Unknown => Decision { confidence: Confidence::Low, ..at(5, State::Gone) },
        },
        Activity::Absent => at(6, State::Gone),
        Activity::Silent => if_covered(7, State::Retired, inputs.covered),
    }
}

const fn at(row: u8, state: State) -> Decision {
    Decision { state, row: Row(row), confidence: Confidence::Normal, reason: None }
}

const fn if_covered(row: u8, state: State, covered: Covered) -> Decision {
    match covered {
        Covered::Yes => at(row, state),
        Covered::No(reason) => Decision { reason: Some(reason), ..at(row, State::NotCovered) },
    }
}

#[cfg(test)]
mod tests;
