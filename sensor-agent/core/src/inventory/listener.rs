//! One listener (server address and port): what it answers to what does not exist, its generic redirects, its coverage.

use std::{net::SocketAddr, sync::Arc};

use super::{answers::Answers, coverage::Coverage, names::NameId};
use crate::{
    http::AuthScheme,
    limits::{DISCRIMINATES_PATHS_MIN, GENERIC_REDIRECT_PATHS_MIN},
    state::Listening,
};

/// Whether a request carried credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    Without,
    With,
}

impl Credentials {
    pub(super) fn of(scheme: AuthScheme) -> Self {
        if scheme == AuthScheme::None { Self::Without } else { Self::With }
    }

    /// Bit in a set of credentials states.
    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Without => 1,
            Self::With => 2,
        }
    }
}

/// A server address and port.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) coverage: Coverage,
    pub(super) owner: Option<NameId>,
    /// Named services on it.
    pub(super) hosts: usize,
    /// Its services, to find one by host; one of several hosts comes with each of them.
    pub(super) services: Vec<(Option<Arc<str>>, super::service::ServiceId)>,
    /// Hashes of templates answered with 404, by credentials state.
    absent: [FewHashes<{ DISCRIMINATES_PATHS_MIN + 1 }>; 2],
    redirects: Vec<(u32, FewHashes<GENERIC_REDIRECT_PATHS_MIN>)>,
    pub(super) answers: Answers,
}

impl Listener {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            coverage: Coverage::default(),
            owner: None,
            hosts: 0,
            services: Vec::new(),
            absent: Default::default(),
            redirects: Vec::new(),
            answers: Answers::default(),
        }
    }

    /// Notes a 404 on a template.
    pub(super) fn note_absent(&mut self, credentials: Credentials, template: u32) {
        if let Some(set) = self.absent.get_mut(usize::from(credentials.bit() - 1)) {
            set.add(template);
        }
    }

    /// Whether refusals in one of these credentials states (bits) mean something for a template.
    pub(super) fn listening(&self, states: u8, template: u32) -> Listening {
        let means = [Credentials::Without, Credentials::With].into_iter().zip(&self.absent).any(
            |(state, set)| {
                states & state.bit() != 0 && set.others(template) >= DISCRIMINATES_PATHS_MIN
            },
        );
        if means { Listening::Discriminates } else { Listening::Unknown }
    }

    /// Notes a redirect of a path to a location; when the table is full, the oldest of those that the fewest paths were
    /// sent to makes room.
    pub(super) fn note_redirect(&mut self, location: u32, path: u32, max: usize) {
        if let Some((_, paths)) = self.redirects.iter_mut().find(|(known, _)| *known == location) {
            paths.add(path);
            return;
        }
        if self.redirects.len() >= max {
            // Those found generic stay: forgetting them would turn noise into endpoints.
            let fewest = (0..).zip(&self.redirects).min_by_key(|(_, (_, paths))| paths.len());
            self.redirects.remove(fewest.map_or(0, |(at, _)| at));
        }
        let mut paths = FewHashes::default();
        paths.add(path);
        self.redirects.push((location, paths));
    }

    /// Whether many paths are redirected to this location.
    pub(super) fn is_generic(&self, location: u32) -> bool {
        self.redirects.iter().any(|(known, paths)| *known == location && paths.is_full())
    }
}

/// The first `N` distinct hashes.
#[derive(Clone, Copy, Debug)]
pub(super) struct FewHashes<const N: usize> {
    hashes: [u32; N],
    count: u8,
}

impl<const N: usize> Default for FewHashes<N> {
    fn default() -> Self {
        Self { hashes: [0; N], count: 0 }
    }
}

impl<const N: usize> FewHashes<N> {
    fn seen(&self) -> &[u32] {
        self.hashes.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Adds one, when it is new and there is room.
    pub(super) fn add(&mut self, hash: u32) {
        if self.seen().contains(&hash) {
            return;
        }
        if let Some(slot) = self.hashes.get_mut(usize::from(self.count)) {
            *slot = hash;
            self.count += 1;
        }
    }

    /// Adds another's.
    pub(super) fn add_all(&mut self, other: &Self) {
        for hash in other.seen() {
            self.add(*hash);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        usize::from(self.count)
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == N
    }

    fn others(&self, hash: u32) -> usize {
        self.seen().iter().filter(|seen| **seen != hash).count()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Listener {
        Listener::new(SocketAddr::from(([10, 0, 0, 1], 80)))
    }

    #[test]
    fn refusals_mean_something_after_three_other_404s_with_the_same_credentials() {
        let mut it = listener();
        for template in [1, 2, 9] {
            it.note_absent(Credentials::Without, template);
        }
        assert_eq!(
            it.listening(Credentials::Without.bit(), 9),
            Listening::Unknown,
            "one of the three is itself"
        );
        assert_eq!(it.listening(Credentials::Without.bit(), 5), Listening::Discriminates);
        assert_eq!(it.listening(Credentials::With.bit(), 5), Listening::Unknown);
        it.note_absent(Credentials::Without, 3);
        assert_eq!(it.listening(Credentials::Without.bit(), 9), Listening::Discriminates);
    }

    #[test]
    fn a_location_is_generic_from_the_third_path_and_stays_so_when_full() {
        let mut it = listener();
        for path in [1, 2, 2, 1] {
            it.note_redirect(7, path, 4);
            assert!(!it.is_generic(7));
        }
        it.note_redirect(7, 3, 4);
        assert!(it.is_generic(7));
        for location in 100..200 {
            it.note_redirect(location, location, 4);
        }
        assert!(it.is_generic(7));
        assert!(it.redirects.len() <= 4);
    }
}
