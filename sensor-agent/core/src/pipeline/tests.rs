//! The pipeline as a whole: nothing secret leaves, every exchange is in one counter, states are told once.

use std::{fmt::Write as _, net::SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::{
    catalogue::Catalogue,
    event::{AddressMask, EndpointChange, Event, EventBody, Mask},
    finding::{Consequence, Detector, Sentence, Subject},
    http::{AuthScheme, Exchange, Method, OwnerHint, RequestFacts, ResponseFacts},
    inventory::{Attached, RowFilter},
    limits::{DETECTORS_MAX, VERDICT_NS_MAX, VERDICTS_PENDING_MAX},
    locality::{LocalAddresses, Locality},
    state::State,
    time::{MonoNs, UnixNs},
};

const S: u64 = 1_000_000_000;
const START: u64 = 1_767_225_600 * S;

fn exchange(target: &str, status: u16, server: &str, client: &str) -> Exchange {
    Exchange {
        time: UnixNs(START),
        client: client.parse().expect("an address"),
        server: server.parse().expect("an address"),
        method: Method::Get,
        host: Some(b"api.example.com".as_slice().into()),
        target: target.as_bytes().into(),
        status: Some(status),
        latency_ns: Some(1_000),
        request: RequestFacts { auth: AuthScheme::Bearer, ..Default::default() },
        response: ResponseFacts {
            content_type: Some("application/json".into()),
            ..Default::default()
        },
        weight: 1,
        client_hint: OwnerHint::default(),
        server_hint: OwnerHint::default(),
    }
}

fn local() -> Locality {
    Locality::Host(LocalAddresses::new(["10.0.0.2".parse().expect("an address")], []))
}

fn live(mask: Mask) -> Pipeline {
    let mut pipeline = Pipeline::new(Settings {
        attached: Attached::Now,
        exchange_events: ExchangeEvents::On,
        mask,
        key: [7, 8],
        locality: local(),
        window_ns: 60 * S,
        ..Default::default()
    });
    pipeline.set_clock(MonoNs(0), UnixNs(START));
    pipeline.start(MonoNs(0));
    pipeline
}

/// Everything that leaves: events, the published inventory, the store, debug output.
fn everything_out(pipeline: &mut Pipeline) -> String {
    let view = pipeline.view(UnixNs(START + S), &RowFilter::default());
    let mut out = serde_json::to_string(&view).expect("json");
    for event in pipeline.take_events().collect::<Vec<_>>() {
        write!(out, "{event:?}").expect("a string");
    }
    for record in pipeline.take_changes().records {
        out += &record.key;
        out += &String::from_utf8_lossy(&record.body);
    }
    out
}

#[test]
fn planted_secrets_leave_nowhere() {
    let mut pipeline = live(Mask::new(AddressMask::Hashed, [1, 2]));
    let secrets = [
        "hunter2-value",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "ann.secret@mail.example",
        "4111111111111111",
        "0b3cf1d29a77",
        "matrix-secret",
        "fragment-secret",
        "user-secret",
    ];
    let [value, jwt, key, mail, card, hex, matrix, fragment, user] = secrets;
    for status in [200, 401, 404, 302, 500] {
        for target in [
            format!("/login?password={value}&token={jwt}"),
            format!("/login?{jwt}"),
            format!("/login?{key}=1"),
            format!("/reset/{jwt}"),
            format!("/keys/{key}/rotate"),
            format!("/people/{mail}"),
            format!("/cards/{card}"),
            format!("/objects/{hex}.json"),
            format!("/a;session={matrix}/b"),
            format!("/a#{fragment}"),
            format!("http://ann:{user}@api.example.com/a"),
        ] {
            for server in ["10.0.0.2:80", "203.0.113.9:80"] {
                let mut exchange = exchange(&target, status, server, "10.0.0.2:40000");
                exchange.response.location =
                    Some(format!("https://x.example/{fragment}?{value}").into());
                exchange.host = Some(format!("ann:{user}@api.example.com").into_bytes().into());
                pipeline.on_exchange(exchange);
            }
        }
    }
    pipeline.on_tick(MonoNs(2 * S));
    let out = everything_out(&mut pipeline);
    for secret in secrets {
        assert!(!out.contains(secret), "{secret} left");
    }
    assert!(out.contains("/people/{email}") && out.contains("/cards/{card}"));
}

proptest! {
    #[test]
    fn no_query_value_and_no_client_address_leaves(
        value in "[A-Za-z0-9]{12,40}",
        name in "[a-z]{1,8}",
        client in any::<[u8; 4]>().prop_filter("neither local nor of the test", |[a, ..]| !matches!(a, 0 | 10 | 127 | 203)),
        status in 100_u16..600,
    ) {
        let mut pipeline = live(Mask::new(AddressMask::Hashed, [1, 2]));
        let client = SocketAddr::from((client, 40_000));
        for server in ["10.0.0.2:80", "203.0.113.9:80"] {
            pipeline.on_exchange(exchange(&format!("/a?{name}={value}"), status, server, &client.to_string()));
        }
        pipeline.on_tick(MonoNs(S));
        let out = everything_out(&mut pipeline);
        prop_assert!(!out.contains(&value));
        prop_assert!(!out.contains(&client.ip().to_string()), "{}", out);
    }

    #[test]
    fn every_exchange_is_in_one_counter(
        calls in proptest::collection::vec((0_usize..8, 0_usize..6, 0_usize..4), 0..300),
    ) {
        let targets = ["/a", "/b/1", "/c?x=1", "*", "nonsense", "/d/550e8400-e29b-41d4-a716-446655440000", "//", "/é"];
        let statuses = [200, 404, 401, 302, 500, 101];
        let servers = ["10.0.0.2:80", "10.0.0.2:81", "203.0.113.9:80", "127.0.0.1:80"];
        let mut pipeline = live(Mask::default());
        for (target, status, server) in &calls {
            let client = if *server == 2 && *target % 2 == 0 { "198.51.100.7:1" } else { "10.0.0.2:1" };
            pipeline.on_exchange(exchange(targets[*target], statuses[*status], servers[*server], client));
        }
        let counts = pipeline.counts();
        let from = PipelineCounter::AtEndpoints as usize;
        let to = PipelineCounter::Transit as usize;
        let sum: u64 = PipelineCounter::ALL[from..=to].iter().map(|counter| counts.value(*counter)).sum();
        prop_assert_eq!(sum, calls.len() as u64);
        prop_assert_eq!(counts.value(PipelineCounter::Exchanges), calls.len() as u64);
    }

    #[test]
    fn records_are_decoded_or_malformed(record in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut pipeline = live(Mask::default());
        let decoded = pipeline.on_record(MonoNs(0), &record).is_ok();
        let counts = pipeline.counts();
        prop_assert_eq!(counts.value(PipelineCounter::Records), 1);
        prop_assert_eq!(counts.value(PipelineCounter::Samples), u64::from(decoded));
        prop_assert_eq!(counts.value(PipelineCounter::RecordsMalformed), u64::from(!decoded));
    }
}

fn endpoint_events(events: &[Event]) -> Vec<(EndpointChange, State)> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Endpoint(endpoint) => Some((endpoint.change, endpoint.row.state)),
            _ => None,
        })
        .collect()
}

