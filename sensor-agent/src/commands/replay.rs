//! `replay FILE`: the pipeline over a capture, a HAR file or JSON lines of requests. No root, any system.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sensor_core::catalogue::{BindingReason, BindingRow, Catalogue, Severity, parse_rfc3339};
use sensor_core::flow::{Assembler, FlowCounter, FlowCounts, Limits, Segment};
use sensor_core::inventory::{EndpointRow, RowFilter};
use sensor_core::locality::{LocalAddresses, Locality};
use sensor_core::pipeline::{ExchangeEvents, Pipeline, Settings};
use sensor_core::state::State;
use sensor_core::time::UnixNs;

use super::inventory::{Filter, FilterArgs};
use super::render::{self, Rows};
use super::{Exit, Prerequisite, output};
use crate::config::{
    CatalogueFolder, ForwardedHeader, PinsFile, Span, exposure_flags, owner_flags,
};
use crate::source::packet::PacketCounts;
use crate::source::pcap::CaptureError;
use crate::source::recording::{CaptureEnd, Recording, TextEnd, read_capture, read_text};

mod asked;
mod emitter;
mod exchange_line;
mod ledger;

use asked::Asked;
use emitter::Emitter;

/// Rows of the table for people; `--emit inventory` has all.
const ROWS_MAX: usize = 2_000;
/// Files smaller than this are read before anyone could look at a progress bar.
const PROGRESS_FROM_BYTES: u64 = 64 << 20;

/// Runs the pipeline over a recording (pcap, pcapng, HAR 1.2, JSON lines of requests; `-` for standard input)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sensor-agent replay demo.pcap
  sensor-agent replay demo.pcap --catalogue ./api-documents --state shadow,zombie
  sensor-agent replay session.har --emit templates
  tcpdump -i any -U -w - port 80 | sensor-agent replay -

Exit code 1: nothing could be read of what the file holds. 2: no such file, or a flag is wrong.")]
pub(super) struct Args {
    /// Recording to read, `-` for standard input
    file: PathBuf,
    /// Folder of OpenAPI documents (or one such file) that declare the endpoints
    #[arg(long, value_name = "FOLDER")]
    catalogue: Option<PathBuf>,
    /// File of path templates: pinned, split, renamed (deploy/templates.example.yaml)
    #[arg(long, value_name = "FILE")]
    templates: Option<PathBuf>,
    /// Time that states are told for, RFC 3339 [default: the last packet]
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// Window that activity and coverage speak of
    #[arg(long, default_value = "30d", value_name = "SPAN")]
    window: Span,
    /// Which servers are ours (repeatable); others make the egress list [default: all are]
    #[arg(long, value_name = "CIDR", value_parser = crate::config::prefix)]
    local: Vec<ipnet::IpNet>,
    /// Proxies that are believed when they name the client they speak for (repeatable)
    #[arg(long = "trusted-proxy", value_name = "CIDR", value_parser = crate::config::prefix)]
    trusted_proxies: Vec<ipnet::IpNet>,
    /// Header field that they write the client's address into
    #[arg(
        long,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "auto|x-forwarded-for|forwarded"
    )]
    forwarded_header: ForwardedHeader,
    /// Callers' networks by class: host, cluster, private, partner or public (repeatable)
    #[arg(long = "exposure-net", value_name = "CLASS=CIDR")]
    exposure_nets: Vec<String>,
    /// Owners of APIs by host name, where no document names one (repeatable)
    #[arg(long = "owner", value_name = "GLOB=OWNER")]
    owners: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show pages, files and probes too
    #[arg(long)]
    all: bool,
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
    /// Each request with its path template, once all were read
    Templates,
    /// Each API document with what of it was used
    Coverage,
    /// Each host that was called and is not ours
    Egress,
}

/// Said where nothing was declared: why every endpoint has the same state.
const NO_CATALOGUE: &str = "\nNothing declared these endpoints, so all are `observed`; with OpenAPI documents (--catalogue FOLDER) \
     they are\ndeclared, shadow, zombie or dormant.\n";

