//! A scenario through the real pipeline, and the states that it shows.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, ensure};
use sensor_core::{
    catalogue::Catalogue,
    http::{AuthScheme, Exchange, Method, OwnerHint, RequestFacts, ResponseFacts},
    inventory::{Attached, ListenerTotals, NOWHERE, RowFilter, Span},
    locality::{LocalAddresses, Locality},
    pipeline::{Pipeline, Settings},
    time::{MonoNs, UnixNs},
};
use sensor_ebpf::abi::counter::Counter;

use super::{
    confusion::Confusion,
    date::http_date,
    documents::{Version, documents},
    generate, oracle,
    world::{Answer, Call, DAY, WINDOW, World},
};
use crate::score::description::{Description, shape};

const NS: u64 = 1_000_000_000;

/// Runs the scenarios of some seeds and counts what became of their operations.
pub fn judge(descriptions: &[Description], seeds: std::ops::Range<u64>) -> Result<Confusion> {
    let mut confusion = Confusion::default();
    for seed in seeds {
        let world = generate::world(descriptions, seed);
        let shown = run(&world)?;
        for (now, shown) in world.asked.iter().zip(shown) {
            compare(&world, *now, shown, &mut confusion, seed);
        }
    }
    Ok(confusion)
}

/// Service, method and shape of the template, and the state.
type Shown = BTreeMap<(usize, String, String), Vec<String>>;

fn compare(world: &World, now: u64, mut shown: Shown, confusion: &mut Confusion, seed: u64) {
    for (number, operation) in world.operations.iter().enumerate() {
        let key = (operation.service, operation.method.clone(), shape(&operation.path));
        let mut rows = shown.remove(&key).unwrap_or_default().into_iter();
        let given = rows.next().unwrap_or_else(|| "probing".into());
        for double in rows {
            confusion.note("probing", &double);
        }
        let expected = oracle::state(world, number, now);
        if expected != given && std::env::var_os("SENSOR_SCORE_MISTAKES").is_some() {
            let calls: Vec<_> = world
                .calls
                .iter()
                .filter(|call| call.operation == Some(number))
                .map(|call| (call.time, call.server, &call.path, &call.answer, call.credentials))
                .collect();
            eprintln!(
                "seed {seed} at {now}: must be {expected}, is {given}: {operation:?}\n  {:?} reload {:?} {:?}\n  {calls:?}",
                world.services[operation.service], world.reload, world.watch
            );
        }
        confusion.note(expected, &given);
    }
    // Rows that nothing stands behind.
    for ((service, method, template), states) in shown {
        if std::env::var_os("SENSOR_SCORE_MISTAKES").is_some() {
            eprintln!(
                "seed {seed} at {now}: nothing is behind {service} {method} {template} {states:?}"
            );
        }
        for state in states {
            confusion.note("probing", &state);
        }
    }
}

fn run(world: &World) -> Result<Vec<Shown>> {
    let addresses =
        world.services.iter().flat_map(|it| &it.addresses).map(std::net::SocketAddr::ip);
    let mut pipeline = Pipeline::new(Settings {
        attached: Attached::Now,
        window_ns: WINDOW * NS,
        locality: Locality::Host(LocalAddresses::new(addresses, [])),
        ..Settings::default()
    });
    pipeline.set_clock(MonoNs(0), UnixNs(0));
    let watch = &world.watch;
    if let Some((from, to)) = watch.away {
        pipeline.start(MonoNs(to * NS));
        let before = Span { from: UnixNs(watch.since * NS), to: UnixNs(from * NS) };
        pipeline.inventory_mut().restore_spans(&[before]);
    } else {
        pipeline.start(MonoNs(watch.since * NS));
    }
    let before = if world.reload.is_some() { Version::BeforeReload } else { Version::Now };
    pipeline.set_catalogue(catalogue(world, before)?);
    let mut day =
        Day { at: watch.since, reloaded: world.reload.is_none(), kernel: [0; Counter::COUNT] };
    for call in &world.calls {
        day.pass(&mut pipeline, world, call.time)?;
        pipeline.on_exchange(exchange(world, call)?);
    }
    let mut all = Vec::new();
    for now in &world.asked {
        day.pass(&mut pipeline, world, *now)?;
        pipeline.on_tick(MonoNs(now * NS));
        pipeline.inventory_mut().learn_all();
        pipeline.on_tick(MonoNs(now * NS));
        drop(pipeline.take_events());
        all.push(shown(world, &pipeline, *now)?);
    }
    Ok(all)
}

/// Days that pass, with what happens on them.
struct Day {
    at: u64,
    reloaded: bool,
    kernel: [u64; Counter::COUNT],
}

