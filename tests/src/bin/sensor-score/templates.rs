//! Templates of traffic drawn from descriptions: learned, with the document given, and by a naive rule.

use std::time::Instant;

use anyhow::{Result, ensure};
use sensor_tests::score::{
    Description, Draw, Knowledge, Order, Tally, learned, mistakes, naive, traffic,
};

use crate::threshold::Thresholds;

/// Template of what no answer shows to exist, without names.
const NOWHERE: &str = "/{}";
/// Calls an operation up to which other orders are tried too.
const ORDERS_CALLS_MAX: usize = 60;

/// Prints one table a number of calls; the figures are those of all draws together.
pub(crate) fn templates(
    descriptions: &[Description],
    calls: &[usize],
    draws: &[Draw],
    thresholds: &mut Thresholds,
) -> Result<()> {
    println!(
        "{:<12} {:>5} {:>6} | {:>9} {:>6} {:>5} {:>6} {:>9} | {:>8} {:>6} | {:>8} {:>9} | {:>7}",
        "description",
        "calls",
        "ops",
        "precision",
        "recall",
        "F1",
        "right",
        "swallowed",
        "naive F1",
        "right",
        "document",
        "swallowed",
        "seconds"
    );
    for calls in calls.iter().copied() {
        let mut all = [Tally::default(), Tally::default(), Tally::default()];
        for description in descriptions {
            let start = Instant::now();
            let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
            for draw in draws {
                for (sum, one) in tallies.iter_mut().zip(&of(description, calls, *draw)?) {
                    sum.add(one);
                }
            }
            print(&description.name, calls, &tallies, start.elapsed().as_secs_f64());
            for (all, one) in all.iter_mut().zip(&tallies) {
                all.add(one);
            }
        }
        print("all", calls, &all, 0.0);
        let [found, _, document] = all;
        let what = |figure: &str| format!("{figure} at {calls} calls");
        thresholds.at_least(&what("precision of templates"), found.precision(), 0.90);
        thresholds.at_least(&what("recall of templates"), found.recall(), 0.90);
        thresholds.at_most(&what("templates swallowed"), found.swallowed(), 0.02);
        let right = if calls >= 600 { 0.98 } else { 0.90 };
        thresholds.at_least(&what("requests with the right template"), found.right(), right);
        thresholds.at_least(&what("recall with the document"), document.recall(), 0.99);
        thresholds.at_most(&what("swallowed with the document"), document.swallowed(), 0.0);
    }
    println!(
        "The same templates for the traffic in three orders and for two halves merged (up to {ORDERS_CALLS_MAX} calls)."
    );
    Ok(())
}

fn of(description: &Description, calls: usize, draw: Draw) -> Result<[Tally; 3]> {
    let requests = traffic(description, calls, draw);
    let templates = learned(&requests, Order::Drawn, Knowledge::Traffic)?;
    if calls <= ORDERS_CALLS_MAX {
        for order in [Order::Reversed, Order::Sorted, Order::Halves] {
            let others = learned(&requests, order, Knowledge::Traffic)?;
            let changed = requests.iter().zip(templates.iter().zip(&others)).find(
                |(request, (one, other))| {
                    // What was answered is not merged: one half may not know that it exists.
                    let unknown = [one, other].iter().any(|it| **it == NOWHERE);
                    request.operation.is_some() && !unknown && one != other
                },
            );
            let name = &description.name;
            ensure!(changed.is_none(), "{name}: {order:?} gives other templates: {changed:?}");
        }
    }
    if std::env::var_os("SENSOR_SCORE_MISTAKES").is_some() {
        for ((method, path), given) in mistakes(description, &requests, &templates) {
            let given: Vec<&String> = given.iter().take(3).collect();
            eprintln!("{} {method} {path} is {given:?}", description.name);
        }
    }
    let declared = learned(&requests, Order::Drawn, Knowledge::Document(description))?;
    Ok([
        Tally::of(description, &requests, &templates),
        Tally::of(description, &requests, &naive(&requests)),
        Tally::of(description, &requests, &declared),
    ])
}

fn print(name: &str, calls: usize, tallies: &[Tally; 3], seconds: f64) {
    let [found, naive, document] = tallies;
    println!(
        "{name:<12} {calls:>5} {:>6} | {:>9.3} {:>6.3} {:>5.3} {:>6.3} {:>9.3} | {:>8.3} {:>6.3} | {:>8.3} {:>9.3} | {seconds:>7.1}",
        found.operations(),
        found.precision(),
        found.recall(),
        found.f1(),
        found.right(),
        found.swallowed(),
        naive.f1(),
        naive.right(),
        document.recall(),
        document.swallowed(),
    );
}