/// Reads the recording.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let now = args.now.as_deref().map(|text| {
        let wrong = || {
            Prerequisite::new(format!("--now {text}: write RFC 3339, such as 2026-06-30T12:00:00Z"))
        };
        parse_rfc3339(text).ok_or_else(wrong)
    });
    let now = now.transpose()?;
    if args.filter.is_set() && !matches!(args.emit, None | Some(Emit::Inventory)) {
        let why =
            "filters and --sort choose endpoints: they go with the table and with --emit inventory";
        return Err(Prerequisite::new(why).into());
    }
    if args.emit == Some(Emit::Coverage) && args.catalogue.is_none() {
        output::note("--emit coverage has a line for each API document; --catalogue names none");
    }
    let (recording, bytes) = open(&args.file)?;
    let mut emitter = Emitter::new(args.emit);
    // Made for exchanges too: a flag that is wrong is wrong whatever is printed.
    let mut pipeline = pipeline(args)?;
    if args.emit == Some(Emit::Exchanges) {
        drop(pipeline);
        return exchanges_only(args, recording, emitter, bytes);
    }
    let mut asked = Asked::new(args.emit);
    let read = match recording {
        Recording::Capture(mut capture) => {
            let bar = progress(bytes);
            let take = |segment: &Segment<'_>| {
                pipeline.on_segment(segment, &mut |assembled| asked.assembled(assembled));
                emitter.events(&mut pipeline);
            };
            ReadEnd::of_capture(read_capture(&mut capture, take, |offset| {
                advance(bar.as_ref(), offset);
            }))
        }
        text => ReadEnd::of_text(read_text(text, |exchange| {
            asked.exchange(&exchange);
            pipeline.on_exchange(exchange);
            emitter.events(&mut pipeline);
        })),
    };
    pipeline.finish(&mut |assembled| asked.assembled(assembled));
    asked.write(&mut pipeline, &mut emitter);
    emitter.events(&mut pipeline);
    while pipeline.tell_rest() {
        emitter.events(&mut pipeline);
    }
    finish(args, &pipeline, emitter, &read, now)
}

/// Exchanges as they were sent need no inventory: half the time, a fifth of the memory.
fn exchanges_only(
    args: &Args,
    recording: AnyRecording,
    mut emitter: Emitter,
    bytes: Option<u64>,
) -> Result<Exit> {
    let mut assembler = Assembler::new(Limits::default(), 0);
    let read = match recording {
        Recording::Capture(mut capture) => {
            let bar = progress(bytes);
            let take = |segment: &Segment<'_>| {
                assembler.on_segment(segment, &mut |assembled| emitter.assembled(&assembled));
            };
            ReadEnd::of_capture(read_capture(&mut capture, take, |offset| {
                advance(bar.as_ref(), offset);
            }))
        }
        text => ReadEnd::of_text(read_text(text, |exchange| emitter.exchange(&exchange))),
    };
    assembler.finish(&mut |assembled| emitter.assembled(&assembled));
    say_end(args, &read);
    emitter.finish()?;
    Ok(exit(&read, assembler.counts()))
}

fn advance(bar: Option<&indicatif::ProgressBar>, offset: u64) {
    if let Some(bar) = bar {
        bar.set_position(offset);
    }
}

/// From a file or standard input.
type AnyRecording = Recording<Box<dyn Read>>;

/// How the input ended.
struct ReadEnd {
    packets: Option<PacketCounts>,
    /// Records of a text that were requests, and those that were not.
    records: Option<(u64, u64)>,
    /// What was wrong: the end of a capture, or records.
    faults: Vec<String>,
}

impl ReadEnd {
    fn of_capture(end: CaptureEnd) -> Self {
        let faults = end.fault.map(|fault| fault.to_string()).into_iter().collect();
        Self { packets: Some(end.counts), records: None, faults }
    }

    fn of_text(end: TextEnd) -> Self {
        let named = end.faults.len() as u64;
        let mut faults = end.faults;
        if end.wrong > named {
            faults.push(format!("{} more records were left out", end.wrong - named));
        }
        faults.extend(end.broken);
        Self { packets: None, records: Some((end.taken, end.wrong)), faults }
    }
}

