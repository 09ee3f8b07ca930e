//! Every drop is in exactly one record, and the guard steps in where it should and nowhere else.

use std::net::{IpAddr, Ipv4Addr};

use sensor_core::time::{MonoNs, UnixNs};
use sensor_ebpf::abi::{
    dynamic::{DropKey, DropReason, DropValue},
    flow_key::Tuple,
};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn mapped(last: u32) -> [u8; 16] {
    Ipv4Addr::from(0x0a01_0000 + last).to_ipv6_mapped().octets()
}

fn row(client: u32, count: u64, last_ns: u64) -> (DropKey, DropValue) {
    let key = DropKey { client: mapped(client), hits: 3, reason: DropReason::Block as u32 };
    let tuple = Tuple {
        src: mapped(client),
        dst: mapped(1),
        src_port: 40_000,
        dst_port: 80,
        protocol: 6,
        ..Tuple::default()
    };
    (key, DropValue { count, last_ns, tuple, ifindex: 2, ..DropValue::default() })
}

fn look(drops: &mut Drops, now: u64, rows: &[(DropKey, DropValue)]) -> Vec<DropKey> {
    let names = Names {
        rule: &|hits| (hits == 3).then(|| "bad".to_owned()),
        interface: &|index| format!("if{index}"),
        unix: &|at| UnixNs(at.0),
    };
    let idle = drops.look(MonoNs(now), rows, &names);
    // As the kernel gives them: with what was dropped since the look.
    for key in &idle {
        let last = rows
            .iter()
            .find(|(there, _)| there == key)
            .map(|(_, value)| DropValue { count: value.count + 1, ..*value });
        drops.gone(key, last.as_ref(), &names);
    }
    idle
}

#[test]
fn the_sum_of_all_records_is_the_sum_of_all_drops() {
    let mut drops = Drops::default();
    look(&mut drops, SECOND, &[row(7, 1, SECOND), row(8, 100, SECOND)]);
    look(&mut drops, 2 * SECOND, &[row(7, 1, SECOND), row(8, 250, 2 * SECOND)]);
    look(&mut drops, 3 * SECOND, &[row(7, 4, 3 * SECOND), row(8, 250, 2 * SECOND)]);
    let view = drops.after(0);
    let packets: Vec<_> = view.records.iter().map(|one| (one.packets, one.first)).collect();
    assert_eq!(packets, [(1, true), (100, true), (150, false), (3, false)]);
    assert_eq!((view.last, view.missed_records), (4, 0));
    let record = &view.records[0];
    assert_eq!(
        (&*record.rule, &*record.source, &*record.destination, &*record.interface),
        ("bad", "10.1.0.7:40000", "10.1.0.1:80", "if2")
    );
    assert!(drops.after(4).records.is_empty() && drops.after(3).records.len() == 1);
}

#[test]
fn idle_rows_go_and_a_row_that_comes_again_starts_again() {
    let mut drops = Drops::default();
    assert!(look(&mut drops, SECOND, &[row(7, 5, SECOND)]).is_empty());
    let idle = look(&mut drops, 62 * SECOND, &[row(7, 5, SECOND)]);
    assert_eq!(idle, [row(7, 0, 0).0]);
    look(&mut drops, 63 * SECOND, &[]);
    look(&mut drops, 64 * SECOND, &[row(7, 2, 64 * SECOND)]);
    let packets: Vec<_> = drops.after(0).records.iter().map(|one| one.packets).collect();
    assert_eq!(packets, [5, 1, 2], "the one dropped while the row was taken out is told too");
}

#[test]
fn who_falls_behind_knows_what_he_missed() {
    let mut drops = Drops::default();
    for second in 1..=10 {
        let rows: Vec<_> = (0..1_000).map(|client| row(client, second, second * SECOND)).collect();
        look(&mut drops, second * SECOND, &rows);
    }
    let (mut after, mut packets, mut missed) = (0, 0, 0);
    loop {
        let view = drops.after(after);
        let Some(first) = view.records.first() else { break };
        missed += view.missed_records;
        packets += first.packets_so_far - first.packets - packets;
        packets += view.records.iter().map(|one| one.packets).sum::<u64>();
        after = view.last;
    }
    assert_eq!((after, packets), (10_000, 10_000));
    assert_eq!(missed, 10_000 - RECENT_MAX as u64);
}

#[test]
fn the_guard_wants_many_clients_and_a_large_share() {
    let rows = |clients: u32, at| -> Vec<_> { (10..10 + clients).map(|n| row(n, 1, at)).collect() };
    let now = MonoNs(100 * SECOND);
    let trips = |clients, at, others| {
        Guard::default().trips(
            now,
            &rows(clients, at),
            MonoNs(0),
            |_| None,
            |_, _| true,
            |_| others,
        )
    };
    assert!(trips(19, 99 * SECOND, 0).is_empty(), "too few to judge");
    assert!(trips(20, 99 * SECOND, 380).is_empty(), "exactly the share");
    assert!(trips(50, 30 * SECOND, 0).is_empty(), "too long ago");
    let found = trips(21, 99 * SECOND, 379);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].clients_hit, found[0].clients, found[0].hits), (21, 400, 3));
    assert_eq!(found[0].service.ip(), IpAddr::from(Ipv4Addr::new(10, 1, 0, 1)));
}

#[test]
fn clients_that_were_never_answered_do_not_disarm_a_rule() {
    let rows: Vec<_> = (10..200).map(|n| row(n, 1, 99 * SECOND)).collect();
    let trips = |most: u8| {
        let known = |_, client| matches!(client, IpAddr::V4(own) if own.octets()[3] < most);
        Guard::default().trips(MonoNs(100 * SECOND), &rows, MonoNs(0), |_| None, known, |_| 3)
    };
    assert!(trips(0).is_empty(), "forged sources only");
    assert!(trips(29).is_empty(), "19 clients and many forged sources");
    assert_eq!(trips(30).first().map(|trip| trip.clients_hit), Some(20));
}

#[test]
fn a_rule_may_have_a_share_of_its_own() {
    let rows: Vec<_> = (10..40).map(|n| row(n, 1, 99 * SECOND)).collect();
    let trips = |own: Option<f64>, others| {
        let own = |hits| own.filter(|_| hits == 3);
        Guard::default()
            .trips(MonoNs(100 * SECOND), &rows, MonoNs(0), own, |_, _| true, |_| others)
            .len()
    };
    assert_eq!((trips(None, 70), trips(Some(0.3), 70), trips(Some(0.29), 70)), (1, 0, 1));
    assert_eq!(trips(Some(1.0), 0), 0, "100 % is never exceeded");
}

#[test]
fn what_a_rule_did_before_it_was_stopped_is_not_held_against_it_again() {
    let mut guard = Guard::default();
    let mut trips = |at: u64, last: u64| {
        let rows: Vec<_> = (10..40).map(|n| row(n, 1, last * SECOND)).collect();
        guard.trips(MonoNs(at * SECOND), &rows, MonoNs(0), |_| None, |_, _| true, |_| 70).len()
    };
    assert_eq!((trips(100, 99), trips(101, 99), trips(140, 100)), (1, 0, 0));
    assert_eq!(trips(150, 149), 1, "armed again, it hit as many again");
    let rows: Vec<_> = (10..40).map(|n| row(n, 1, 99 * SECOND)).collect();
    let found = Guard::default().trips(
        MonoNs(100 * SECOND),
        &rows,
        MonoNs(99 * SECOND + 1),
        |_| None,
        |_, _| true,
        |_| 0,
    );
    assert!(found.is_empty(), "another policy did that");
}
