//! Which refusals of peers without the right to change anything become entries of the audit log.
//!
//! The first of a user, then one in [`EVERY_NS`] with the number of those in between: the log is bounded, and nobody may wash out what
//! it holds by asking often. Bound: [`USERS_MAX`] users at once; what finds no room is counted with the next entry of whoever is there.

use std::collections::HashMap;

use sensor_core::time::MonoNs;

/// Entries of one user are this far apart at least.
const EVERY_NS: u64 = 600_000_000_000;
const USERS_MAX: usize = 64;

/// Users that were refused lately.
#[derive(Debug, Default)]
pub(super) struct Denied {
    users: HashMap<u32, Seen>,
    /// Refused without room for their user.
    others: u64,
}

#[derive(Debug)]
struct Seen {
    told: MonoNs,
    since: u64,
}

impl Denied {
    /// Counts a refusal; when it is to be an entry, how many before it were not.
    pub(super) fn count(&mut self, uid: u32, now: MonoNs) -> Option<u64> {
        if let Some(seen) = self.users.get_mut(&uid) {
            if now.since(seen.told) < EVERY_NS {
                seen.since += 1;
                return None;
            }
            let left_out = seen.since;
            *seen = Seen { told: now, since: 0 };
            return Some(left_out + std::mem::take(&mut self.others));
        }
        if self.users.len() >= USERS_MAX {
            let mut others = 0;
            self.users.retain(|_, seen| {
                let lately = now.since(seen.told) < EVERY_NS;
                others += if lately { 0 } else { seen.since };
                lately
            });
            self.others += others;
        }
        if self.users.len() >= USERS_MAX {
            self.others += 1;
            return None;
        }
        self.users.insert(uid, Seen { told: now, since: 0 });
        Some(std::mem::take(&mut self.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_asks_often_is_one_entry_with_a_count() {
        let mut denied = Denied::default();
        assert_eq!(denied.count(1000, MonoNs(0)), Some(0));
        for _ in 0..500 {
            assert_eq!(denied.count(1000, MonoNs(EVERY_NS - 1)), None);
        }
        assert_eq!(denied.count(1001, MonoNs(1)), Some(0), "others are told at once");
        assert_eq!(denied.count(1000, MonoNs(EVERY_NS)), Some(500));
    }

    #[test]
    fn many_users_find_room_again_and_none_is_lost() {
        let mut denied = Denied::default();
        let told: u64 = (0..1000).filter_map(|uid| denied.count(uid, MonoNs(0))).map(|_| 1).sum();
        assert_eq!(told, USERS_MAX as u64);
        assert_eq!(denied.count(5000, MonoNs(EVERY_NS)), Some(1000 - told));
        assert_eq!(denied.users.len(), 1);
    }
}