#[test]
fn an_endpoint_is_told_once_and_again_when_its_state_changes() {
    let mut pipeline = live(Mask::default());
    for _ in 0..3 {
        pipeline.on_exchange(exchange("/users/1", 200, "10.0.0.2:80", "198.51.100.7:1"));
    }
    pipeline.on_tick(MonoNs(S));
    pipeline.on_tick(MonoNs(3 * S));
    let events: Vec<Event> = pipeline.take_events().collect();
    assert_eq!(endpoint_events(&events), [(EndpointChange::Discovered, State::Observed)]);
    let document = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {'/users/{id}': {get: {responses: {}}}}\n";
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", document)], None);
    assert!(errors.is_empty(), "{errors:?}");
    pipeline.set_catalogue(std::sync::Arc::new(catalogue));
    pipeline.on_tick(MonoNs(3 * S + S / 100));
    pipeline.on_tick(MonoNs(6 * S));
    let events: Vec<Event> = pipeline.take_events().collect();
    let changed = EndpointChange::State { previous: State::Observed };
    assert_eq!(endpoint_events(&events), [(changed, State::Declared)]);
}

#[test]
fn events_that_find_no_room_are_counted() {
    let mut pipeline = live(Mask::default());
    let calls = crate::limits::EVENTS_PENDING_MAX + 10;
    for _ in 0..calls {
        pipeline.on_exchange(exchange("/a", 200, "10.0.0.2:80", "198.51.100.7:1"));
    }
    let counts = pipeline.counts();
    assert_eq!(counts.value(PipelineCounter::Events), calls as u64);
    assert_eq!(counts.value(PipelineCounter::EventsDropped), 10);
    assert_eq!(pipeline.take_events().count(), calls - 10);
}

