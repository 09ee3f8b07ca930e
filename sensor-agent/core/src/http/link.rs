//! `Link` (RFC 8288) to what it says of a life: `deprecation` (RFC 9745), `sunset` (RFC 8594), `successor-version` (RFC 5829).
//!
//! A link alone deprecates nothing: the header fields have the dates, the pages are for people. Bounds: [`LINK_BYTES_MAX`] of a field,
//! [`LINKS_MAX`] links of [`TARGET_BYTES_MAX`]; other relations are not kept.

/// Links of a response that speak of its operation's life, without query; of several of one relation the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LifeLinks {
    /// The page about its deprecation.
    pub deprecation: Option<Box<str>>,
    /// The page about its sunset.
    pub sunset: Option<Box<str>>,
    /// Where the next version is.
    pub successor: Option<Box<str>>,
}

impl LifeLinks {
    /// Adds the links of one field.
    pub(super) fn add(into: &mut Option<Box<Self>>, value: &[u8]) {
        let value = value.get(..value.len().min(LINK_BYTES_MAX)).unwrap_or_default();
        let Ok(mut rest) = std::str::from_utf8(value) else { return };
        for _ in 0..LINKS_MAX {
            let Some((target, after)) =
                rest.find('<').and_then(|at| rest.get(at + 1..)?.split_once('>'))
            else {
                return;
            };
            // A comma in quotes ends no link, but `rel` has none.
            let end = after
                .match_indices(',')
                .find(|(at, _)| {
                    after.get(at + 1..).is_some_and(|next| next.trim_start().starts_with('<'))
                })
                .map_or(after.len(), |(at, _)| at);
            let (parameters, next) = after.split_at_checked(end).unwrap_or((after, ""));
            rest = next;
            let end = target.find(['?', '#']).unwrap_or(target.len()).min(TARGET_BYTES_MAX);
            let Some(target) = target.get(..end).filter(|target| !target.is_empty()) else {
                continue;
            };
            for relation in relations(parameters) {
                if let Some(link) = Self::slot(into, relation) {
                    *link = Some(target.into());
                }
            }
        }
    }

    /// Where a link of this relation is kept.
    fn slot<'l>(
        into: &'l mut Option<Box<Self>>,
        relation: &str,
    ) -> Option<&'l mut Option<Box<str>>> {
        let slot: fn(&mut Self) -> &mut Option<Box<str>> = match relation {
            it if it.eq_ignore_ascii_case("deprecation") => |links| &mut links.deprecation,
            it if it.eq_ignore_ascii_case("sunset") => |links| &mut links.sunset,
            it if it.eq_ignore_ascii_case("successor-version") => |links| &mut links.successor,
            _ => return None,
        };
        Some(slot(into.get_or_insert_default()))
    }
}

fn relations(parameters: &str) -> impl Iterator<Item = &str> {
    let rel = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("rel").then_some(value.trim())
    });
    rel.unwrap_or_default().trim_matches('"').split_ascii_whitespace()
}

const LINK_BYTES_MAX: usize = 2_048;
const LINKS_MAX: usize = 16;
const TARGET_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Page of a deprecation, page of a sunset, next version.
    type Expected<'e> = Option<[Option<&'e str>; 3]>;

    fn check(value: &str, expected: Expected<'_>) {
        let mut links = None;
        LifeLinks::add(&mut links, value.as_bytes());
        let read = links
            .as_deref()
            .map(|it| [&it.deprecation, &it.sunset, &it.successor].map(|link| link.as_deref()));
        assert_eq!(read, expected, "{value}");
    }

    #[test]
    fn relations_of_a_life_are_kept_and_others_not() {
        check("</v2/a?token=x>; rel=\"successor-version\"", Some([None, None, Some("/v2/a")]));
        check(
            "<http://d/x?a=b>; rel=deprecation; type=\"text/html\"",
            Some([Some("http://d/x"), None, None]),
        );
        check(
            "<?page=2>; rel=\"next\", <http://d/s>;title=\"a, b\"; rel=\"help sunset\",</v3>;rel=Successor-Version",
            Some([None, Some("http://d/s"), Some("/v3")]),
        );
        check(
            "</v2>; rel=successor-version, </v3>; rel=\"successor-version\"",
            Some([None, None, Some("/v3")]),
        );
        check("<?page=2>; rel=\"next\"", None);
        check("<?page=2>; rel=\"successor-version\"", None);
        check("<", None);
        check("<a", None);
        check("<a>;rel", None);
    }

    #[test]
    fn every_prefix_is_read_or_refused() {
        let text = "<http://d/s>; rel=\"sunset\", <é>; rel=\"successor-version\"";
        for len in 0..=text.len() {
            let mut links = None;
            LifeLinks::add(&mut links, &text.as_bytes()[..len]);
        }
    }
}
