//! The line of a JSON pointer in a document's text, found by reading the text once more.
//!
//! Only for errors that are shown (a handful per document) and only up to [`LOCATE_BYTES_MAX`]; JSON is read by the YAML
//! parser, which knows positions. Where it cannot be found it is `None`, never a guess.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{
    limits::LOCATE_BYTES_MAX,
    pointer::tokens,
    read::{as_text, yaml_options},
};

/// Line (from 1) of the key or element that `pointer` names.
pub(super) fn line_of(bytes: &[u8], pointer: &str) -> Option<u64> {
    if bytes.len() > LOCATE_BYTES_MAX || pointer.is_empty() {
        return None;
    }
    let text = as_text(bytes).ok()?;
    let tokens = tokens(pointer);
    let found = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        yaml_options(text.len()),
        |parser| Seek { tokens: &tokens }.deserialize(parser),
    );
    found.ok().flatten()
}

struct Seek<'t> {
    tokens: &'t [String],
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<u64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or list on the way to the place")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<u64>, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            match self.tokens.split_first() {
                Some((token, rest)) if *token == key.value => {
                    let here = Some(key.referenced.line()).filter(|line| *line > 0);
                    found = if rest.is_empty() {
                        map.next_value::<IgnoredAny>()?;
                        here
                    } else {
                        map.next_value_seed(Seek { tokens: rest })?.or(here)
                    };
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<u64>, A::Error> {
        let Some((token, rest)) = self.tokens.split_first() else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let wanted: Option<usize> = token.parse().ok();
        let mut found = None;
        for index in 0_usize.. {
            if Some(index) == wanted && !rest.is_empty() {
                match seq.next_element_seed(Seek { tokens: rest })? {
                    Some(line) => found = line,
                    None => break,
                }
            } else {
                match seq.next_element::<Spanned<IgnoredAny>>()? {
                    Some(element) if Some(index) == wanted => {
                        found = Some(element.referenced.line()).filter(|line| *line > 0);
                    }
                    Some(_) => {}
                    None => break,
                }
            }
        }
        Ok(found)
    }

    // The pointer goes on below a scalar: nothing there.
    fn visit_bool<E>(self, _: bool) -> Result<Option<u64>, E> {
        Ok(None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Option<u64>, E> {
        Ok(None)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Option<u64>, E> {
        Ok(None)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Option<u64>, E> {
        Ok(None)
    }
    fn visit_str<E>(self, _: &str) -> Result<Option<u64>, E> {
        Ok(None)
    }
    fn visit_unit<E>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }
}
