//! Prints how right learned templates are: `sensor-score FOLDER [CALLS..]`, for `cargo xtask score`.
#![expect(clippy::print_stdout, reason = "a table for people")]

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use sensor_tests::score::{Order, Tally, descriptions, learned, naive, traffic};

/// Template of what no answer shows to exist, without names.
const NOWHERE: &str = "/{}";
/// Seed of all traffic.
const SEED: u64 = 20_260_704;
/// Requests beyond which a description is left out at that many calls.
const REQUESTS_MAX: usize = 400_000;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().context("usage: sensor-score FOLDER [CALLS..]")?);
    let mut calls: Vec<usize> = args.map(|text| text.parse()).collect::<Result<_, _>>()?;
    if calls.is_empty() {
        calls = vec![10, 60, 600];
    }
    let descriptions = descriptions(&folder)?;
    println!(
        "{:<12} {:>5} {:>6} | {:>9} {:>6} {:>5} {:>6} {:>9} | {:>8} {:>6}",
        "description",
        "calls",
        "ops",
        "precision",
        "recall",
        "F1",
        "right",
        "swallowed",
        "naive F1",
        "right"
    );
    for calls in calls {
        let (mut all, mut all_naive) = (Tally::default(), Tally::default());
        for description in &descriptions {
            if description.operations.len() * calls > REQUESTS_MAX {
                println!("{:<12} {calls:>5} left out: too many requests", description.name);
                continue;
            }
            let requests = traffic(description, calls, SEED);
            let templates = learned(&requests, Order::Drawn)?;
            if calls <= 60 {
                for order in [Order::Reversed, Order::Sorted, Order::Halves] {
                    let others = learned(&requests, order)?;
                    let changed = requests.iter().zip(templates.iter().zip(&others)).find(
                        |(request, (one, other))| {
                            // What was answered is not merged: one half may not know that it exists.
                            let unknown = [one, other].iter().any(|it| **it == NOWHERE);
                            request.operation.is_some() && !unknown && one != other
                        },
                    );
                    let name = &description.name;
                    ensure!(
                        changed.is_none(),
                        "{name}: {order:?} gives other templates: {changed:?}"
                    );
                }
            }
            let tally = Tally::of(description, &requests, &templates);
            let beside = Tally::of(description, &requests, &naive(&requests));
            print(&description.name, calls, description.operations.len(), &tally, &beside);
            all.add(&tally);
            all_naive.add(&beside);
        }
        print("all", calls, 0, &all, &all_naive);
    }
    println!(
        "The same templates for the traffic in three orders and for two halves merged (10 and 60 calls)."
    );
    Ok(())
}

fn print(name: &str, calls: usize, operations: usize, tally: &Tally, naive: &Tally) {
    println!(
        "{name:<12} {calls:>5} {operations:>6} | {:>9.3} {:>6.3} {:>5.3} {:>6.3} {:>9.3} | {:>8.3} {:>6.3}",
        tally.precision(),
        tally.recall(),
        tally.f1(),
        tally.right(),
        tally.swallowed(),
        naive.f1(),
        naive.right()
    );
}