/// Opens the input; its size where it is a file.
fn open(path: &Path) -> Result<(AnyRecording, Option<u64>)> {
    let name = path.display();
    let (reader, bytes): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let cannot =
            |error: &dyn Display| Prerequisite::new(format!("cannot read {name}: {error}"));
        let file = File::open(path).map_err(|error| cannot(&error))?;
        if path.is_dir() {
            return Err(cannot(&"it is a folder").into());
        }
        let bytes =
            file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let recording = Recording::open(reader).map_err(|error| match error {
        CaptureError::Format(_) => Prerequisite::new(format!("{name}: {error}")).into(),
        other => anyhow::Error::from(other).context(name.to_string()),
    })?;
    Ok((recording, bytes))
}

fn pipeline(args: &Args) -> Result<Pipeline> {
    let locality = if args.local.is_empty() {
        Locality::Everything
    } else {
        Locality::Host(LocalAddresses::new([], args.local.iter().copied()))
    };
    let wrong = |flag, problem| Prerequisite::new(format!("--{flag} {problem}"));
    if args.window.0.is_zero() {
        return Err(wrong("window", "0s: activity needs some time".into()).into());
    }
    let exposure =
        exposure_flags(&args.exposure_nets).map_err(|text| wrong("exposure-net", text))?;
    let owners = owner_flags(&args.owners).map_err(|text| wrong("owner", text))?;
    let mut pipeline = Pipeline::new(Settings {
        window_ns: u64::try_from(args.window.0.as_nanos()).unwrap_or(u64::MAX),
        locality,
        exchange_events: if args.emit == Some(Emit::Events) {
            ExchangeEvents::On
        } else {
            ExchangeEvents::Off
        },
        trusted_proxies: args.trusted_proxies.clone(),
        forwarded_header: args.forwarded_header.into(),
        exposure,
        owners,
        ..Settings::default()
    });
    if let Some(file) = &args.templates {
        let pins =
            PinsFile::new(file).load().map_err(|error| Prerequisite::new(error.to_string()))?;
        pipeline.inventory_mut().set_pins(Arc::new(pins));
    }
    if let Some(folder) = &args.catalogue {
        pipeline.set_catalogue(Arc::new(catalogue(folder)?));
    }
    Ok(pipeline)
}

fn catalogue(folder: &Path) -> Result<Catalogue> {
    let loaded = CatalogueFolder::new(folder)
        .load()
        .map_err(|error| Prerequisite::new(error.to_string()))?;
    for error in &loaded.errors {
        let word = if error.severity == Severity::Refused { "refused" } else { "warning" };
        output::note(&output::clean(&format!("catalogue: {word}: {error}")));
    }
    for note in &loaded.notes {
        output::note(&output::clean(&format!("catalogue: {note}")));
    }
    let bindings = loaded.catalogue.bindings();
    if bindings.is_empty() && loaded.errors.iter().any(|it| it.severity == Severity::Refused) {
        let why = format!("--catalogue {}: no document in it could be used", folder.display());
        return Err(Prerequisite::new(why).into());
    }
    bindings.iter().for_each(say_binding);
    Ok(loaded.catalogue)
}

fn say_binding(row: &BindingRow) {
    let (document, scopes) = (&row.document, row.scopes.join(", "));
    let text = format!("catalogue: {document} declares {scopes} ({})", row.explained());
    output::note(&output::clean(&text));
}

/// A bar on standard error, for a long file and a terminal.
fn progress(bytes: Option<u64>) -> Option<indicatif::ProgressBar> {
    let bytes =
        bytes.filter(|bytes| *bytes >= PROGRESS_FROM_BYTES && io::stderr().is_terminal())?;
    let bar = indicatif::ProgressBar::new(bytes);
    if let Ok(style) = indicatif::ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    ) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    Some(bar)
}

