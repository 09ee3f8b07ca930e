//! The order in which exchanges come changes nothing of what is known at the end.

use proptest::prelude::*;

use super::*;

/// What a row says, without what depends on when.
fn facts(bench: &mut Bench) -> Vec<(String, String, String, State, u64, u64)> {
    let rows = bench.rows_at(50).into_iter();
    rows.map(|row| {
        (row.service, row.method, row.path_template, row.state, row.requests, row.clients)
    })
    .collect()
}

proptest! {
    /// A host is proven by some call or by none: rows do not depend on the order of the calls.
    #[test]
    fn rows_do_not_depend_on_the_order(
        calls in proptest::collection::vec((0_usize..7, 0_usize..5, 0_usize..3, 0_u32..4), 1..60),
        seed in any::<u64>(),
        every_host in any::<bool>(),
    ) {
        let every = SHOP.replace("servers: [{url: 'http://api.example.com'}]\n", "");
        let document = if every_host { &*every } else { SHOP };
        let targets = ["/users/1", "/users/2", "/users", "/a", "/b", "/c", "/d"];
        let statuses = [200, 404, 401, 500, 405];
        let hosts = ["api.example.com", "10.0.0.2", "other.example.com"];
        let mut shuffled = calls.clone();
        shuffled.sort_by_key(|call| crate::keyed_hash::siphash24([seed, 0], format!("{call:?}").as_bytes()));
        let run = |calls: &[(usize, usize, usize, u32)]| {
            let mut bench = Bench::new(&[document]);
            for (target, status, host, client) in calls {
                bench.call(&Call { host: hosts[*host], client: *client, ..get(targets[*target], statuses[*status]) });
            }
            bench.sum_is_whole();
            facts(&mut bench)
        };
        prop_assert_eq!(run(&calls), run(&shuffled));
    }
}
