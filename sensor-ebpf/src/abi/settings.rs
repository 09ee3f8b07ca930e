//! What changes while running: one small array map, read once per packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The one entry of the settings map.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Settings {
    /// A flow is sampled when its keyed hash is at most this (`u32::MAX` = every flow).
    pub sample_threshold: u32,
    /// Weight of a sample: the inverse of the rate, rounded; 1 = every flow.
    pub sample_weight: u32,
    /// Key of the sampling hash, random per boot.
    pub hash_key: [u64; 2],
    /// Bytes of a head that are copied at most.
    pub head_bytes_max: u32,
    /// Number of hooks attached: above 2 (one device), segments can be seen more than once.
    pub hooks: u32,
    /// Always zero.
    pub spare: [u32; 2],
    /// Agent's last heartbeat, `CLOCK_BOOTTIME` ns.
    pub heartbeat_ns: u64,
    /// Wake the consumer when this many bytes wait in the ring.
    pub wake_bytes: u32,
    /// 1 = `enforcement off`: every rule only monitors, until it is 0 again.
    pub enforcement_off: u32,
    /// The policy in force, one word so that it changes at once: slot (low 8 bits) and `POLICY_*` flags of that slot (from bit 8 on).
    pub policy: u64,
    /// The provisional policy, same form; in force instead of `policy` until `provisional_until_ns`.
    pub provisional: u64,
    /// `CLOCK_BOOTTIME` ns at which the provisional policy ends by itself; 0 = there is none.
    pub provisional_until_ns: u64,
    /// A heartbeat older than this, ns, makes every rule monitor only; 0 = rules stay in force whatever becomes of the agent.
    pub stale_open_after_ns: u64,
    /// Verdicts by flow or client in `FLOW_VERDICTS` and `CLIENT_VERDICTS`: 0 lets the program skip the look-up.
    pub verdicts: u32,
    /// Sources in `SHARED`: 0 lets the program skip the look-up.
    pub shared_sources: u32,
}

/// Flag in [`Settings::policy`]: the image has block entries for IPv4.
pub const POLICY_BLOCK4: u64 = 1 << 8;
/// Flag in [`Settings::policy`]: the image has block entries for IPv6.
pub const POLICY_BLOCK6: u64 = 1 << 9;
/// Flag in [`Settings::policy`]: the image has limits for IPv4 clients that are asked for every packet.
pub const POLICY_LIMIT4: u64 = 1 << 10;
/// Flag in [`Settings::policy`]: the same for IPv6.
pub const POLICY_LIMIT6: u64 = 1 << 11;
/// Flag in [`Settings::policy`]: the image has limits on HTTP requests.
pub const POLICY_REQUESTS: u64 = 1 << 12;
/// Flag in [`Settings::policy`]: the image has allow entries for IPv4.
pub const POLICY_ALLOW4: u64 = 1 << 13;
/// Flag in [`Settings::policy`]: the same for IPv6.
pub const POLICY_ALLOW6: u64 = 1 << 14;
/// Flag in [`Settings::policy`]: the image has limits on open connections.
pub const POLICY_CONNECTIONS: u64 = 1 << 15;
/// Where the first anchor length of the image lies in [`Settings::policy`]: eight bits from this one on. Clean IPv6 packets need it and
/// nothing else of the header; the agent fills it in when it installs an image.
pub const POLICY_ANCHOR_SHIFT: u32 = 16;
/// Flag in [`Settings::policy`]: the policy has the filter `NEAR` for IPv4.
pub const POLICY_NEAR4: u64 = 1 << 24;
/// Flag in [`Settings::policy`]: the same for IPv6.
pub const POLICY_NEAR6: u64 = 1 << 25;
/// Where the lengths of IPv6 units of `NEAR` lie in [`Settings::policy`]: eight bits each from this one on, 0 = no more.
pub const POLICY_GRAINS_SHIFT: u32 = 32;
/// Mask of the slot in [`Settings::policy`].
pub const POLICY_SLOT: u64 = 0xff;

const _: () = assert!(size_of::<Settings>() == 96);

/// Key of the listener table: a server address and port.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ListenerKey {
    /// Server address, IPv4 v4-mapped.
    pub address: [u8; 16],
    /// Server port, host order.
    pub port: u16,
    /// Always zero.
    pub pad: [u8; 6],
}

const _: () = assert!(size_of::<ListenerKey>() == 24);

/// Connections of a listener by what they carry; exact, counted in the kernel, sampling or not.
/// `silent` is `opened` less all classified ones, for connections that are over.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ListenerCounts {
    /// Handshakes seen (SYN-ACK answered), and flows joined in the middle.
    pub opened: u64,
    /// First payload was an HTTP/1 request (or response, when joined).
    pub http: u64,
    /// HTTP/2 with prior knowledge.
    pub h2c: u64,
    /// TLS.
    pub tls: u64,
    /// Something else.
    pub other: u64,
    /// Ended.
    pub closed: u64,
    /// Ended without payload.
    pub silent: u64,
    /// Last packet that moved a count, `CLOCK_BOOTTIME` ns.
    pub last_ns: u64,
}

const _: () = assert!(size_of::<ListenerCounts>() == 64);

impl ListenerCounts {
    /// Nothing yet.
    pub const NONE: Self =
        Self { opened: 0, http: 0, h2c: 0, tls: 0, other: 0, closed: 0, silent: 0, last_ns: 0 };
}
