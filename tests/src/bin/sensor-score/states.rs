//! States on generated scenarios.

use anyhow::Result;
use sensor_tests::score::{Description, states::judge};

use crate::threshold::Thresholds;

/// Judges the scenarios of these seeds and prints each state's precision and recall.
pub(crate) fn states(
    descriptions: &[Description],
    scenarios: u64,
    thresholds: &mut Thresholds,
) -> Result<()> {
    let confusion = judge(descriptions, 0..scenarios)?;
    println!("\n{:<18} {:>8} | {:>9} {:>6}", "state", "expected", "precision", "recall");
    for share in confusion.shares() {
        let (precision, recall) = (share.precision, share.recall);
        println!("{:<18} {:>8} | {precision:>9.3} {recall:>6.3}", share.state, share.expected);
        thresholds.at_least(&format!("precision of {}", share.state), precision, 0.98);
        thresholds.at_least(&format!("recall of {}", share.state), recall, 0.98);
    }
    for (expected, given, count) in confusion.mistakes().into_iter().take(10) {
        println!("  must be {expected}, is {given}: {count}");
    }
    println!("States of {scenarios} scenarios at three times each; `probing`: no row.");
    Ok(())
}
