//! What goes into the kernel for one generation of a policy.

use std::mem::offset_of;

use sensor_ebpf::abi::image::{Header, Line};

/// An image with the bitmaps beside it. Written into the kernel's maps as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyImage {
    /// The image.
    pub lines: Vec<Line>,
    /// `ANY4`: [`ANY4_WORDS`](sensor_ebpf::abi::image::ANY4_WORDS) words, or none where no client of IPv4 is blocked.
    pub any4: Box<[u64]>,
    /// `FILTER6`: [`FILTER6_WORDS`](sensor_ebpf::abi::image::FILTER6_WORDS) words, or none where no client of IPv6 is blocked.
    pub filter6: Box<[u64]>,
    /// `NEAR` of IPv4: [`NEAR_WORDS`](sensor_ebpf::abi::near::NEAR_WORDS) words, or none where few clients of it are blocked.
    pub near4: Box<[u64]>,
    /// The same of IPv6.
    pub near6: Box<[u64]>,
    /// `POLICY_*` flags of [`Settings::policy`](sensor_ebpf::abi::settings::Settings::policy), the slot left out.
    pub flags: u64,
}

impl PolicyImage {
    /// Writes the generation into the header: who asks the live image learns which policy it is.
    pub fn set_generation(&mut self, generation: u64) {
        const AT: usize = offset_of!(Header, generation) / 8;
        if let Some(word) = self.lines.first_mut().and_then(|line| line.get_mut(AT)) {
            *word = generation;
        }
    }

    /// Bytes that it takes in the kernel.
    pub fn bytes(&self) -> u64 {
        [&self.any4, &self.filter6, &self.near4, &self.near6]
            .into_iter()
            .fold(size_of_val(&self.lines[..]), |bytes, words| bytes + size_of_val(&**words))
            as u64
    }
}