/// Says what ended the input early, and what of it could not be read.
fn say_end(args: &Args, end: &ReadEnd) {
    let name = args.file.display();
    for fault in &end.faults {
        output::note(&output::clean(&format!("{name}: {fault}")));
    }
    let unknown = end.packets.map_or(0, |counts| counts.link_unknown);
    if unknown > 0 {
        let read = "read are Ethernet, Linux cooked, raw IP, loopback";
        output::note(&format!(
            "{name}: {unknown} packets have a link type that is not read ({read})"
        ));
    }
}

/// Failed when the input broke off before anything was found.
fn exit(end: &ReadEnd, counts: &FlowCounts) -> Exit {
    let no_packet = end.packets.is_some_and(|packets| packets.packets == 0)
        && counts.value(FlowCounter::RequestHeads) == 0;
    let no_record = end.records.is_some_and(|(taken, _)| taken == 0);
    if !end.faults.is_empty() && (no_packet || no_record) { Exit::Negative } else { Exit::Done }
}

fn finish(
    args: &Args,
    pipeline: &Pipeline,
    mut emitter: Emitter,
    end: &ReadEnd,
    now: Option<UnixNs>,
) -> Result<Exit> {
    say_end(args, end);
    let bindings = pipeline.catalogue().bindings().iter();
    bindings.filter(|row| row.reason == BindingReason::Evidence).for_each(say_binding);
    if now.is_some_and(|now| now < pipeline.last()) {
        output::note(
            "--now is before the end of the recording: what came later counts all the same",
        );
    }
    let now = now.unwrap_or(pipeline.last());
    match args.emit {
        None => output::print(&table(args, pipeline, end, now))?,
        Some(Emit::Inventory) => {
            let filter = args.filter.at(now);
            if args.filter.sorts() {
                let mut rows = wanted(pipeline, now, &filter);
                filter.sort(&mut rows);
                for row in &rows {
                    emitter.line(row);
                }
            } else {
                pipeline.each_row(now, &RowFilter::default(), |row| {
                    if filter.wants(&row) {
                        emitter.line(&row);
                    }
                });
            }
            emitter.finish()?;
        }
        Some(Emit::Coverage) => {
            for row in pipeline.catalogue_coverage(now).documents {
                emitter.line(&row);
            }
            emitter.finish()?;
        }
        Some(Emit::Egress) => {
            for row in pipeline.view(now, &RowFilter::default()).egress {
                emitter.line(&row);
            }
            emitter.finish()?;
        }
        Some(Emit::Exchanges | Emit::Events | Emit::Templates) => emitter.finish()?,
    }
    Ok(exit(end, pipeline.flow_counts()))
}

fn wanted(pipeline: &Pipeline, now: UnixNs, filter: &Filter) -> Vec<EndpointRow> {
    let mut rows = Vec::new();
    pipeline.each_row(now, &RowFilter::default(), |row| {
        if filter.wants(&row) {
            rows.push(row);
        }
    });
    rows
}

/// The view for people; only the endpoints where some of them were asked for.
fn table(args: &Args, pipeline: &Pipeline, end: &ReadEnd, now: UnixNs) -> String {
    let mut view = pipeline.view(now, &RowFilter::default());
    let (filter, all) = (args.filter.at(now), view.endpoints.len());
    view.endpoints.retain(|row| filter.wants(row));
    filter.sort(&mut view.endpoints);
    view.endpoints_left_out = view.endpoints.len().saturating_sub(ROWS_MAX) as u64;
    view.endpoints.truncate(ROWS_MAX);
    let rows = if args.all || args.filter.names_rows() { Rows::All } else { Rows::Api };
    if args.filter.chooses() {
        return render::chosen(&view, rows, all);
    }
    let mut text = render::inventory(&view, rows);
    if !view.coverage.is_empty() {
        text.push('\n');
        text.push_str(&render::coverage(&view));
    }
    text.push('\n');
    text.push_str(&ledger::render(pipeline, end.packets, end.records));
    let all_observed = || view.endpoints.iter().all(|row| row.state == State::Observed);
    if args.catalogue.is_none() && !view.endpoints.is_empty() && all_observed() {
        text.push_str(NO_CATALOGUE);
    }
    text
}
