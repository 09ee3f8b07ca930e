//! Writes a generated capture and what is in it:
//! `generate-capture EXCHANGES CAPTURE.pcap TRUTH.jsonl [SEED [CONCURRENT]]`.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use anyhow::Context as _;
use sensor_tests::generate::{Settings, write_capture};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [exchanges, capture, truth, rest @ ..] = &args[..] else {
        anyhow::bail!(
            "usage: generate-capture EXCHANGES CAPTURE.pcap TRUTH.jsonl [SEED [CONCURRENT]]"
        );
    };
    let number =
        |index: usize, default: u64| rest.get(index).map_or(Ok(default), |text| text.parse());
    let settings = Settings {
        seed: number(0, 1)?,
        exchanges: exchanges.parse().context("EXCHANGES is a number")?,
        concurrent: usize::try_from(number(1, 64)?)?,
    };
    let mut out =
        BufWriter::with_capacity(1 << 20, File::create(capture).context(capture.clone())?);
    let mut lines = BufWriter::with_capacity(1 << 20, File::create(truth).context(truth.clone())?);
    let made =
        write_capture(settings, &mut out, |exchange| writeln!(lines, "{}", exchange.json()))?;
    out.flush()?;
    lines.flush()?;
    eprintln!("{made} exchanges");
    Ok(())
}
