//! `Link` (RFC 8288) to where the next version of an operation is: `successor-version` (RFC 5829).
//!
//! Links to pages about a deprecation (RFC 9745) or a sunset (RFC 8594) are for people: such a link alone deprecates nothing, and the
//! header fields have the dates. Bounds: [`LINK_BYTES_MAX`] of a field, [`LINKS_MAX`] links.

/// Reads where the next version is, query removed; the last of several.
pub(super) fn successor(value: &[u8]) -> Option<Box<str>> {
    let value = value.get(..value.len().min(LINK_BYTES_MAX)).unwrap_or_default();
    let mut rest = std::str::from_utf8(value).ok()?;
    let mut found = None;
    for _ in 0..LINKS_MAX {
        let Some((target, after)) =
            rest.find('<').and_then(|at| rest.get(at + 1..)?.split_once('>'))
        else {
            break;
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
        if relations(parameters).any(|it| it.eq_ignore_ascii_case("successor-version")) {
            let end = target.find(['?', '#']).unwrap_or(target.len());
            let target = target.get(..end.min(TARGET_BYTES_MAX));
            found = target.filter(|target| !target.is_empty()).or(found);
        }
    }
    found.map(Into::into)
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

    fn check(value: &str, expected: Option<&str>) {
        assert_eq!(successor(value.as_bytes()).as_deref(), expected, "{value}");
    }

    #[test]
    fn the_next_version_is_kept_and_other_relations_not() {
        check("</v2/a?token=x>; rel=\"successor-version\"", Some("/v2/a"));
        check("<http://d/x>; rel=deprecation; type=\"text/html\"", None);
        check(
            "<?page=2>; rel=\"next\", <http://d/s>;title=\"a, b\"; rel=\"help sunset\",</v3>;rel=Successor-Version",
            Some("/v3"),
        );
        check("</v2>; rel=successor-version, </v3>; rel=\"successor-version\"", Some("/v3"));
        check("<?page=2>; rel=\"successor-version\"", None);
        check("<", None);
        check("<a", None);
        check("<a>;rel", None);
    }

    #[test]
    fn every_prefix_is_read_or_refused() {
        let text = "<http://d/s>; rel=\"sunset\", <é>; rel=\"successor-version\"";
        for len in 0..=text.len() {
            drop(successor(&text.as_bytes()[..len]));
        }
    }
}
