//! The compliance test: every sink takes events in order, once, with dense numbers, and counts what did not fit.

use std::{fs, path::Path, sync::Arc, time::Duration};

use prost::Message as _;
use sensor_proto::v1::{Event, EventBatch, Ledger, event::Body, ledger::Count};
use tokio::net::TcpListener;

use super::*;
use crate::collect::{Collector, Durability, Marks, serve};

fn who() -> Identity {
    Identity { sensor_id: "s".into(), boot_id: "b".into(), host_name: "h".into() }
}

fn event(number: u64) -> Event {
    let count = Count { stage: "test".into(), name: "n".into(), value: number };
    Event { time_unix_nano: number, body: Some(Body::Ledger(Ledger { counts: vec![count] })) }
}

/// (sequence number, payload) of every line of a JSON lines file and its rotated ones, oldest first.
fn read_lines(path: &Path) -> Vec<(u64, u64)> {
    let rotated = (1..100).rev().map(|number| format!("{}.{number}", path.display()));
    let texts = rotated
        .chain([path.display().to_string()])
        .filter_map(|path| fs::read_to_string(path).ok());
    let mut found = Vec::new();
    for text in texts {
        for line in text.lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let payload = &value["ledger"]["counts"][0]["value"];
            found.push((value["sequence"].as_u64().unwrap(), payload.as_u64().unwrap()));
        }
    }
    found
}

fn read_protobuf(path: &Path) -> Vec<(u64, u64)> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let batch = EventBatch::decode_length_delimited(&mut rest).unwrap();
        for (sequence, event) in (batch.first_sequence..).zip(&batch.events) {
            found.push((sequence, event.time_unix_nano));
        }
    }
    found
}

fn collector(path: &Path) -> Arc<Collector> {
    let writer = Writer::file(path, FileFormat::Jsonl, Rotation { bytes: 0, keep: 0 }).unwrap();
    Arc::new(Collector::new(writer, Marks::beside(path).unwrap(), Durability::Written).unwrap())
}

/// A collector in a runtime of its own: dropping it cuts every connection at once, as a kill does.
struct Server(Option<tokio::runtime::Runtime>);

impl Server {
    fn start(listener: TcpListener, collector: Arc<Collector>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            serve(TcpListener::from_std(listener).unwrap(), collector, std::future::pending()).await
        });
        Self(Some(runtime))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

