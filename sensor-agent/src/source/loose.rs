//! A JSON value that may be of another type than it should be: that is an outcome, not the end of the file.
//!
//! What is of another type is skipped as it is read; nothing of it is kept.

use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{
    Deserialize, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// A value of one type, of another, or none (missing, or null).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Loose<T> {
    #[default]
    Missing,
    Is(T),
    /// Of another type, with what it was.
    Wrong(&'static str),
}

impl<T> Loose<T> {
    /// The value; the error names the field and what it was instead.
    pub(super) fn value(&self, field: &str) -> Result<Option<&T>, String> {
        match self {
            Self::Missing => Ok(None),
            Self::Is(value) => Ok(Some(value)),
            Self::Wrong(was) => Err(format!("`{field}` is {was}")),
        }
    }
}

/// What a type is read from.
pub(super) trait Shape {
    const FORM: Form;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Scalar,
    Object,
    Array,
}

impl Shape for String {
    const FORM: Form = Form::Scalar;
}

impl Shape for i64 {
    const FORM: Form = Form::Scalar;
}

impl Shape for f64 {
    const FORM: Form = Form::Scalar;
}

impl<T> Shape for Vec<T> {
    const FORM: Form = Form::Array;
}

impl<'de, T: Deserialize<'de> + Shape> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(AnyType(PhantomData))
    }
}

struct AnyType<T>(PhantomData<T>);

fn scalar<'de, T, E>(value: impl IntoDeserializer<'de, E>, was: &'static str) -> Loose<T>
where
    T: Deserialize<'de> + Shape,
    E: serde::de::Error,
{
    if T::FORM != Form::Scalar {
        return Loose::Wrong(was);
    }
    T::deserialize(value.into_deserializer()).map_or(Loose::Wrong(was), Loose::Is)
}

impl<'de, T: Deserialize<'de> + Shape> Visitor<'de> for AnyType<T> {
    type Value = Loose<T>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("any value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Loose::Wrong("true or false"))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(scalar::<T, E>(value, "a number that does not fit"))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(scalar::<T, E>(value, "a number that does not fit"))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(scalar::<T, E>(value, "a fraction"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(scalar::<T, E>(value, "text"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        Ok(Loose::Missing)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        if T::FORM == Form::Object {
            return T::deserialize(MapAccessDeserializer::new(map)).map(Loose::Is);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Wrong("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        if T::FORM == Form::Array {
            return T::deserialize(SeqAccessDeserializer::new(list)).map(Loose::Is);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Wrong("an array"))
    }
}
