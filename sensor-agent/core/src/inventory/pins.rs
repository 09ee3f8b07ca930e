//! Templates as operators want them: pins, literals that stay, and names of parameters, for services by host.
//!
//! A pin gives every path that fits it its own text. A split keeps literals that would become values. A rename gives the parameters
//! of a template of the same shape its names. All of them come before what was learned and behind what a document declares; of
//! several pins that fit, the most literal one counts, from the left, then the first of the file. Bound: [`PINS_MAX`].

use std::collections::BTreeMap;

use super::{learned::Segments, path::push_encoded};
use crate::{catalogue::HostPattern, shape::Shape};
pub use read::{PinsError, PinsErrors};

mod read;

/// What operators said of templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    groups: Vec<Group>,
    count: usize,
}

/// What is said of the services of some hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Group {
    /// None: every service.
    hosts: Vec<HostPattern>,
    /// By number of segments, the most literal first.
    pins: BTreeMap<usize, Vec<Pin>>,
    splits: Vec<Pin>,
    renames: BTreeMap<String, Pin>,
}

/// A template in its segments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pin {
    segments: Vec<Segment>,
    line: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// `{name}`, with what stands before and behind it.
    Parameter {
        before: Box<str>,
        name: Box<str>,
        behind: Box<str>,
    },
}

impl Segment {
    /// Whether a segment of a path, or of a template, fits.
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Parameter { before, behind, .. } => {
                text.len() > before.len() + behind.len()
                    && text.starts_with(&**before)
                    && text.ends_with(&**behind)
            }
        }
    }

    /// The more literal, the larger.
    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 2,
            Self::Parameter { before, behind, .. } => {
                u8::from(!before.is_empty() || !behind.is_empty())
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Literal(literal) => push_encoded(literal.as_bytes(), out),
            Self::Parameter { before, name, behind } => {
                push_encoded(before.as_bytes(), out);
                out.extend([b"{", name.as_bytes(), b"}"].concat());
                push_encoded(behind.as_bytes(), out);
            }
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

impl Pin {
    fn write(&self, out: &mut Vec<u8>) {
        for segment in &self.segments {
            out.push(b'/');
            segment.write(out);
        }
        if out.is_empty() {
            out.push(b'/');
        }
    }

    /// The template without the names of its parameters.
    fn shape(&self) -> String {
        let mut out = Vec::new();
        self.write(&mut out);
        Shape(&String::from_utf8_lossy(&out)).text()
    }
}

/// What is said of one service.
#[derive(Clone, Debug)]
pub(super) struct ServicePins<'p> {
    groups: Vec<&'p Group>,
}

impl Pins {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Pins, splits and renames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// What is said of a service with these names of hosts, normalised.
    pub(super) fn of<'n>(
        &self,
        names: &(impl Iterator<Item = &'n str> + Clone),
    ) -> Option<ServicePins<'_>> {
        let is_for = |group: &&Group| {
            group.hosts.is_empty()
                || names.clone().any(|name| group.hosts.iter().any(|host| host.fits(name)))
        };
        let groups: Vec<&Group> = self.groups.iter().filter(is_for).collect();
        (!groups.is_empty()).then_some(ServicePins { groups })
    }
}

