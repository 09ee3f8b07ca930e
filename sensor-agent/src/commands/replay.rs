//! `replay FILE`: the pipeline over a capture, a HAR file or JSON lines of requests. No root, any system.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};

use anyhow::{Context as _, Result};
use sensor_core::flow::{Assembled, Assembler, Limits};

use super::{Exit, Prerequisite, output};
use crate::source::pcap::CaptureError;
use crate::source::recording::{Recording, read_capture, read_text};

mod exchange_line;

/// Runs the pipeline over a recording (pcap, pcapng, HAR 1.2, JSON lines of requests; `-` for standard input).
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Recording to read, `-` for standard input
    file: std::path::PathBuf,
    /// Print JSON lines instead of the view for people
    #[arg(long, value_enum)]
    emit: Option<Emit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Emit {
    /// Each exchange, with its raw path and query
    Exchanges,
    /// Each endpoint of the inventory
    Inventory,
    /// Each masked event, as a sink would get it
    Events,
}

/// Reads the recording.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let name = args.file.display().to_string();
    let reader: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        let file = File::open(&args.file).map_err(|error| Prerequisite::new(format!("cannot read {name}: {error}")))?;
        Box::new(file)
    };
    let recording = Recording::open(reader).map_err(|error| match error {
        CaptureError::Format(_) => Prerequisite::new(format!("{name}: {error}")).into(),
        other => anyhow::Error::from(other).context(name.clone()),
    })?;
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let mut failed = None;
    let mut sink = |assembled| {
        if let Assembled::Exchange(exchange) = assembled
            && args.emit == Some(Emit::Exchanges)
            && failed.is_none()
        {
            failed = exchange_line::write(&mut out, &exchange).err();
        }
    };
    match recording {
        Recording::Capture(mut capture) => {
            let mut assembler = Assembler::new(Limits::default(), 0);
            let end = read_capture(&mut capture, |segment| assembler.on_segment(segment, &mut sink), |_| {});
            assembler.finish(&mut sink);
            if let Some(fault) = end.fault {
                output::note(&format!("{name}: {fault}"));
            }
            for (counter, value) in assembler.counts().iter().filter(|(_, value)| *value > 0) {
                output::note(&format!("{} {value}", counter.name()));
            }
            output::note(&format!("{:?}", end.counts));
        }
        text => {
            let end = read_text(text, |exchange| sink(Assembled::Exchange(exchange)));
            match end {
                Ok(end) => {
                    if let Some(fault) = end.first_fault {
                        output::note(&format!("{name}: {} records are wrong, the first: {fault}", end.wrong));
                    }
                }
                Err(fault) => output::note(&format!("{name}: {fault}")),
            }
        }
    }
    if failed.is_none() {
        failed = out.flush().err();
    }
    match failed {
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Some(error) => Err(error).context("writing to standard output"),
        None => Ok(Exit::Done),
    }
}
