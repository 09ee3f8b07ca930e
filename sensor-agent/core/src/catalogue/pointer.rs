//! Where one is in a document, as a JSON pointer (RFC 6901) that costs nothing until it is shown.

/// A chain of tokens on the stack; rendered only for an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pointer<'a> {
    /// The document itself.
    Root,
    /// A field of the place before.
    Key(&'a Self, &'a str),
    /// An element of the place before.
    Index(&'a Self, usize),
}

impl Pointer<'_> {
    /// Writes the pointer: `""` for the document, `/paths/~1users/get` below it.
    pub(super) fn render(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(parent, key) => {
                let mut text = parent.render();
                push_token(&mut text, key);
                text
            }
            Self::Index(parent, index) => format!("{}/{index}", parent.render()),
        }
    }
}

/// Appends `/` and a token with `~` and `/` escaped.
pub(super) fn push_token(text: &mut String, token: &str) {
    text.push('/');
    for c in token.chars() {
        match c {
            '~' => text.push_str("~0"),
            '/' => text.push_str("~1"),
            other => text.push(other),
        }
    }
}

/// Splits a pointer into its unescaped tokens.
pub(super) fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_survives_its_escapes() {
        let paths = Pointer::Key(&Pointer::Root, "paths");
        let path = Pointer::Key(&paths, "/a~b/{id}");
        let text = Pointer::Index(&path, 3).render();
        assert_eq!(text, "/paths/~1a~0b~1{id}/3");
        assert_eq!(tokens(&text), ["paths", "/a~b/{id}", "3"]);
    }
}
