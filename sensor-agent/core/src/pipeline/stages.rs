//! Stages 7 to 9 behind the flow stage: an exchange to its role, its endpoint and its events.

use std::{collections::VecDeque, sync::Arc};

use ipnet::IpNet;

use super::counts::{PipelineCounter, PipelineCounts};
use crate::{
    catalogue::Catalogue,
    event::{EndpointEvent, Event, EventBody, ExchangeEvent, Mask, Peer},
    finding::{Detector, FlowVerdict, RequestLimits},
    flow::{self, Assembled, FlowClass},
    http::{Exchange, ForwardedHeader},
    inventory::{
        Attached, Classifier, ExposureNets, Inventory, Observed, Origin, OwnerGlobs, Sources,
    },
    limits::{EVENTS_PENDING_MAX, InventoryLimits, VERDICTS_PENDING_MAX, WINDOW_NS_DEFAULT},
    locality::Locality,
    state::Role,
    time::UnixNs,
};

/// Whether each exchange becomes an event; endpoints, coverage and the ledger always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExchangeEvents {
    /// Only what the inventory makes of them; of a capture, nothing.
    #[default]
    Off,
    /// Each one.
    On,
}

/// What a pipeline is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Live, or a capture that ends with its last packet.
    pub attached: Attached,
    /// Bounds of the inventory.
    pub inventory: InventoryLimits,
    /// Bounds of the flow stage.
    pub flow: flow::Limits,
    /// Window W, ns.
    pub window_ns: u64,
    /// Whether each exchange becomes an event.
    pub exchange_events: ExchangeEvents,
    /// How addresses are shown.
    pub mask: Mask,
    /// Secret of the installation: client sketches and hash tables depend on it. The same as long as the store lasts.
    pub key: [u64; 2],
    /// Which servers are on this host.
    pub locality: Locality,
    /// Proxies that are believed when they name the client that they speak for.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they write it.
    pub forwarded_header: ForwardedHeader,
    /// Networks of callers by class.
    pub exposure: ExposureNets,
    /// Owners of APIs where no document names one.
    pub owners: OwnerGlobs,
}

impl Default for Settings {
    /// For a capture: every server is local, addresses are shown, the key is fixed.
    fn default() -> Self {
        Self {
            attached: Attached::ToLastPacket,
            inventory: InventoryLimits::default(),
            flow: flow::Limits::default(),
            window_ns: WINDOW_NS_DEFAULT,
            exchange_events: ExchangeEvents::Off,
            mask: Mask::default(),
            key: [0, 0],
            locality: Locality::Everything,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::Either,
            exposure: ExposureNets::default(),
            owners: OwnerGlobs::default(),
        }
    }
}

/// Everything behind the flow stage.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) inventory: Inventory,
    pub(super) sources: Sources,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) locality: Locality,
    exposure: Classifier,
    pub(super) mask: Mask,
    pub(super) exchange_events: ExchangeEvents,
    pub(super) events: VecDeque<Event>,
    pub(super) counts: PipelineCounts,
    pub(super) last: UnixNs,
    pub(super) detectors: Vec<Box<dyn Detector>>,
    pub(super) verdicts: VecDeque<FlowVerdict>,
    pub(super) requests: RequestLimits,
    nothing: Arc<str>,
    unknown_path: Arc<str>,
}

impl Stages {
    pub(super) fn new(settings: Settings) -> Self {
        let mut inventory = Inventory::new(settings.inventory, settings.key);
        inventory.set_window(settings.window_ns);
        inventory.set_owner_globs(settings.owners);
        Self {
            inventory,
            sources: Sources::new(
                settings.key,
                settings.trusted_proxies,
                settings.forwarded_header,
            ),
            catalogue: Arc::new(Catalogue::default()),
            locality: settings.locality,
            exposure: Classifier::new(settings.exposure),
            mask: settings.mask,
            exchange_events: settings.exchange_events,
            events: VecDeque::new(),
            counts: PipelineCounts::default(),
            last: UnixNs(0),
            detectors: Vec::new(),
            verdicts: VecDeque::new(),
            requests: RequestLimits::new(settings.key),
            nothing: "".into(),
            unknown_path: UNKNOWN_PATH.into(),
        }
    }

    /// Takes what the flow stage gave; by reference, since an exchange is half a kilobyte to move.
    pub(super) fn on_assembled(&mut self, assembled: &mut Assembled) {
        match assembled {
            Assembled::Exchange(exchange) => self.on_exchange(exchange),
            Assembled::Hello { time, client, server, hello } => {
                let (time, client, server) = (*time, *client, *server);
                if self.locality.is_local(server.ip()) {
                    self.sources.client(server, client.ip(), time);
                    // It goes on under TLS. Could be forged, but not from an address that a rule drops already.
                    self.sources.answered(server, client.ip(), time);
                    self.inventory.hello(server, hello.server_name.as_deref(), &hello.alpn);
                }
            }
            Assembled::Connection { server, class, .. } => {
                let (server, class) = (*server, *class);
                if self.locality.is_local(server.ip()) {
                    self.inventory.add_connection(server, |totals| {
                        totals.opened += 1;
                        match class {
                            FlowClass::Http => totals.http += 1,
                            FlowClass::H2c => totals.h2c += 1,
                            FlowClass::Tls => totals.tls += 1,
                            FlowClass::Other => totals.other += 1,
                            FlowClass::Silent => totals.silent += 1,
                        }
                    });
                }
            }
        }
    }