impl Day {
    fn pass(&mut self, pipeline: &mut Pipeline, world: &World, to: u64) -> Result<()> {
        while self.at < to {
            let (from, next) = (self.at, (self.at + DAY).min(to));
            let within = |time: &Option<u64>| time.is_some_and(|time| time > from && time <= next);
            if within(&world.watch.lost) {
                pipeline.on_loss(MonoNs(world.watch.lost.unwrap_or(next) * NS));
            }
            if within(&world.watch.sampled) {
                let at = MonoNs(world.watch.sampled.unwrap_or(next) * NS);
                pipeline.on_kernel_counters(at, &self.kernel);
                self.kernel[Counter::SampledOut as usize] += 1;
                pipeline.on_kernel_counters(at, &self.kernel);
            }
            if !self.reloaded && within(&world.reload) {
                self.reloaded = true;
                pipeline.set_catalogue(catalogue(world, Version::Now)?);
            }
            self.at = next;
            connections(pipeline, world, next);
            if world.watch.sees(next) {
                pipeline.on_tick(MonoNs(next * NS));
            }
            drop(pipeline.take_events());
        }
        Ok(())
    }
}

/// A thousand connections a day at each listener, of which some cannot be read.
fn connections(pipeline: &mut Pipeline, world: &World, now: u64) {
    let days = |from: u64, to: u64| to.saturating_sub(from) / DAY;
    for service in &world.services {
        let (permille, from) = service.unreadable;
        let all = 1_000 * days(world.watch.since, now);
        let tls = permille * days(from.max(world.watch.since), now);
        for address in &service.addresses {
            let totals = ListenerTotals { opened: all, http: all - tls, tls, ..Default::default() };
            pipeline.inventory_mut().listener_totals(*address, totals);
        }
    }
}

fn catalogue(world: &World, version: Version) -> Result<Arc<Catalogue>> {
    let (catalogue, errors) = Catalogue::load(&documents(world, version), None);
    let refused = errors.iter().find(|error| format!("{error:?}").contains("Refused"));
    ensure!(refused.is_none(), "{refused:?}");
    Ok(Arc::new(catalogue))
}

fn shown(world: &World, pipeline: &Pipeline, now: u64) -> Result<Shown> {
    let mut out = Shown::new();
    for row in pipeline.view(UnixNs(now * NS), &RowFilter::default()).endpoints {
        if row.path_template == NOWHERE {
            continue;
        }
        let service = world.services.iter().position(|it| {
            row.hosts.contains(&it.host)
                || it.addresses.iter().any(|address| row.listener == address.to_string())
        });
        let Some(service) = service else { anyhow::bail!("whose row is {row:?}") };
        let key = (service, row.method.clone(), shape(&row.path_template));
        out.entry(key).or_default().push(row.state.as_str().to_owned());
    }
    Ok(out)
}

fn exchange(world: &World, call: &Call) -> Result<Exchange> {
    let operation = call.operation.map(|number| &world.operations[number]);
    let mut response = ResponseFacts {
        content_type: Some("application/json".into()),
        body_bytes: Some(40 + call.path.len() as u64),
        deprecation: operation.and_then(|it| it.deprecation).map(|at| format!("@{at}").into()),
        sunset: operation.and_then(|it| it.sunset).map(|at| http_date(at).into()),
        ..Default::default()
    };
    let status = match &call.answer {
        Answer::Status(status) => *status,
        Answer::Page => {
            response.content_type = Some("text/html".into());
            response.body_bytes = Some(5_120);
            200
        }
        Answer::Found(location) => {
            response.location = Some(location.as_str().into());
            302
        }
        Answer::Upgrade => {
            response.location = Some(format!("https://{}{}", call.host, call.path).into());
            301
        }
        Answer::Moved(location) => {
            response.location = Some(location.as_str().into());
            308
        }
    };
    Ok(Exchange {
        time: UnixNs(call.time * NS),
        client: call.client,
        server: call.server,
        method: Method::parse(&call.method).ok_or_else(|| anyhow::anyhow!("{}", call.method))?,
        host: Some(call.host.as_bytes().into()),
        target: call.path.as_bytes().into(),
        status: Some(status),
        latency_ns: Some(1_000_000),
        request: RequestFacts {
            auth: if call.credentials { AuthScheme::Bearer } else { AuthScheme::None },
            preflight: call.preflight,
            ..Default::default()
        },
        response,
        weight: 1,
        client_hint: OwnerHint::default(),
        server_hint: OwnerHint::default(),
    })
}
