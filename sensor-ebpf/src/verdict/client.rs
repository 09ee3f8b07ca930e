//! Which state a limit charges for a packet: the client's own where it is proven, else that of its network.
//!
//! So a flood of forged addresses makes no state of clients. Who is over a limit is moved to `PENALISED`, where nothing takes its
//! place; when that is full it stays where it is and its network pays as well, counted. Wide prefixes (up to [`NETWORK_V4`]
//! or [`NETWORK_V6`]) are few, and whoever is in them is charged.

use super::{
    address::{high, low, mask},
    limit::{Cost, MOVED, TatCell, charge},
    proof::{Standing, standing},
    rules::now,
};
use crate::{
    abi::{
        counter::Counter,
        image::Limit,
        policy::{LIMIT_FRACTION_BITS, NETWORK_V4, NETWORK_V6, Scope},
    },
    tables::{Tables, Tier},
    work::Work,
};

/// Allowances of prefixes up to these lengths are so few that they lie among those of clients.
const FEW_V4: u8 = 8;
const FEW_V6: u8 = 16;

const OF_CLIENT: u32 = 1 + Tier::Clients as u32;
const OF_PENALISED: u32 = 1 + Tier::Penalised as u32;
const OF_ANSWERED: u32 = 1 + Tier::Networks as u32;

/// The state that the packet's sender is charged to; `None` when there is no room for it.
#[inline(always)]
pub(super) fn cell<T: Tables>(limit: &Limit, tables: &T, work: &mut Work) -> Option<T::Cell> {
    limit_key(limit, work);
    work.search.tier = 0;
    work.search.of_network = 0;
    let four = work.headers.family == 4;
    let (len, network, few) = if four {
        (limit.prefix_v4, NETWORK_V4, FEW_V4)
    } else {
        (limit.prefix_v6, NETWORK_V6, FEW_V6)
    };
    if len <= few {
        return tables.limit_cell(Tier::Clients, &work.limit);
    }
    if len <= network {
        return tables.limit_cell(Tier::Networks, &work.limit);
    }
    let own = tables.find_limit(Tier::Clients, &work.limit);
    if let Some(cell) = own {
        if cell.load() != MOVED {
            work.search.tier = OF_CLIENT;
            return Some(cell);
        }
        if let Some(penalised) = tables.find_limit(Tier::Penalised, &work.limit) {
            work.search.tier = OF_PENALISED;
            return Some(penalised);
        }
        // Its allowance was whole again, and its penalty taken away.
        cell.swap_if(MOVED, 0);
        work.search.tier = OF_CLIENT;
        return Some(cell);
    }
    if let Some(cell) = tables.find_limit(Tier::Penalised, &work.limit) {
        work.search.tier = OF_PENALISED;
        return Some(cell);
    }
    unknown(tables, work)
}

/// The state of a client that has none yet, or that may be forged.
#[inline(never)]
fn unknown<T: Tables>(tables: &T, work: &mut Work) -> Option<T::Cell> {
    let standing = standing(tables, work);
    network_key(work);
    let (tier, scope, number) = match standing {
        Standing::Unknown => {
            work.search.of_network = 1;
            return tables.limit_cell(Tier::Networks, &work.network);
        }
        Standing::Answered => (Tier::Networks, Scope::Answered, OF_ANSWERED),
        Standing::Proven => (Tier::Clients, Scope::Client, OF_CLIENT),
    };
    work.search.tier = number;
    work.limit.scope = scope as u32;
    let mut found = find(tier, tables, work);
    if found.is_none() {
        // It begins where its network stands: what it was charged there is not forgiven.
        let before = tables.find_limit(Tier::Networks, &work.network);
        let before = before.map_or(0, |cell| cell.load());
        match tier {
            Tier::Clients => tables.make_limit(Tier::Clients, &work.limit, before),
            _ => tables.make_limit(Tier::Networks, &work.limit, before),
        };
        found = find(tier, tables, work);
    }
    work.limit.scope = Scope::Client as u32;
    found
}

#[inline(always)]
fn find<T: Tables>(tier: Tier, tables: &T, work: &Work) -> Option<T::Cell> {
    match tier {
        Tier::Clients => tables.find_limit(Tier::Clients, &work.limit),
        _ => tables.find_limit(Tier::Networks, &work.limit),
    }
}

/// Keeps the state of a client over its limit where no flood reaches it. `cell` is what [`cell`] gave.
#[inline(always)]
pub(super) fn penalise<T: Tables>(cell: &T::Cell, limit: &Limit, tables: &T, work: &mut Work) {
    let tier = work.search.tier;
    if tier != OF_CLIENT && tier != OF_ANSWERED {
        return;
    }
    let value = cell.load();
    if value == MOVED {
        return;
    }
    if tables.make_limit(Tier::Penalised, &work.limit, value) {
        if tier == OF_CLIENT {
            // When another CPU changed it meanwhile, the next packet over the limit comes here again.
            cell.swap_if(value, MOVED);
        }
        return;
    }
    tables.count(Counter::PenaltiesFull);
    network_key(work);
    if let Some(network) = tables.limit_cell(Tier::Networks, &work.network) {
        let now = now(tables, work) << LIMIT_FRACTION_BITS;
        let _full = charge(&network, Cost::of(limit, 1), limit.tolerance, now);
    }
}

/// Puts the key of the client's own state into `work.limit`.
#[inline(always)]
pub(super) fn limit_key(limit: &Limit, work: &mut Work) {
    // An allowance of all clients is one for both families.
    let len = if work.headers.family == 4 && limit.prefix_v4 != 0 {
        96 + u32::from(limit.prefix_v4)
    } else if work.headers.family == 4 {
        0
    } else {
        u32::from(limit.prefix_v6)
    };
    work.limit.client = masked(len, work);
    work.limit.limit = limit.state;
    work.limit.scope = Scope::Client as u32;
}

#[inline(always)]
fn network_key(work: &mut Work) {
    let len = if work.headers.family == 4 { 96 + NETWORK_V4 } else { NETWORK_V6 };
    work.network.client = masked(u32::from(len), work);
    work.network.limit = work.limit.limit;
    work.network.scope = Scope::Network as u32;
}

#[inline(always)]
fn masked(len: u32, work: &Work) -> [u8; 16] {
    let src = &work.headers.tuple.src;
    let (first, second) = (high(src) & mask(len), low(src) & mask(len.saturating_sub(64)));
    ((u128::from(first) << 64) | u128::from(second)).to_be_bytes()
}
