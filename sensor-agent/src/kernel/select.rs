//! Which interfaces of which network namespaces are observed: globs in, a yes or no out. Pure.
//!
//! `eth*` is a glob over names of the agent's own namespace, `eth0@/run/netns/blue` one of another namespace,
//! `@/run/netns/blue` all of it. With nothing included, every interface of the own namespace is, `lo` too: calls
//! between processes of one host pass only there. `?` is one character, `*` any number.

use std::{fmt, path::PathBuf, str::FromStr};

/// Longest specification, in bytes.
const SPEC_BYTES_MAX: usize = 512;

/// A network namespace: the agent's own, or the one that a file stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Namespace {
    /// The one that the agent was started in.
    #[default]
    Own,
    /// As `ip netns` and `/proc/PID/ns/net` name it.
    File(PathBuf),
}

impl fmt::Display for Namespace {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => out.write_str("own"),
            Self::File(path) => write!(out, "{}", path.display()),
        }
    }
}

/// One `--interface` or `--exclude-interface`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// Glob over interface names.
    pub glob: String,
    /// Where it counts.
    pub namespace: Namespace,
}

/// Why an interface specification was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing there.
    #[error(
        "an interface is a name such as eth0, a glob such as veth*, or name@/run/netns/NAMESPACE"
    )]
    Empty,
    /// Too long to be one.
    #[error("an interface specification has at most {SPEC_BYTES_MAX} bytes")]
    Long,
    /// `@` without an absolute path.
    #[error(
        "after @ stands the absolute path of a network namespace, such as /run/netns/blue, not `{0}`"
    )]
    Namespace(String),
}

impl FromStr for InterfaceSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if text.len() > SPEC_BYTES_MAX {
            return Err(SpecError::Long);
        }
        let (glob, namespace) = match text.split_once('@') {
            None => (text, Namespace::Own),
            Some((glob, path)) if path.starts_with('/') => {
                (if glob.is_empty() { "*" } else { glob }, Namespace::File(path.into()))
            }
            Some((_, path)) => return Err(SpecError::Namespace(path.to_owned())),
        };
        if glob.is_empty() {
            return Err(SpecError::Empty);
        }
        Ok(Self { glob: glob.to_owned(), namespace })
    }
}

/// Includes and excludes; an exclude wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Empty means all of the own namespace.
    pub include: Vec<InterfaceSpec>,
    /// Taken out again.
    pub exclude: Vec<InterfaceSpec>,
}

impl Selection {
    /// The namespaces that have something to observe, without repeats.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        let mut namespaces: Vec<_> =
            self.include.iter().map(|spec| spec.namespace.clone()).collect();
        if namespaces.is_empty() {
            namespaces.push(Namespace::Own);
        }
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }

    /// Whether an interface is to be observed.
    #[must_use]
    pub fn wants(&self, namespace: &Namespace, name: &str) -> bool {
        let hit =
            |spec: &InterfaceSpec| spec.namespace == *namespace && glob_matches(&spec.glob, name);
        let included = if self.include.is_empty() {
            *namespace == Namespace::Own
        } else {
            self.include.iter().any(hit)
        };
        included && !self.exclude.iter().any(hit)
    }

    /// Names without wildcard of a namespace: those whose absence is worth a warning.
    pub fn literal_names(&self, namespace: &Namespace) -> impl Iterator<Item = &str> {
        self.include
            .iter()
            .filter(move |spec| spec.namespace == *namespace && !spec.glob.contains(['*', '?']))
            .map(|spec| spec.glob.as_str())
    }
}

/// Matches by bytes; the only state is the place to go back to after the last `*`, so time is bounded by the product of the lengths.
fn glob_matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut at, mut read) = (0, 0);
    let mut retry = None;
    while read < name.len() {
        match glob.get(at) {
            Some(b'*') => {
                retry = Some((at, read));
                at += 1;
            }
            Some(want) if *want == b'?' || name.get(read) == Some(want) => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, read) = (star + 1, from + 1);
            }
        }
    }
    glob.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(glob: &str, name: &str, expected: bool) {
        assert_eq!(glob_matches(glob, name), expected, "{glob} on {name}");
    }

    #[test]
    fn globs_match_whole_names() {
        check("eth0", "eth0", true);
        check("eth0", "eth01", false);
        check("veth*", "veth3fa", true);
        check("*a*b", "xaxxab", true);
        check("*a*b", "xaxxac", false);
        check("en?", "en", false);
        check("**", "", true);
        check("*****************************b", &"a".repeat(300), false);
    }

    #[test]
    fn a_specification_names_a_namespace_by_path() {
        let spec: InterfaceSpec = "@/run/netns/blue".parse().expect("valid");
        assert_eq!(
            spec,
            InterfaceSpec {
                glob: "*".into(),
                namespace: Namespace::File("/run/netns/blue".into())
            }
        );
        assert!(matches!("eth0@blue".parse::<InterfaceSpec>(), Err(SpecError::Namespace(_))));
        assert_eq!("".parse::<InterfaceSpec>(), Err(SpecError::Empty));
    }

    #[test]
    fn everything_of_the_own_namespace_is_the_default_and_an_exclude_wins() {
        let selection =
            Selection { exclude: vec!["docker*".parse().expect("valid")], ..Selection::default() };
        assert_eq!(selection.namespaces(), [Namespace::Own]);
        assert!(selection.wants(&Namespace::Own, "lo"));
        assert!(!selection.wants(&Namespace::Own, "docker0"));
        assert!(!selection.wants(&Namespace::File("/run/netns/blue".into()), "eth0"));
    }
}
