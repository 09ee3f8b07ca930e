//! `collect`: receives what sensors stream by `--upstream`, writes it, acknowledges it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use super::{Exit, Prerequisite, output};
use crate::{
    collect::{Collector, Durability, Marks, serve},
    config::Bytes,
    sink::{FileFormat, Rotation, SinkSpec, Writer},
};

/// Receives events of sensors over gRPC and writes them, each once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent collect                                  print events as JSON lines
  sensor-agent collect --out events.jsonl               keep them; a restart goes on where it was
  sudo sensor-agent run --upstream http://127.0.0.1:4640

An event is acknowledged once it is written: it survives the end of this process, and with --fsync that of the machine. Events \
that come twice are dropped by (sensor, run, sequence number); the marks for that lie beside the output as OUT.marks.json.")]
pub(super) struct Args {
    /// Address to listen on; loopback unless you say otherwise (there is no TLS and no authentication)
    #[arg(long, default_value = "127.0.0.1:4640", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// File to append to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How events are written
    #[arg(long, value_enum, default_value = "jsonl")]
    format: FileFormat,
    /// Rotate the file before it grows beyond this; 0 = never
    #[arg(long, default_value = "0", value_name = "BYTES")]
    rotate_bytes: Bytes,
    /// Rotated files to keep (OUT.1 is the newest)
    #[arg(long, default_value_t = SinkSpec::KEEP_DEFAULT, value_name = "N")]
    keep: u32,
    /// Acknowledge only what is on the disk
    #[arg(long)]
    fsync: bool,
}

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let (writer, marks) = match &args.out {
        None => (Writer::stdout(args.format), Marks::in_memory()),
        Some(path) => {
            let rotation = Rotation { bytes: args.rotate_bytes.0, keep: args.keep };
            let writer = Writer::file(path, args.format, rotation);
            let writer =
                writer.with_context(|| format!("{}: cannot be written", path.display()))?;
            (writer, Marks::beside(path)?)
        }
    };
    let durability = if args.fsync { Durability::Synced } else { Durability::Written };
    let collector = Arc::new(Collector::new(writer, marks, durability)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(|error| {
            Prerequisite::new(format!(
                "cannot listen on {}: {error}; choose another address with --listen",
                args.listen
            ))
        })?;
        let place =
            args.out.as_ref().map_or("standard output".into(), |path| path.display().to_string());
        output::note(&format!(
            "collecting on {}, writing to {place}; stop with Ctrl-C",
            listener.local_addr()?
        ));
        serve(listener, Arc::clone(&collector), super::signals::stopped()).await?;
        anyhow::Ok(())
    })?;
    let counts = collector.counts();
    output::note(&format!(
        "{} events written, {} duplicates dropped, {} missing, in {} batches",
        output::grouped(counts.written),
        output::grouped(counts.duplicates),
        output::grouped(counts.missing),
        output::grouped(counts.batches)
    ));
    Ok(Exit::Done)
}
