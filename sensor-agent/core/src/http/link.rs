//! `Link` (RFC 8288) to what it says of a life: `deprecation` (RFC 9745), `sunset` (RFC 8594), `successor-version` (RFC 5829).
//!
//! Bounds: [`LINK_BYTES_MAX`] of a field, [`LINKS_MAX`] links; other relations are not kept. A link alone deprecates nothing.

/// Links of a response that speak of its operation's life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LifeLinks {
    /// There is a page about its deprecation.
    pub deprecation: bool,
    /// There is a page about its sunset.
    pub sunset: bool,
    /// Where the next version is, query removed.
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
            for relation in relations(parameters) {
                let links = || Box::new(Self::default());
                if relation.eq_ignore_ascii_case("deprecation") {
                    into.get_or_insert_with(links).deprecation = true;
                } else if relation.eq_ignore_ascii_case("sunset") {
                    into.get_or_insert_with(links).sunset = true;
                } else if relation.eq_ignore_ascii_case("successor-version") {
                    let end = target.find(['?', '#']).unwrap_or(target.len());
                    let target = target.get(..end.min(TARGET_BYTES_MAX));
                    into.get_or_insert_with(links).successor =
                        target.filter(|target| !target.is_empty()).map(Into::into);
                }
            }
        }
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

    fn check(value: &str, expected: Option<(bool, bool, Option<&str>)>) {
        let mut links = None;
        LifeLinks::add(&mut links, value.as_bytes());
        let read = links.as_ref().map(|it| (it.deprecation, it.sunset, it.successor.as_deref()));
        assert_eq!(read, expected, "{value}");
    }

    #[test]
    fn relations_of_a_life_are_kept_and_others_not() {
        check("</v2/a?token=x>; rel=\"successor-version\"", Some((false, false, Some("/v2/a"))));
        check("<http://d/x>; rel=deprecation; type=\"text/html\"", Some((true, false, None)));
        check(
            "<?page=2>; rel=\"next\", <http://d/s>;title=\"a, b\"; rel=\"help sunset\",</v3>;rel=Successor-Version",
            Some((false, true, Some("/v3"))),
        );
        check("<?page=2>; rel=\"next\"", None);
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
