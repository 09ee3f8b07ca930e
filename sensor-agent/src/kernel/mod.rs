//! The kernel side of the agent, Linux only: load, attach, watch interfaces, policy maps, counters, owners.
//!
//! aya is used nowhere else. `sys`, `memory` and `pod` hold the agent's `unsafe`. Which interface is observed by default: all of
//! the own namespace, loopback included, because a newcomer's first `curl localhost` passes only there.

pub use sensor_core::locality::LocalAddresses as LocalView;

mod attach;
mod btf;
pub mod caps;
mod clients;
mod clock;
mod counters;
mod detach;
mod handle;
mod layout;
mod listeners;
mod live;
mod load;
mod memory;
mod meta;
mod namespace;
mod netlink;
mod object;
mod owner;
mod patience;
mod pin;
mod pod;
mod policy_maps;
mod repeats;
mod ring;
mod room;
mod select;
mod settings;
mod sockets;
mod status;
mod switch;
mod sys;
mod test_run;
mod verdicts;
mod view;
mod watch;

pub use attach::{Chain, HookKind, LinkLayer};
pub use clients::ClientCounts;
pub use clock::now;
pub use counters::KernelLedger;
pub use detach::{DetachScope, Detached, detach_all, detach_namespace};
pub use handle::{Kernel, KernelConfig, StartError, Takeover};
pub use live::{LiveEnds, LivePolicy, PinnedPolicy, pinned_policy, provisional};
pub use load::{Degraded, LoadConfig, LoadError, Mode, object};
pub use owner::Owners;
pub use pin::{PinConfig, PinError, PinMode, Pins, ROOT as PIN_ROOT};
pub use policy_maps::{ApplyError, Install, Installed};
pub use ring::Ring;
pub use room::memory_room;
pub use select::{InterfaceSpec, Namespace, Selection, SpecError};
pub use settings::{first_settings, random_hash_key};
pub use sockets::EndedSockets;
pub use status::{InterfaceState, InterfaceStatus, WatchCounts};
pub use switch::{PinnedLayout, SwitchError, pinned_layouts, switch_layout};
pub use sys::{ChainEntry, TcHook, tcx_chain};
pub use test_run::{Bench, Ran, Spread, TestRunError};
