//! Every combination of the inputs, against the table written a second time as data.

use std::collections::BTreeMap;

use super::*;

/// One row of the documentation: what must hold, and the state.
struct Rule {
    row: u8,
    matches: fn(&Inputs) -> bool,
    state: fn(&Inputs) -> State,
}

fn undeclared(i: &Inputs) -> bool {
    !matches!(i.declaration, DeclarationKind::Current | DeclarationKind::OlderOnly)
}

fn older(i: &Inputs) -> bool {
    i.declaration == DeclarationKind::OlderOnly
}

fn current(i: &Inputs) -> bool {
    i.declaration == DeclarationKind::Current
}

fn past(i: &Inputs) -> bool {
    i.lifecycle == Lifecycle::SunsetPassed && !older(i)
}

fn seen(i: &Inputs) -> bool {
    i.activity != Activity::Silent
}

fn covered_or(i: &Inputs, state: State) -> State {
    if i.covered == Covered::Yes { state } else { State::NotCovered }
}

/// The table as documented; the first that matches wins, by plain search.
const RULES: &[Rule] = &[
    Rule { row: 1, matches: |i| i.role != Role::Server, state: |_| State::Egress },
    Rule { row: 2, matches: |i| i.operator == Operator::Ignored, state: |_| State::Ignored },
    Rule {
        row: 3,
        matches: |i| undeclared(i) && i.existence == Existence::Unproven,
        state: |_| State::Probing,
    },
    Rule {
        row: 4,
        matches: |i| older(i) && matches!(i.activity, Activity::Served | Activity::Failing),
        state: |_| State::ZombieRemoved,
    },
    Rule {
        row: 5,
        matches: |i| older(i) && i.activity == Activity::Refused,
        state: |i| {
            if i.listening == Listening::Discriminates { State::ZombieRemoved } else { State::Gone }
        },
    },
    Rule {
        row: 6,
        matches: |i| older(i) && i.activity == Activity::Absent,
        state: |_| State::Gone,
    },
    Rule {
        row: 7,
        matches: |i| older(i) && i.activity == Activity::Silent,
        state: |i| covered_or(i, State::Retired),
    },
    Rule {
        row: 8,
        matches: |i| {
            past(i)
                && matches!(i.activity, Activity::Served | Activity::Failing | Activity::Refused)
        },
        state: |_| State::ZombieSunset,
    },
    Rule { row: 9, matches: |i| past(i) && i.activity == Activity::Absent, state: |_| State::Gone },
    Rule {
        row: 10,
        matches: |i| past(i) && i.activity == Activity::Silent,
        state: |i| covered_or(i, State::Retired),
    },
    Rule {
        row: 11,
        matches: |i| {
            current(i) && i.activity == Activity::Absent && i.missing == MissingEvidence::Enough
        },
        state: |_| State::Missing,
    },
    Rule {
        row: 12,
        matches: |i| current(i) && i.lifecycle == Lifecycle::Deprecated && seen(i),
        state: |_| State::ZombieDeprecated,
    },
    Rule {
        row: 13,
        matches: |i| current(i) && i.lifecycle == Lifecycle::DeprecatedSunsetAhead && seen(i),
        state: |_| State::Deprecated,
    },
    Rule {
        row: 14,
        matches: |i| current(i) && i.lifecycle == Lifecycle::Supported && seen(i),
        state: |_| State::Declared,
    },
    Rule {
        row: 15,
        matches: |i| current(i) && !seen(i) && i.observed == Observed::Shorter,
        state: |_| State::Pending,
    },
    Rule { row: 16, matches: |i| current(i) && !seen(i), state: |i| covered_or(i, State::Dormant) },
    Rule {
        row: 17,
        matches: |i| i.declaration == DeclarationKind::NoCatalogue,
        state: |_| State::Observed,
    },
    Rule {
        row: 18,
        matches: |i| i.declaration == DeclarationKind::ServiceUnknown,
        state: |_| State::ShadowHost,
    },
    Rule {
        row: 19,
        matches: |i| i.declaration == DeclarationKind::PathUnknown,
        state: |_| State::ShadowPath,
    },
    Rule {
        row: 20,
        matches: |i| i.declaration == DeclarationKind::MethodUnknown,
        state: |_| State::ShadowMethod,
    },
];

fn combinations(role: Role) -> Vec<Inputs> {
    let mut all = Vec::new();
    for &operator in Operator::ALL {
        for &declaration in DeclarationKind::ALL {
            for &lifecycle in Lifecycle::ALL {
                for &activity in Activity::ALL {
                    for bits in 0..32_u8 {
                        let bit = |n: u8| bits & (1 << n) != 0;
                        all.push(Inputs {
                            role,
                            operator,
                            declaration,
                            lifecycle,
                            activity,
                            existence: if bit(0) { Existence::Proven } else { Existence::Unproven },
                            listening: if bit(1) {
                                Listening::Discriminates
                            } else {
                                Listening::Unknown
                            },
                            missing: if bit(2) {
                                MissingEvidence::Enough
                            } else {
                                MissingEvidence::TooLittle
                            },
                            observed: if bit(3) {
                                Observed::WholeWindow
                            } else {
                                Observed::Shorter
                            },
                            covered: if bit(4) {
                                Covered::Yes
                            } else {
                                Covered::No(NotCovered::Loss)
                            },
                        });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn every_combination_gets_the_state_of_the_first_row_that_matches() {
    let mut reached: BTreeMap<u8, usize> = BTreeMap::new();
    let mut states: BTreeMap<State, usize> = BTreeMap::new();
    let mut count = 0;
    for role in [Role::Server, Role::Client] {
        for inputs in combinations(role) {
            count += 1;
            let rule = RULES.iter().find(|rule| (rule.matches)(&inputs)).expect("a row matches");
            let decision = decide(&inputs);
            assert_eq!(
                (decision.row.0, decision.state),
                (rule.row, (rule.state)(&inputs)),
                "{inputs:?}"
            );
            assert_eq!(
                decision.reason.is_some(),
                decision.state == State::NotCovered,
                "{inputs:?}"
            );
            *reached.entry(decision.row.0).or_default() += 1;
            *states.entry(decision.state).or_default() += 1;
        }
    }
    assert_eq!(count, 15_360);
    assert_eq!(reached.len(), usize::from(Row::LAST.0), "every row is reached: {reached:?}");
    assert_eq!(states.len(), State::ALL.len(), "every state is given: {states:?}");
}

#[test]
fn transit_is_decided_as_egress() {
    for inputs in combinations(Role::Transit) {
        assert_eq!(decide(&inputs).state, State::Egress);
    }
}

#[test]
fn reason_is_the_reason_of_the_coverage() {
    for &reason in NotCovered::ALL {
        let mut inputs = combinations(Role::Server)
            .into_iter()
            .find(|i| {
                current(i)
                    && !seen(i)
                    && i.observed == Observed::WholeWindow
                    && i.operator == Operator::Nothing
            })
            .expect("there is one");
        inputs.lifecycle = Lifecycle::Supported;
        inputs.covered = Covered::No(reason);
        assert_eq!(decide(&inputs).reason, Some(reason));
    }
}

#[test]
fn words_are_kebab_case_in_json_and_on_screen() {
    for &state in State::ALL {
        assert_eq!(serde_json::to_string(&state).expect("json"), format!("\"{state}\""));
    }
    for &kind in DeclarationKind::ALL {
        assert_eq!(serde_json::to_string(&kind).expect("json"), format!("\"{kind}\""));
    }
}