    pub(super) fn on_exchange(&mut self, exchange: &mut Exchange) {
        let role = self.locality.place(exchange);
        self.last = self.last.max(exchange.time);
        if exchange.weight > 1 {
            self.inventory.sampled(exchange.time);
        }
        if role != Role::Client && !self.requests.is_empty() {
            self.limit(exchange);
        }
        self.detect(exchange);
        let origin = self.origin(exchange);
        let observed = self.inventory.observe_of(exchange, origin, role, &self.catalogue);
        if role == Role::Server {
            self.sources.observe(exchange, self.inventory.gate(observed));
        }
        if self.exchange_events == ExchangeEvents::On {
            let event = self.exchange_event(exchange, role, observed);
            self.push(event);
        }
    }

    fn origin(&mut self, exchange: &Exchange) -> Origin {
        let (address, way) = self.sources.origin(exchange);
        let (server, locality) = (exchange.server.ip(), &self.locality);
        let exposure = self.exposure.class(address, server, |it| locality.nearness(it));
        Origin { address, exposure, way }
    }

    /// Puts another set of local addresses in force.
    pub(super) fn set_locality(&mut self, locality: Locality) {
        self.locality.replace(locality);
        self.exposure.forget();
    }

    fn limit(&mut self, exchange: &Exchange) {
        let client = self.sources.client_behind(exchange);
        let (verdicts, counts) = (&mut self.verdicts, &mut self.counts);
        self.requests.on_exchange(exchange, client, |sentence, rule| {
            decided(verdicts, counts, FlowVerdict::new(sentence, Arc::clone(rule), exchange));
        });
    }

    fn detect(&mut self, exchange: &Exchange) {
        for detector in &mut self.detectors {
            let Some(sentence) = detector.on_exchange(exchange) else { continue };
            let verdict = FlowVerdict::new(sentence, Arc::clone(detector.rule()), exchange);
            decided(&mut self.verdicts, &mut self.counts, verdict);
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        push(&mut self.events, &mut self.counts, event);
    }

    /// Whether somebody takes events: a capture makes none unless each exchange is wanted.
    pub(super) fn has_reader(&self, attached: Attached) -> bool {
        attached == Attached::Now || self.exchange_events == ExchangeEvents::On
    }

    /// Tells of new endpoints; the other half of the queue is kept for what is dropped when there is no room.
    pub(super) fn tell_discovered(&mut self, now: UnixNs) {
        let (room, events, counts) = (self.room(), &mut self.events, &mut self.counts);
        self.inventory.take_discovered(now, &self.mask, room, |event| {
            push(events, counts, endpoint_event(now, event));
        });
    }

    /// Tells of endpoints with another state; returns how many.
    pub(super) fn tell_changes(&mut self, now: UnixNs) -> usize {
        let (room, events, counts) = (self.room(), &mut self.events, &mut self.counts);
        let before = events.len();
        self.inventory.tell_changes(now, &self.mask, room, |event| {
            push(events, counts, endpoint_event(now, event));
        });
        self.events.len() - before
    }

    fn room(&self) -> usize {
        (EVENTS_PENDING_MAX / 2).saturating_sub(self.events.len())
    }

    /// The event of an exchange, which it may take texts from.
    fn exchange_event(&self, exchange: &mut Exchange, role: Role, observed: Observed) -> Event {
        let endpoint = match observed {
            Observed::Endpoint(id) => self.inventory.names_of(id),
            _ => None,
        };
        let host = self.inventory.host_name(exchange).unwrap_or_else(|| Arc::clone(&self.nothing));
        let (service, path_template) =
            endpoint.unwrap_or_else(|| (Arc::clone(&host), Arc::clone(&self.unknown_path)));
        let owners = self.inventory.owners();
        let event = ExchangeEvent {
            method: exchange.method.as_str().into(),
            host,
            service,
            path_template,
            status: exchange.status,
            client: Peer {
                address: self.mask.address(exchange.client.ip()),
                port: exchange.client.port(),
                owner: owners.name(exchange.client_hint.cgroup_id),
            },
            server: Peer {
                address: exchange.server.ip().to_canonical().to_string(),
                port: exchange.server.port(),
                owner: owners.name(exchange.server_hint.cgroup_id),
            },
            latency_ns: exchange.latency_ns,
            request_body_bytes: exchange.request.body_bytes,
            response_body_bytes: exchange.response.body_bytes,
            request_content_type: exchange.request.content_type.take(),
            response_content_type: exchange.response.content_type.take(),
            auth: crate::inventory::auth_name(exchange.request.auth),
            user_agent: exchange.request.user_agent.take(),
            weight: exchange.weight,
            role,
        };
        Event { time: exchange.time, body: EventBody::Exchange(Box::new(event)) }
    }
}

fn decided(
    verdicts: &mut VecDeque<FlowVerdict>,
    counts: &mut PipelineCounts,
    verdict: FlowVerdict,
) {
    counts.one(PipelineCounter::Verdicts);
    if verdicts.len() >= VERDICTS_PENDING_MAX {
        counts.one(PipelineCounter::VerdictsDropped);
        return;
    }
    verdicts.push_back(verdict);
}

fn push(events: &mut VecDeque<Event>, counts: &mut PipelineCounts, event: Event) {
    counts.one(PipelineCounter::Events);
    if events.len() >= EVENTS_PENDING_MAX {
        counts.one(PipelineCounter::EventsDropped);
        return;
    }
    events.push_back(event);
}

fn endpoint_event(time: UnixNs, event: EndpointEvent) -> Event {
    Event { time, body: EventBody::Endpoint(Box::new(event)) }
}

/// What stands for the path where the inventory has no endpoint for it: a raw path does not leave the pipeline.
pub(super) const UNKNOWN_PATH: &str = "/{*}";
