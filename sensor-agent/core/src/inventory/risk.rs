//! Risk of an endpoint, 0 to 100: the sum of what its state, its exposure, its authentication, its data and its findings add.
//!
//! The weights are in this file and nowhere else. Each factor has its most, and they sum to 100; a factor about which nothing is
//! known adds nothing. What is worse never has fewer points, so the sum can be compared and explained part by part.

use super::facet::{AuthPosture, Exposure, RiskFactor, RiskPart, RiskRow};
use crate::{http::AuthScheme, state::State};

/// What a risk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RiskInputs {
    pub(super) state: State,
    /// The widest seen.
    pub(super) exposure: Option<Exposure>,
    /// How its successes were asked for.
    pub(super) posture: Option<AuthPosture>,
    /// The weakest scheme seen with requests.
    pub(super) weakest: Option<AuthScheme>,
    /// Points for the class of data, up to [`DATA_MAX`]; zero while none is known.
    pub(super) data: u8,
    /// Points for findings, up to [`FINDINGS_MAX`]; zero while there are none.
    pub(super) findings: u8,
}

/// Makes the sum.
pub(super) fn risk(inputs: RiskInputs) -> RiskRow {
    let parts = [
        (RiskFactor::State, state_points(inputs.state)),
        (RiskFactor::Exposure, inputs.exposure.map_or(0, exposure_points)),
        (RiskFactor::Authentication, auth_points(inputs.posture, inputs.weakest)),
        (RiskFactor::Data, inputs.data.min(DATA_MAX)),
        (RiskFactor::Findings, inputs.findings.min(FINDINGS_MAX)),
    ];
    let parts: Vec<RiskPart> = parts
        .into_iter()
        .filter(|(_, points)| *points > 0)
        .map(|(part, points)| RiskPart { part, points })
        .collect();
    let score = parts.iter().map(|part| part.points).fold(0_u8, u8::saturating_add);
    RiskRow { score: score.min(SCORE_MAX), parts }
}

/// Most of the sum.
const SCORE_MAX: u8 = 100;
/// Most for a state: what should be off and still answers.
const STATE_MAX: u8 = 30;
/// Most for exposure: anyone.
const EXPOSURE_MAX: u8 = 25;
/// Most for authentication: none.
const AUTH_MAX: u8 = 20;
/// Most for data.
pub(super) const DATA_MAX: u8 = 15;
/// Most for findings.
pub(super) const FINDINGS_MAX: u8 = 10;

/// What nobody maintains weighs most, then what nobody declared, then what is on its way out.
const fn state_points(state: State) -> u8 {
    match state {
        State::ZombieRemoved | State::ZombieSunset => STATE_MAX,
        State::ShadowHost | State::ShadowPath => 25,
        State::ShadowMethod => 22,
        State::ZombieDeprecated => 20,
        State::Observed | State::Deprecated => 10,
        State::Dormant => 8,
        State::Missing | State::Gone => 5,
        State::NotCovered => 3,
        State::Declared
        | State::Pending
        | State::Retired
        | State::Probing
        | State::Ignored
        | State::Egress => 0,
    }
}

const fn exposure_points(exposure: Exposure) -> u8 {
    match exposure {
        Exposure::Loopback => 0,
        Exposure::Host => 2,
        Exposure::Cluster => 6,
        Exposure::Private => 10,
        Exposure::Partner => 18,
        Exposure::Public => EXPOSURE_MAX,
    }
}

/// Open weighs most; else what the weakest credential gives away when it is seen or guessed.
const fn auth_points(posture: Option<AuthPosture>, weakest: Option<AuthScheme>) -> u8 {
    match (posture, weakest) {
        (Some(AuthPosture::Open), _) => AUTH_MAX,
        (Some(AuthPosture::Mixed), _) => 14,
        (Some(AuthPosture::Credentials), Some(scheme)) => scheme_points(scheme),
        (Some(AuthPosture::Credentials) | None, _) => 0,
    }
}

const fn scheme_points(scheme: AuthScheme) -> u8 {
    match scheme {
        AuthScheme::ApiKeyQuery => 10,
        AuthScheme::Basic => 8,
        AuthScheme::Digest | AuthScheme::Other => 5,
        AuthScheme::Cookie => 4,
        AuthScheme::ApiKeyHeader => 3,
        AuthScheme::Bearer => 2,
        AuthScheme::Jwt => 1,
        AuthScheme::None | AuthScheme::ClientCertificate => 0,
    }
}