impl ServicePins<'_> {
    /// Writes the template of a path if it is pinned.
    pub(super) fn write(&self, segments: &Segments, out: &mut Vec<u8>) -> bool {
        self.write_texts(&segments.iter().collect::<Vec<_>>(), out)
    }

    /// The same for a path in its segments, or a template in its.
    pub(super) fn write_texts(&self, texts: &[&str], out: &mut Vec<u8>) -> bool {
        let stays = self.stays(texts);
        let fits = |pin: &&Pin| {
            let mut pairs = pin.segments.iter().zip(texts).zip(&stays);
            pairs.all(|((segment, text), stays)| {
                segment.fits(text) && (!stays || segment.is_literal())
            })
        };
        let of = |group: &&Group| group.pins.get(&texts.len())?.iter().find(fits).cloned();
        let found = self.groups.iter().filter_map(of);
        let Some(pin) =
            found.reduce(|best, pin| if ranks(&pin) > ranks(&best) { pin } else { best })
        else {
            return false;
        };
        out.clear();
        pin.write(out);
        true
    }

    /// Which segments of a path stay as they are.
    pub(super) fn stays(&self, texts: &[&str]) -> Vec<bool> {
        let mut stays = vec![false; texts.len()];
        for split in self.groups.iter().flat_map(|group| &group.splits) {
            let fits = split.segments.len() <= texts.len()
                && split.segments.iter().zip(texts).all(|(segment, text)| segment.fits(text));
            if fits {
                for (stays, segment) in stays.iter_mut().zip(&split.segments) {
                    *stays |= segment.is_literal();
                }
            }
        }
        stays
    }

    /// Gives the parameters of a template the wanted names.
    pub(super) fn rename(&self, template: &mut Vec<u8>) {
        if self.groups.iter().all(|group| group.renames.is_empty()) {
            return;
        }
        let Ok(text) = std::str::from_utf8(template) else { return };
        let shape = Shape(text).text();
        if let Some(pin) = self.groups.iter().find_map(|group| group.renames.get(&shape)) {
            template.clear();
            pin.write(template);
        }
    }
}

fn ranks(pin: &Pin) -> Vec<u8> {
    pin.segments.iter().map(Segment::rank).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::host::{HOST_BYTES_MAX, HostName},
        *,
    };

    fn pins(text: &str) -> Pins {
        Pins::read("t.yaml", text.as_bytes()).unwrap()
    }

    fn check(pins: &Pins, host: &str, path: &str, expected: Option<&str>) {
        let texts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        let mut out = Vec::new();
        // As the inventory names a service by it.
        let mut buffer = [0; HOST_BYTES_MAX];
        let HostName::Name(host) = HostName::parse(Some(host.as_bytes()), &mut buffer) else {
            panic!("{host} names no service");
        };
        let found = pins.of(&[host].into_iter()).is_some_and(|of| of.write_texts(&texts, &mut out));
        let found = found.then(|| String::from_utf8(out).unwrap());
        assert_eq!(found.as_deref(), expected, "{host}{path}");
    }

    #[test]
    fn the_most_literal_pin_of_the_host_counts() {
        let pins = pins(
            "version: 1\ntemplates:\n  - hosts: ['*.shop.example', api.example]\n    pin:\n      - /users/{user_id}\n      \
             - /users/me\n      - '/files/{name}.json'\n      - '/files/{file}'\n      - '/{a}/{b}/c'\n      - /x/{b}/{c}\n    \
             split: ['/users/export', '/orgs/{any}/settings']\n  - pin: ['/health/{kind}']\n",
        );
        assert_eq!(pins.len(), 9);
        check(&pins, "a.shop.example", "/users/17", Some("/users/{user_id}"));
        check(&pins, "API.example", "/users/me", Some("/users/me"));
        check(&pins, "api.example", "/files/a.json", Some("/files/{name}.json"));
        check(&pins, "api.example", "/files/a.xml", Some("/files/{file}"));
        check(&pins, "api.example", "/x/y/c", Some("/x/{b}/{c}"));
        check(&pins, "api.example", "/users/export", None);
        check(&pins, "api.example", "/users/{id}", Some("/users/{user_id}"));
        check(&pins, "api.example", "/users", None);
        check(&pins, "shop.example", "/users/17", None);
        check(&pins, "shop.example", "/health/live", Some("/health/{kind}"));
        let of = pins.of(&["api.example"].into_iter()).unwrap();
        assert_eq!(of.stays(&["orgs", "o1", "settings", "x"]), [true, false, true, false]);
        assert_eq!(of.stays(&["orgs", "o1"]), [false, false]);
    }

    #[test]
    fn parameters_are_renamed_by_shape() {
        let pins = pins("version: 1\ntemplates:\n  - rename: ['/repos/{owner}/{repo}']\n");
        let renamed = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            pins.of(&["any"].into_iter()).unwrap().rename(&mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(renamed("/repos/{repo_id}/{id}"), "/repos/{owner}/{repo}");
        assert_eq!(renamed("/repos/{repo_id}"), "/repos/{repo_id}");
    }
}
