//! Templates of requests as the real pipeline finds them.

use anyhow::Result;
use sensor_agent::source::jsonl;
use sensor_core::{
    http::Exchange,
    pipeline::{Pipeline, Settings},
};

use super::{description::shape, traffic::Request};

/// How the traffic comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As it was drawn.
    Drawn,
    /// Last first.
    Reversed,
    /// Sorted by path: all of an operation, then the next.
    Sorted,
    /// Two halves, learned apart and merged.
    Halves,
}

/// Templates of the requests, once all were read; parameters without their names.
pub fn learned(requests: &[Request], order: Order) -> Result<Vec<String>> {
    let exchanges = requests.iter().map(exchange).collect::<Result<Vec<_>>>()?;
    let mut places: Vec<usize> = (0..requests.len()).collect();
    match order {
        Order::Drawn | Order::Halves => {}
        Order::Reversed => places.reverse(),
        Order::Sorted => places.sort_by_key(|place| &requests[*place].path),
    }
    let (first, second) = match order {
        Order::Halves => places.split_at(places.len() / 2),
        _ => (&places[..], &[][..]),
    };
    let feed = |places: &[usize]| {
        let mut pipeline = Pipeline::new(Settings::default());
        for place in places {
            pipeline.on_exchange(exchanges[*place].clone());
            drop(pipeline.take_events());
        }
        pipeline.finish(&mut |_| ());
        pipeline
    };
    let mut pipeline = feed(first);
    if !second.is_empty() {
        let other = feed(second);
        pipeline.inventory_mut().learn_from(other.inventory());
    }
    Ok(exchanges.iter().map(|exchange| shape(&pipeline.template_of(exchange))).collect())
}

fn exchange(request: &Request) -> Result<Exchange> {
    let media = request.path.starts_with("/shop.v1.");
    let line = serde_json::json!({
        "method": request.method,
        "host": "api.example.com",
        "path": request.path,
        "status": request.status,
        "server": "10.0.0.1:80",
    });
    let mut exchange =
        jsonl::parse(line.to_string().as_bytes()).map_err(|fault| anyhow::anyhow!(fault))?;
    if media {
        exchange.request.content_type = Some("application/grpc".into());
    }
    Ok(exchange)
}
