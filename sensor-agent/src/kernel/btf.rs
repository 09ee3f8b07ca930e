//! The type information (`.BTF`) of a kernel object to the definitions of its maps. Pure.
//!
//! Reads only what a map's definition is made of: structs, unions, pointers, arrays, integers and the `.maps` section. Every offset and
//! number is checked against the bytes; types nest at most [`DEPTH_MAX`] deep, and a map has at most [`TYPES_MAX`] of them. Format:
//! Documentation/bpf/btf.rst.

use std::collections::BTreeMap;

use sensor_core::digest::Digest;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Deepest nesting of types that is followed.
const DEPTH_MAX: u32 = 32;
/// Types of one map's definition that are followed.
const TYPES_MAX: u32 = 16_384;
const MAGIC: u16 = 0xeb9f;
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// One map as its definition says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapShape {
    /// `BPF_MAP_TYPE_*`.
    pub(crate) kind: u32,
    /// Bytes of a key, 0 where the definition names none.
    pub(crate) key_size: u32,
    /// Bytes of a value, 0 where the definition names none.
    pub(crate) value_size: u32,
    /// Entries, unless the loader sets others.
    pub(crate) max_entries: u32,
    /// `BPF_F_*`.
    pub(crate) flags: u32,
    /// Digest of all of it, with names, offsets and types of every field of key and value.
    pub(crate) digest: u64,
}

#[repr(C)]
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
struct Header {
    magic: u16,
    version: u8,
    flags: u8,
    at: u32,
    types_at: u32,
    types_len: u32,
    strings_at: u32,
    strings_len: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
struct TypeHead {
    name: u32,
    info: u32,
    size_or_type: u32,
}

#[derive(Clone, Copy, Debug)]
struct Type<'a> {
    head: TypeHead,
    /// What follows the head.
    rest: &'a [u8],
}

impl Type<'_> {
    const fn kind(&self) -> u32 {
        self.head.info >> 24 & 0x1f
    }

    /// The words that follow, in groups.
    fn groups<const N: usize>(&self) -> impl Iterator<Item = [u32; N]> {
        let count = self.rest.len() / (4 * N);
        (0..count).filter_map(|group| {
            let bytes = self.rest.get(group * 4 * N..)?;
            <[u32; N]>::read_from_prefix(bytes).ok().map(|(words, _)| words)
        })
    }
}

