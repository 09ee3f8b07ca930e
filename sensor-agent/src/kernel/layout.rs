//! What the maps of a kernel object look like, as one short name: agents of the same name may take over each other's maps.
//!
//! The name is the ABI's version and a digest over every map that outlives an agent: its type, sizes, flags and entries, and names, offsets
//! and types of all fields of key and value (from the object's BTF), the names of the counters, and the version of the policy image. So
//! a field that is added, moved or renamed is another layout by itself; a change of meaning alone wants a new `ABI_VERSION`. Pure.

use std::collections::BTreeMap;

use object::{Object as _, ObjectSection as _};
use sensor_core::digest::Digest;
use sensor_ebpf::abi::{ABI_VERSION, counter::Counter, image::IMAGE_VERSION};

use super::btf::{Btf, MapShape};

/// Scratch of one packet: nothing in it is worth keeping.
const NOT_KEPT: [&str; 1] = ["WORK"];

/// The layout of one object with the sizes that it is loaded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Such as `abi1-0123456789abcdef`; a valid name of bpffs, which allows no dot.
    pub(crate) name: String,
    /// The maps that outlive an agent.
    pub(crate) maps: BTreeMap<String, MapShape>,
}

impl Layout {
    /// Reads the layout of an object. `entries` are the numbers of entries that the loader sets.
    pub(crate) fn of(object: &[u8], entries: &[(&str, u32)]) -> Option<Self> {
        let file = object::File::parse(object).ok()?;
        let section = file.section_by_name(".BTF")?.data().ok()?;
        let mut maps = Btf::parse(section)?.maps();
        maps.retain(|name, _| !NOT_KEPT.contains(&name.as_str()));
        for (name, count) in entries {
            if let Some(shape) = maps.get_mut(*name) {
                shape.max_entries = *count;
            }
        }
        let mut digest = Digest::default();
        digest.field(&IMAGE_VERSION.to_le_bytes());
        for counter in Counter::ALL {
            digest.field(counter.name().as_bytes());
        }
        for (name, shape) in &maps {
            digest.field(name.as_bytes());
            digest.field(&shape.digest.to_le_bytes());
            digest.field(&shape.max_entries.to_le_bytes());
        }
        (!maps.is_empty())
            .then(|| Self { name: format!("abi{ABI_VERSION}-{:016x}", digest.value()), maps })
    }
}
