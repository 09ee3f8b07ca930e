//! Templates of requests as the real pipeline finds them.

use std::sync::Arc;

use anyhow::{Result, ensure};
use sensor_agent::source::jsonl;
use sensor_core::{
    catalogue::Catalogue,
    http::Exchange,
    pipeline::{Pipeline, Settings},
};
use serde_json::{Map, Value, json};

use super::{
    description::{Description, shape},
    traffic::Request,
};

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

/// What is known beside the traffic.
#[derive(Clone, Copy, Debug)]
pub enum Knowledge<'a> {
    /// Nothing.
    Traffic,
    /// The description, as a document.
    Document(&'a Description),
}

/// Templates of the requests, once all were read; parameters without their names.
pub fn learned(
    requests: &[Request],
    order: Order,
    knowledge: Knowledge<'_>,
) -> Result<Vec<String>> {
    let catalogue = Arc::new(catalogue(knowledge)?);
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
    let feed = |places: &[usize]| -> Result<Pipeline> {
        let mut pipeline = Pipeline::new(Settings::default());
        pipeline.set_catalogue(Arc::clone(&catalogue));
        for place in places {
            pipeline.on_exchange(exchange(&requests[*place])?);
            drop(pipeline.take_events());
        }
        pipeline.finish(&mut |_| ());
        Ok(pipeline)
    };
    let mut pipeline = feed(first)?;
    if !second.is_empty() {
        let other = feed(second)?;
        pipeline.inventory_mut().learn_from(other.inventory());
    }
    requests.iter().map(|it| Ok(shape(&pipeline.template_of(&exchange(it)?)))).collect()
}

fn catalogue(knowledge: Knowledge<'_>) -> Result<Catalogue> {
    let Knowledge::Document(description) = knowledge else { return Ok(Catalogue::default()) };
    let mut paths = Map::new();
    for operation in &description.operations {
        let item = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = json!({"responses": {}});
    }
    let document = json!({
        "openapi": "3.0.3",
        "info": {"title": description.name, "version": "1"},
        "servers": [{"url": "http://api.example.com"}],
        "paths": Value::Object(paths),
    });
    let (catalogue, errors) = Catalogue::load(&[("document.json", document.to_string())], None);
    ensure!(!catalogue.is_empty(), "{}: {errors:?}", description.name);
    Ok(catalogue)
}

fn exchange(request: &Request) -> Result<Exchange> {
    let media = request.path.starts_with("/shop.v1.");
    let line = json!({
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