/// Parsed type information.
#[derive(Debug)]
pub(crate) struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Splits the section into types; `None` when it is not of the known form.
    pub(crate) fn parse(section: &'a [u8]) -> Option<Self> {
        let (header, _) = Header::read_from_prefix(section).ok()?;
        if header.magic != MAGIC {
            return None;
        }
        let part = |at: u32, len: u32| {
            let from = usize::try_from(header.at.checked_add(at)?).ok()?;
            section.get(from..from.checked_add(usize::try_from(len).ok()?)?)
        };
        let strings = part(header.strings_at, header.strings_len)?;
        let mut bytes = part(header.types_at, header.types_len)?;
        let mut types = Vec::new();
        while !bytes.is_empty() {
            let (head, after) = TypeHead::read_from_prefix(bytes).ok()?;
            let members = usize::try_from(head.info & 0xffff).ok()?;
            let words = match head.info >> 24 & 0x1f {
                INT | VAR | DECL_TAG => 1,
                ARRAY => 3,
                STRUCT | UNION | DATASEC | ENUM64 => members.checked_mul(3)?,
                ENUM | FUNC_PROTO => members.checked_mul(2)?,
                _ => 0,
            };
            let rest = after.get(..words * 4)?;
            types.push(Type { head, rest });
            bytes = after.get(words * 4..)?;
        }
        Some(Self { types, strings })
    }

    /// The maps of the section `.maps`, by name.
    pub(crate) fn maps(&self) -> BTreeMap<String, MapShape> {
        let sections = self
            .types
            .iter()
            .filter(|one| one.kind() == DATASEC && self.string(one.head.name) == b".maps");
        let variables = sections.flat_map(Type::groups::<3>).filter_map(|[id, ..]| {
            let variable = self.get(id).filter(|one| one.kind() == VAR)?;
            let name = String::from_utf8_lossy(self.string(variable.head.name)).into_owned();
            Some((name, self.map(variable.head.size_or_type)?))
        });
        variables.collect()
    }

    fn map(&self, definition: u32) -> Option<MapShape> {
        let definition = self.get(definition).filter(|one| one.kind() == STRUCT)?;
        let mut walk = Walk { digest: Digest::default(), left: TYPES_MAX };
        let mut shape = MapShape::default();
        for [name, kind, _] in definition.groups::<3>() {
            let name = self.string(name);
            walk.digest.field(name);
            self.add(kind, 0, &mut walk);
            let slot = match name {
                b"type" => &mut shape.kind,
                b"key_size" | b"key" => &mut shape.key_size,
                b"value_size" | b"value" => &mut shape.value_size,
                b"max_entries" => &mut shape.max_entries,
                b"map_flags" => &mut shape.flags,
                _ => continue,
            };
            // A number is the length of an array behind a pointer; a type is what the pointer points to.
            let target = self.get(kind).filter(|one| one.kind() == PTR)?.head.size_or_type;
            *slot = match name {
                b"key" | b"value" => self.size(target, 0)?,
                _ => self.get(target)?.groups::<3>().next()?[2],
            };
        }
        shape.digest = walk.digest.value();
        Some(shape)
    }

    fn size(&self, id: u32, depth: u32) -> Option<u32> {
        let one = self.get(id).filter(|_| depth < DEPTH_MAX)?;
        match one.kind() {
            INT | STRUCT | UNION | ENUM | ENUM64 => Some(one.head.size_or_type),
            PTR => Some(8),
            ARRAY => {
                let [element, _, count] = one.groups::<3>().next()?;
                self.size(element, depth + 1)?.checked_mul(count)
            }
            TYPEDEF | VOLATILE | CONST | RESTRICT => self.size(one.head.size_or_type, depth + 1),
            _ => None,
        }
    }

    /// Adds what a type is made of; names of types say nothing about bytes, names of fields do.
    fn add(&self, id: u32, depth: u32, walk: &mut Walk) {
        let Some(one) = self.get(id).filter(|_| depth < DEPTH_MAX && walk.left > 0) else { return };
        walk.left -= 1;
        walk.number(one.kind());
        match one.kind() {
            INT | ENUM | ENUM64 => {
                walk.number(one.head.size_or_type);
                walk.digest.field(one.rest);
            }
            ARRAY => {
                let Some([element, _, count]) = one.groups::<3>().next() else { return };
                walk.number(count);
                self.add(element, depth + 1, walk);
            }
            STRUCT | UNION => {
                walk.number(one.head.size_or_type);
                for [name, kind, offset] in one.groups::<3>() {
                    walk.digest.field(self.string(name));
                    walk.number(offset);
                    self.add(kind, depth + 1, walk);
                }
            }
            PTR | TYPEDEF | VOLATILE | CONST | RESTRICT => {
                self.add(one.head.size_or_type, depth + 1, walk);
            }
            _ => {}
        }
    }

    /// Types count from 1.
    fn get(&self, id: u32) -> Option<&Type<'a>> {
        self.types.get(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    fn string(&self, at: u32) -> &'a [u8] {
        let from =
            usize::try_from(at).ok().and_then(|at| self.strings.get(at..)).unwrap_or_default();
        from.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// A digest in the making, and how many types it may still visit.
struct Walk {
    digest: Digest,
    left: u32,
}

impl Walk {
    fn number(&mut self, number: u32) {
        self.digest.field(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct { int (*type)[2]; u32 (*key); struct V { u32 NAME; } (*value); int (*max_entries)[1]; } M SEC(".maps")`.
    fn object(field: &str) -> Vec<u8> {
        let mut strings = vec![0_u8];
        let mut string = |text: &str| {
            let at = u32::try_from(strings.len()).unwrap();
            strings.extend(text.as_bytes());
            strings.push(0);
            at
        };
        let kind = |kind: u32, members: u32| kind << 24 | members;
        let (u32_, type_, key, value, entries) =
            (string("u32"), string("type"), string("key"), string("value"), string("max_entries"));
        let (name, map, section) = (string(field), string("M"), string(".maps"));
        #[rustfmt::skip]
        let words = [
            u32_, kind(INT, 0), 4, 32,                      // 1 u32
            0, kind(ARRAY, 0), 0, 1, 1, 2,                  // 2 u32[2]
            0, kind(PTR, 0), 2,                             // 3
            0, kind(PTR, 0), 1,                             // 4 u32*
            0, kind(STRUCT, 1), 4, name, 1, 0,              // 5 V
            0, kind(PTR, 0), 5,                             // 6
            0, kind(ARRAY, 0), 0, 1, 1, 1,                  // 7 u32[1]
            0, kind(PTR, 0), 7,                             // 8
            0, kind(STRUCT, 4), 32, type_, 3, 0, key, 4, 64, value, 6, 128, entries, 8, 192, // 9
            map, kind(VAR, 0), 9, 1,                        // 10
            section, kind(DATASEC, 1), 0, 10, 0, 32,        // 11
        ];
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (types_len, strings_len) =
            (u32::try_from(body.len()).unwrap(), u32::try_from(strings.len()).unwrap());
        let mut section = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types_len, types_len, strings_len] {
            section.extend(u32::to_le_bytes(word));
        }
        section.extend(body);
        section.extend(&strings);
        section
    }

    #[test]
    fn a_map_is_read_and_a_field_of_another_name_is_another_map() {
        let (one, two) = (object("count"), object("bytes"));
        let shape = |section: &[u8]| Btf::parse(section).unwrap().maps()["M"];
        let (count, bytes) = (shape(&one), shape(&two));
        assert_eq!((count.kind, count.key_size, count.value_size, count.max_entries), (2, 4, 4, 1));
        assert_ne!(count.digest, bytes.digest);
        assert_eq!(count.digest, shape(&object("count")).digest);
    }

    #[test]
    fn no_prefix_of_a_section_and_no_flipped_byte_is_fatal() {
        let whole = object("count");
        for len in 0..whole.len() {
            drop(Btf::parse(&whole[..len]).map(|btf| btf.maps()));
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            drop(Btf::parse(&bytes).map(|btf| btf.maps()));
        }
    }
}
