//! One shape for the closed enums of counters of the stages, and for their values.
//!
//! The kernel programs' own (`sensor_ebpf::abi::counter`) stays apart: its discriminants are indices of a map, without an allocator
//! or a struct of values behind them.

/// Makes an enum of counters from `Name = "name"` lines, and a struct of their values. How values move is the stage's.
macro_rules! counters {
    (
        $(#[$about:meta])* enum $counter:ident, struct $counts:ident;
        $($(#[$doc:meta])* $name:ident = $text:literal,)*
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $counter { $($(#[$doc])* $name,)* }

        impl $counter {
            /// All, in index order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in the ledger, in metrics and on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

        /// Values of all counters.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $counts([u64; $counter::COUNT]);

        impl Default for $counts {
            fn default() -> Self {
                Self([0; $counter::COUNT])
            }
        }

        impl $counts {
            /// The value of one counter.
            #[must_use]
            pub fn value(&self, counter: $counter) -> u64 {
                self.0.get(counter as usize).copied().unwrap_or(0)
            }

            /// All counters with their values.
            pub fn iter(&self) -> impl Iterator<Item = ($counter, u64)> + '_ {
                $counter::ALL.iter().map(|counter| (*counter, self.value(*counter)))
            }
        }
    };
}

pub(crate) use counters;