/// Offers `offered` events to one sink; what was written must be 1..=accepted in order, the rest counted.
async fn check(spec: &str, offered: u64, read: impl Fn() -> Vec<(u64, u64)>) -> SinkStatus {
    let sinks = Sinks::open(&[SinkSpec::parse(spec).unwrap()], &who()).unwrap();
    let feed = sinks.feed();
    for number in 1..=offered {
        feed.offer(event(number));
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let status = sinks.close(Duration::from_secs(20)).await.remove(0);
    assert_eq!(status.accepted + status.dropped, offered, "{status:?}");
    assert_eq!(status.acknowledged, status.accepted, "{status:?}");
    let written = read();
    let sequences: Vec<u64> = written.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(sequences, (1..=status.accepted).collect::<Vec<_>>());
    assert!(written.is_sorted_by(|left, right| left.1 < right.1), "the order of events is kept");
    status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sink_takes_events_once_in_order_and_counts_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);

    for (options, offered) in
        [("", 3_000), ("&queue_events=10", 3_000), ("&queue_bytes=200", 3_000)]
    {
        let lines = path("a.jsonl");
        let status = check(
            &format!("file:{}?rotate_bytes=150000&keep=90{options}", lines.display()),
            offered,
            || read_lines(&lines),
        )
        .await;
        assert_eq!(status.dropped == 0, options.is_empty());
        assert!(!options.is_empty() || path("a.jsonl.1").exists(), "rotated");
        for entry in fs::read_dir(folder.path()).unwrap() {
            assert!(entry.as_ref().unwrap().metadata().unwrap().len() <= 150_000);
            fs::remove_file(entry.unwrap().path()).unwrap();
        }

        let binary = path("b.pb");
        check(&format!("file:{}?format=protobuf{options}", binary.display()), offered, || {
            read_protobuf(&binary)
        })
        .await;
        fs::remove_file(&binary).unwrap();

        let received = path("c.jsonl");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::start(listener, collector(&received));
        check(&format!("http://{address}?{}", options.trim_start_matches('&')), offered, || {
            read_lines(&received)
        })
        .await;
        drop(server);
        fs::remove_file(&received).unwrap();
        fs::remove_file(path("c.jsonl.marks.json")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_goes_away_loses_nothing_that_fits() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let spec = SinkSpec::parse(&format!("http://{address}?queue_events=1000")).unwrap();
    let sinks = Sinks::open(&[spec], &who()).unwrap();
    let feed = sinks.feed();
    let offer =
        |range: std::ops::RangeInclusive<u64>| range.for_each(|number| feed.offer(event(number)));

    let mut server = Server::start(listener, collector(&out));
    offer(1..=500);
    for _ in 0..500 {
        if sinks.status()[0].acknowledged == 500 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for round in 0..3_u64 {
        drop(server);
        tokio::time::sleep(Duration::from_millis(50)).await;
        // 1 500 come while nobody listens: 1 000 fit.
        let first = 501 + round * 1_500;
        offer(first..=first + 1_499);
        assert_eq!(sinks.status()[0].dropped, (round + 1) * 500);
        let listener = TcpListener::bind(address).await.unwrap();
        server = Server::start(listener, collector(&out));
        for _ in 0..1_000 {
            if sinks.status()[0].waiting_events == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let status = sinks.close(Duration::from_secs(5)).await.remove(0);
    assert_eq!((status.accepted, status.acknowledged, status.dropped), (3_500, 3_500, 1_500));
    let sequences: Vec<u64> = read_lines(&out).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(sequences, (1..=3_500).collect::<Vec<_>>());
    drop(server);
}

#[tokio::test]
async fn closing_with_nobody_listening_ends_at_the_deadline_and_counts() {
    let spec = SinkSpec::parse("http://127.0.0.1:1").unwrap();
    let sinks = Sinks::open(&[spec], &who()).unwrap();
    sinks.feed().offer(event(1));
    let status = sinks.close(Duration::from_millis(50)).await.remove(0);
    assert_eq!((status.accepted, status.acknowledged, status.waiting_events), (1, 0, 1));
}

#[test]
fn sinks_are_read_by_one_grammar() {
    let parse = |text: &str| {
        SinkSpec::parse(text).map(|spec| spec.to_string()).map_err(|error| error.to_string())
    };
    for good in ["stdout", "file:/tmp/a.jsonl", "http://127.0.0.1:4640", "http://[::1]:4640"] {
        assert_eq!(parse(good).as_deref(), Ok(good));
    }
    assert_eq!(
        parse("file:/a?rotate_bytes=1MiB&format=protobuf&keep=2&queue_events=5").as_deref(),
        Ok("file:/a")
    );
    for (bad, says) in [
        ("", "write stdout, file:PATH or http://HOST:PORT"),
        ("kafka:x", "is no sink"),
        ("file:", "has no path"),
        ("https://a:1", "TLS"),
        ("http://a", "write http://HOST:PORT"),
        ("http://a:1/path", "write http://HOST:PORT"),
        ("http://user:pw@a:1", "write http://HOST:PORT"),
        ("stdout?rotate_bytes=1", "it takes format"),
        ("file:/a?format=xml", "write format=jsonl"),
        ("file:/a?queue_events=0", "at least 1"),
        ("file:/a?keep=-1", "whole number"),
    ] {
        let error = parse(bad).expect_err(bad);
        assert!(error.contains(says), "{bad}: {error}");
    }
}