/// The weakest of the schemes in a set of bits, credentials only.
pub(super) fn weakest(bits: u16) -> Option<AuthScheme> {
    AuthScheme::ALL
        .into_iter()
        .filter(|scheme| *scheme != AuthScheme::None && bits & (1 << *scheme as u16) != 0)
        .max_by_key(|scheme| scheme_points(*scheme))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Better to worse, each in tiers that need not be told apart.
    const STATES: &[&[State]] = &[
        &[State::Declared, State::Pending, State::Retired],
        &[State::Gone, State::Missing],
        &[State::Deprecated, State::Observed],
        &[State::ZombieDeprecated],
        &[State::ShadowMethod],
        &[State::ShadowPath, State::ShadowHost],
        &[State::ZombieSunset, State::ZombieRemoved],
    ];
    const AUTH: &[(AuthPosture, Option<AuthScheme>)] = &[
        (AuthPosture::Credentials, Some(AuthScheme::ClientCertificate)),
        (AuthPosture::Credentials, Some(AuthScheme::Jwt)),
        (AuthPosture::Credentials, Some(AuthScheme::Bearer)),
        (AuthPosture::Credentials, Some(AuthScheme::ApiKeyHeader)),
        (AuthPosture::Credentials, Some(AuthScheme::Basic)),
        (AuthPosture::Credentials, Some(AuthScheme::ApiKeyQuery)),
        (AuthPosture::Mixed, None),
        (AuthPosture::Open, None),
    ];

    fn inputs(
        state: usize,
        exposure: usize,
        auth: usize,
        data: u8,
        findings: u8,
    ) -> impl Iterator<Item = RiskInputs> {
        let (posture, weakest) = AUTH[auth];
        STATES[state].iter().map(move |state| RiskInputs {
            state: *state,
            exposure: Some(Exposure::ALL[exposure]),
            posture: Some(posture),
            weakest,
            data,
            findings,
        })
    }

    #[test]
    fn the_most_of_all_factors_is_a_hundred() {
        assert_eq!(STATE_MAX + EXPOSURE_MAX + AUTH_MAX + DATA_MAX + FINDINGS_MAX, SCORE_MAX);
        let worst = inputs(STATES.len() - 1, 5, AUTH.len() - 1, 255, 255).next().unwrap();
        assert_eq!(risk(worst).score, SCORE_MAX);
        let best = inputs(0, 0, 0, 0, 0).next().unwrap();
        assert_eq!(risk(best), RiskRow { score: 0, parts: Vec::new() });
        assert!(State::ALL.iter().all(|state| state_points(*state) <= STATE_MAX));
        assert!(AuthScheme::ALL.iter().all(|scheme| scheme_points(*scheme) < 14));
    }

    #[test]
    fn the_weakest_of_several_schemes_counts() {
        let bits =
            |schemes: &[AuthScheme]| schemes.iter().fold(0, |bits, it| bits | 1 << *it as u16);
        let check = |schemes: &[AuthScheme], expected| assert_eq!(weakest(bits(schemes)), expected);
        check(&[AuthScheme::Jwt, AuthScheme::Basic, AuthScheme::None], Some(AuthScheme::Basic));
        check(&[AuthScheme::Jwt, AuthScheme::ApiKeyQuery], Some(AuthScheme::ApiKeyQuery));
        check(&[AuthScheme::None], None);
    }

    proptest! {
        #[test]
        fn what_is_worse_in_any_way_is_never_less_risky(
            one in (0..STATES.len(), 0..6_usize, 0..AUTH.len(), 0..20_u8, 0..20_u8),
            two in (0..STATES.len(), 0..6_usize, 0..AUTH.len(), 0..20_u8, 0..20_u8),
        ) {
            let better = (one.0.min(two.0), one.1.min(two.1), one.2.min(two.2), one.3.min(two.3), one.4.min(two.4));
            for worse in inputs(one.0, one.1, one.2, one.3, one.4) {
                let high = risk(worse);
                prop_assert!(high.score <= SCORE_MAX);
                prop_assert_eq!(u32::from(high.score), high.parts.iter().map(|part| u32::from(part.points)).sum::<u32>());
                for better in inputs(better.0, better.1, better.2, better.3, better.4) {
                    // States of one tier may differ among themselves.
                    if better.state != worse.state && better.state as usize != worse.state as usize
                        && STATES.iter().any(|tier| tier.contains(&better.state) && tier.contains(&worse.state)) {
                        continue;
                    }
                    prop_assert!(risk(better).score <= high.score, "{:?} {:?}", better, worse);
                }
            }
        }
    }
}
