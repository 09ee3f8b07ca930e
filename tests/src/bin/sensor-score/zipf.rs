//! Requests drawn by Zipf's law from GitHub's public description: few operations are most of the traffic.

use anyhow::{Context as _, Result};
use sensor_tests::score::{Description, Draw, Knowledge, Order, Tally, learned, naive, popular};

use crate::threshold::Thresholds;

/// Requests of the run.
const REQUESTS: usize = 50_000;

/// Prints F1 and the share of requests with the right template, beside the naive rule.
pub(crate) fn zipf(
    descriptions: &[Description],
    draw: &Draw,
    thresholds: &mut Thresholds,
) -> Result<()> {
    let github = descriptions.iter().find(|it| it.name == "github").context("no github.tsv")?;
    let requests = popular(github, REQUESTS, *draw);
    let found = learned(&requests, Order::Drawn, Knowledge::Traffic)?;
    println!("\n{REQUESTS} requests by Zipf's law from github   F1    right");
    for (name, templates) in [("learned", found), ("digits and uuids", naive(&requests))] {
        let tally = Tally::of(github, &requests, &templates);
        println!(
            "  {name:<18} {:>5} operations asked {:>6.3} {:>6.3}",
            tally.operations(),
            tally.f1(),
            tally.right()
        );
        if name == "learned" {
            thresholds.at_least("F1 by Zipf's law", tally.f1(), 0.80);
            thresholds.at_least("requests right by Zipf's law", tally.right(), 0.90);
        }
    }
    Ok(())
}
