//! `bench [kernel|live|replay|drop|policy|verdict]`: figures of one run -> a table and `target/bench/<group>.jsonl`.
//!
//! The machine may be shared and noisy: each figure stands beside its baseline of the same run, ratios are
//! taken per round, and the median of them is reported.

pub(crate) mod drop;
mod kernel;
pub(crate) mod live;
pub(crate) mod measure;
pub(crate) mod policy;
mod replay;

use std::{fs, io::Write as _};

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::{
    process::{root, say},
    setup::Consent,
};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// ns per packet beside an empty program; verified instructions
    Kernel,
    /// CPU per request and requests per second against nginx
    Live,
    /// Exchanges and MB per CPU second, peak memory
    Replay,
    /// CPU of a dropped packet beside nftables and xdp-filter
    Drop,
    /// Memory of the agent with a million-entry list, freely and in a small cgroup
    Policy,
    /// From a response to the verdict about its flow in the kernel
    Verdict,
}

/// One figure.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// Value of what it is compared with, in the same run.
    pub(crate) baseline: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) runs: u64,
}

/// Measures one group or all.
pub(crate) fn bench(group: Option<Group>, consent: Consent) -> Result<()> {
    let groups = group.map_or_else(|| Group::value_variants().to_vec(), |group| vec![group]);
    for group in groups {
        match group {
            Group::Kernel => report("kernel", &kernel::kernel(consent)?)?,
            Group::Live => report("live", &live::live(consent)?)?,
            Group::Replay => report("replay", &replay::replay(consent)?)?,
            Group::Policy => report("policy", &policy::policy(consent)?)?,
            Group::Verdict => report("verdict", &kernel::verdict(consent)?)?,
            Group::Drop => report("drop", &drop::drop_cost(consent)?)?,
        }
    }
    Ok(())
}

/// Prints the table and writes one JSON object a line.
pub(crate) fn report(group: &str, figures: &[Figure]) -> Result<()> {
    let folder = root().join("target/bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{group}.jsonl"));
    let mut file = fs::File::create(&path)?;
    say(&format!(
        "\n{:<40} {:>14} {:<10} {:>14} {:>7} {:>7}",
        "name", "value", "unit", "baseline", "ratio", "runs"
    ));
    for figure in figures {
        let show = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        say(&format!(
            "{:<40} {:>14.1} {:<10} {:>14} {:>7} {:>7}",
            figure.name,
            figure.value,
            figure.unit,
            show(figure.baseline, 1),
            show(figure.ratio, 3),
            figure.runs
        ));
        writeln!(file, "{}", figure.to_json())?;
    }
    say(&format!("written: {}", path.strip_prefix(root()).unwrap_or(&path).display()));
    Ok(())
}

impl Figure {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name, "value": self.value, "unit": self.unit,
            "baseline": self.baseline, "ratio": self.ratio, "runs": self.runs,
        })
    }

    /// From a line of a runner; `None` where it is not a figure.
    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            name: value["name"].as_str()?.to_owned(),
            value: value["value"].as_f64()?,
            unit: value["unit"].as_str()?.to_owned(),
            baseline: value["baseline"].as_f64(),
            ratio: value["ratio"].as_f64(),
            runs: value["runs"].as_u64()?,
        })
    }
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark stay far below 2^52")]
pub(crate) const fn real(count: u64) -> f64 {
    count as f64
}

/// The middle value; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_survives_its_line() {
        let figure = Figure {
            name: "tc/clean/1000000".to_owned(),
            value: 41.5,
            unit: "ns".to_owned(),
            baseline: Some(28.0),
            ratio: Some(1.48),
            runs: 9,
        };
        let again = Figure::from_json(&figure.to_json()).expect("a figure");
        assert_eq!((again.name, again.runs, again.ratio), (figure.name, 9, Some(1.48)));
    }

    #[test]
    fn the_median_ignores_an_outlier() {
        assert!((median(&[1.0, 900.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