#[test]
fn kernel_losses_move_coverage_only_when_they_move() {
    use sensor_ebpf::abi::counter::Counter;
    let mut pipeline = live(Mask::default());
    let mut counters = [0; Counter::COUNT];
    counters[Counter::RequestHeadsLost as usize] = 5;
    pipeline.on_kernel_counters(MonoNs(0), &counters);
    let names: Vec<_> = pipeline.ledger().iter().map(|count| (count.stage, count.name)).collect();
    assert!(
        names.contains(&("kernel", "request_heads_lost"))
            && names.contains(&("pipeline", "exchanges"))
    );
    let unique: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "a name stands for one number");
    assert_eq!(
        pipeline.inventory().last_loss(),
        UnixNs(0),
        "losses from before this run are not of this run"
    );
    counters[Counter::RecordsLost as usize] = 6;
    counters[Counter::ListenerTableFull as usize] = 6;
    pipeline.on_kernel_counters(MonoNs(S), &counters);
    assert_eq!(pipeline.inventory().last_loss(), UnixNs(0), "no head was lost by these");
    counters[Counter::RequestHeadsLost as usize] = 6;
    pipeline.on_kernel_counters(MonoNs(S), &counters);
    assert_eq!(pipeline.inventory().last_loss(), UnixNs(START + S));
}

/// Ends the flow of every 451, for a week.
#[derive(Debug)]
struct Censor(std::sync::Arc<str>);

impl Detector for Censor {
    fn rule(&self) -> &std::sync::Arc<str> {
        &self.0
    }

    fn on_exchange(&mut self, exchange: &Exchange) -> Option<Sentence> {
        (exchange.status == Some(451)).then_some(Sentence {
            subject: Subject::Flow,
            consequence: Consequence::End,
            for_ns: 7 * 86_400 * S,
        })
    }
}

#[test]
fn a_detector_decides_about_flows_by_their_name_in_the_kernel_within_bounds() {
    let mut pipeline = live(Mask::default());
    assert!(pipeline.add_detector(Box::new(Censor("censored".into()))));
    pipeline.on_exchange(exchange("/a", 200, "10.0.0.2:80", "192.0.2.1:1000"));
    assert_eq!(pipeline.take_verdicts().count(), 0);
    let mut translated = exchange("/a", 451, "10.0.0.2:80", "192.0.2.1:1000");
    translated.client_hint.peer = Some("203.0.113.1:8080".parse().expect("an address"));
    pipeline.on_exchange(translated);
    let verdict = pipeline.take_verdicts().next().expect("no verdict");
    assert_eq!((&*verdict.rule, verdict.sentence.for_ns), ("censored", VERDICT_NS_MAX));
    assert_eq!(verdict.server.to_string(), "203.0.113.1:8080");
    assert_eq!(verdict.local_server.to_string(), "10.0.0.2:80");
    assert_eq!(verdict.client.to_string(), "192.0.2.1:1000");
    for _ in 0..=VERDICTS_PENDING_MAX {
        pipeline.on_exchange(exchange("/a", 451, "10.0.0.2:80", "192.0.2.1:1000"));
    }
    assert_eq!(pipeline.take_verdicts().count(), VERDICTS_PENDING_MAX);
    assert_eq!(pipeline.counts().value(PipelineCounter::VerdictsDropped), 1);
    for _ in 1..DETECTORS_MAX {
        assert!(pipeline.add_detector(Box::new(Censor("censored".into()))));
    }
    assert!(!pipeline.add_detector(Box::new(Censor("censored".into()))));
}

#[test]
fn a_caller_behind_a_trusted_proxy_is_the_one_that_it_speaks_for() {
    for (trusted, callers) in [(true, 3), (false, 1)] {
        let mut pipeline = Pipeline::new(Settings {
            trusted_proxies: if trusted {
                vec!["192.0.2.0/24".parse().expect("a prefix")]
            } else {
                Vec::new()
            },
            ..Settings::default()
        });
        for user in 1..=3 {
            let mut one = exchange("/a", 200, "10.0.0.2:80", "192.0.2.7:40000");
            let head =
                format!("GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.{user}\r\n\r\n");
            one.request.forwarded =
                crate::http::parse_request(head.as_bytes()).expect("a head").facts.forwarded;
            pipeline.on_exchange(one);
        }
        pipeline.finish(&mut |_| {});
        let view = pipeline.view(pipeline.last(), &RowFilter::default());
        let row = &view.endpoints[0];
        assert_eq!(
            (row.clients, row.callers.len()),
            (callers, usize::try_from(callers).expect("few"))
        );
        assert_eq!(row.callers.contains(&"203.0.113.2".to_owned()), trusted, "{:?}", row.callers);
    }
}
