//! The shape of a template: what it says whatever its parameters are called, so that the same operation under another name
//! is the same.
//!
//! `/{*}` is what nothing shows to exist, and no parameter: it keeps its name.

use std::{
    cmp::Ordering,
    hash::{Hash, Hasher},
};

/// The template of what nothing shows to exist.
pub const NOWHERE: &str = "/{*}";

/// A template, compared without the names of its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a>(pub(crate) &'a str);

impl<'a> Shape<'a> {
    /// The texts between names.
    fn parts(self) -> impl Iterator<Item = &'a str> {
        let Self(mut rest) = self;
        let mut whole = self.0 == NOWHERE;
        let mut done = false;
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let open = if std::mem::take(&mut whole) { None } else { rest.find('{') };
            let Some((text, after)) = open.and_then(|at| rest.split_at_checked(at + 1)) else {
                done = true;
                return Some(rest);
            };
            rest = after.find('}').and_then(|at| after.get(at..)).unwrap_or_default();
            Some(text)
        })
    }

    /// As text: parameters have no names.
    pub(crate) fn text(self) -> String {
        self.parts().collect()
    }
}

impl PartialEq for Shape<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.parts().eq(other.parts())
    }
}

impl Eq for Shape<'_> {}

impl Ord for Shape<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0 == other.0 { Ordering::Equal } else { self.parts().cmp(other.parts()) }
    }
}

impl PartialOrd for Shape<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Shape<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for part in self.parts() {
            state.write(part.as_bytes());
        }
        state.write_u8(0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        assert_eq!(Shape(template).text(), expected);
    }

    #[test]
    fn names_are_left_out_and_nothing_else() {
        check("/users/{id}", "/users/{}");
        check("/a/{x}.json/{y}/b", "/a/{}.json/{}/b");
        check("/{a}-{b}", "/{}-{}");
        check("/", "/");
        check("/users", "/users");
        check("/{*}", "/{*}");
        check("/{broken", "/{");
    }

    #[test]
    fn only_names_may_differ() {
        assert_eq!(Shape("/users/{id}"), Shape("/users/{user_id}"));
        for other in ["/users/{id}/x", "/users/id", "/users", "/user/{id}", "/users/{id}.json"] {
            assert_ne!(Shape("/users/{id}"), Shape(other));
        }
        assert_ne!(Shape("/{*}"), Shape("/{id}"));
    }

    #[test]
    fn the_order_is_that_of_templates_without_names() {
        let mut templates =
            ["/users/{b}/x", "/users/{a}", "/users/me", "/{*}", "/users/{a}.json", "/{z}", "/a"];
        templates.sort_by_key(|template| Shape(template));
        assert_eq!(
            templates,
            ["/a", "/users/me", "/users/{a}", "/users/{a}.json", "/users/{b}/x", "/{z}", "/{*}"]
        );
        assert_eq!(Shape("/a/{x}").cmp(&Shape("/a/{y}")), Ordering::Equal);
    }
}
