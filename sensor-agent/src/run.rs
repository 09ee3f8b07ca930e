//! THE wiring of the live sensor: kernel -> ring thread -> pipeline -> sinks and store, and who may ask.
//!
//! Threads: the ring thread owns the beat of everything and never waits; the store, the reloads and the runtime of
//! sinks, socket and metrics have their own. [`Live`] is behind one lock: the ring thread holds it for a round, a
//! question for one view. Order of the end: detach, drain the ring, finish the pipeline, flush sinks, commit the store.

mod changes;
mod denied;
mod drops;
mod explain;
mod health;
mod history;
mod live;
mod overlay;
mod ready;
mod reloads;
mod status;
mod switch;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use sensor_core::pipeline::Pipeline;

use crate::{
    audit::{self, AuditLog},
    commands::Prerequisite,
    config::{CatalogueFolder, Config, MetricsListen, PinsFile},
    control::{Access, Listener},
    kernel::{self, Kernel, caps},
    overlay::{Book, folder_of},
    reload::{PolicyFile, Switched},
    sink::{Identity, Prepared},
    source::ring_buffer::RingThread,
    store::{Opened, random_id},
    telemetry::http,
};

use live::Live;
use reloads::Reloads;
use status::{Asked, Facts, Shared};

/// How long sinks get to flush at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// Runs the sensor until SIGTERM or SIGINT.
pub fn run(config: &Config) -> Result<()> {
    // What needs root's other powers comes first: files and sockets of others' folders.
    let now = live::wall_clock();
    let mut kernel_config = live::kernel_config(config)?;
    let not_pinned = live::open_pins(config, &mut kernel_config).map_err(prerequisite)?;
    let object = kernel::object(config.ebpf_object.as_deref()).map_err(prerequisite)?;
    let access = Access::of(config.socket_group.as_deref(), config.write_group.as_deref())?;
    let socket = Listener::bind(&config.socket, access)?;
    let store =
        Opened::open(&config.store, now.0).context("store; choose another folder with --store")?;
    let audit = AuditLog::open(&audit::folder_of(&config.store), now.0)
        .context("audit log; choose another folder with --store")?;
    let metrics = match config.metrics {
        MetricsListen::Off => None,
        MetricsListen::At(address) => Some(http::bind(address)?),
    };
    let sinks = Prepared::open(&config.sinks)?;
    let mut catalogue = config.catalogue.as_deref().map(CatalogueFolder::new);
    let loaded = catalogue.as_mut().map(reloads::first_catalogue).transpose()?;
    let mut templates = config.templates.as_deref().map(PinsFile::new);
    let pins = templates.as_mut().map(PinsFile::load).transpose().map_err(prerequisite)?;

    caps::restrict(live::needs(config, &kernel_config)).map_err(prerequisite)?;
    let (kernel, ring) = Kernel::prepare(&object, kernel_config).map_err(prerequisite)?;
    let kernel = Arc::new(kernel);
    caps::give_up_start_only().context("give up capabilities")?;
    // Before anything is attached: what was switched off drops nothing, not one packet.
    let switched = Switched::of(&config.store);
    switch::settle(&kernel, &switched, config.mode)?;

    let identity = Identity {
        sensor_id: store.identity.sensor_id.clone(),
        boot_id: random_id().context("random identity of this run")?,
        host_name: live::host_name(),
    };
    let mut pipeline = Pipeline::new(live::settings(config, &store.identity));
    let polling = live::polling(config, &pipeline);
    crate::restore::restore(pipeline.inventory_mut(), &store.contents);
    let history = crate::restore::history(&store.contents);
    pipeline.inventory_mut().set_pins(Arc::new(pins.unwrap_or_default()));
    let book = Book::open(folder_of(&config.store));
    overlay::tell_problems(&book);
    pipeline.inventory_mut().set_overlay(book.overlay().clone());
    let (keeper, _) = store.start().context("start the store")?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sensor-io")
        .enable_all()
        .build()?;
    let sinks = {
        let _inside = runtime.enter();
        sinks.start(&identity)
    };
    let live = Arc::new(Mutex::new(Live::new(
        pipeline,
        Arc::clone(&kernel),
        sinks.feed(),
        keeper,
        history,
    )));
    let beat = Arc::clone(&live);
    let ring_thread = RingThread::spawn(ring, polling, move |round| live::round(&beat, round))
        .context("start the ring thread")?;
    let facts = Facts {
        live: Arc::clone(&live),
        kernel: Arc::clone(&kernel),
        ring: ring_thread.counts(),
        sinks: sinks.gauge(),
        identity,
        mode: config.mode,
        hook: config.hook,
        ring_bytes: config.ring_bytes,
        started: now,
        upstreams: config.upstreams(),
        protected: config.protected.clone(),
        health: config.policy_health.clone(),
        not_pinned: not_pinned.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        switched,
    };
    let policy =
        PolicyFile::new(config.policy.as_deref(), &config.store, config.require_reason.clone());
    let shared = Arc::new(Shared::new(facts, policy, audit, live::guard(config), book));
    let reloads = Reloads::start(catalogue, loaded, templates, Arc::clone(&shared))?;

    // The policy first: what takes the place of an earlier agent's programs must enforce from its first packet on.
    kernel.attach();
    live::say_started(&kernel, config, not_pinned.as_deref());
    runtime.block_on(async {
        tokio::spawn(socket.serve(Arc::new(Asked(Arc::clone(&shared)))));
        if let Some(listener) = metrics {
            tokio::spawn(http::serve(listener, Arc::new(Asked(Arc::clone(&shared)))));
        }
        reloads.until_stopped().await
    })?;

    tracing::info!("stopping: draining the ring, flushing sinks and store");
    drop(reloads);
    kernel.detach();
    drop(ring_thread);
    let last = live::finish(&live);
    let left = runtime.block_on(sinks.close(FLUSH_DEADLINE));
    live::close_store(&live, last);
    live::say_stopped(&left);
    live::say_left(&kernel);
    // Tasks that answer are cut here; a client sees the end of its connection.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// What has to be there first ends with exit code 2.
fn prerequisite(error: impl std::fmt::Display) -> anyhow::Error {
    Prerequisite::new(error.to_string()).into()
}
