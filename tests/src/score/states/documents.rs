//! The documents of a scenario as text: OpenAPI 3.0, one current a service, and one older in `retired/`.

use serde_json::{Map, Value, json};

use super::{
    date::rfc3339,
    world::{Declared, Operation, World},
};

/// Which declarations are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    BeforeReload,
    Now,
}

/// Name and text of each document.
pub(super) fn documents(world: &World, version: Version) -> Vec<(String, String)> {
    let mut out = Vec::new();
    if !world.catalogue {
        return out;
    }
    for (number, service) in world.services.iter().enumerate().filter(|(_, it)| it.documented) {
        let declared = |operation: &Operation| match version {
            Version::Now => operation.declared,
            Version::BeforeReload => operation.declared_before,
        };
        let with = |wanted: &[Declared]| {
            let of = world.operations.iter();
            of.filter(|it| it.service == number && wanted.contains(&declared(it)))
                .collect::<Vec<_>>()
        };
        let current = with(&[Declared::Current, Declared::Both]);
        out.push((format!("service{number}.json"), text(&service.host, "2", &current)));
        let older = with(&[Declared::Older, Declared::Both]);
        if !older.is_empty() {
            out.push((format!("retired/service{number}.json"), text(&service.host, "1", &older)));
        }
    }
    out
}

fn text(host: &str, version: &str, operations: &[&Operation]) -> String {
    let mut paths = Map::new();
    for operation in operations {
        let mut fields = json!({"responses": {}});
        if operation.deprecated {
            fields["deprecated"] = json!(true);
        }
        if let Some(sunset) = operation.x_sunset {
            fields["x-sunset"] = json!(rfc3339(sunset));
        }
        let item = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        item[operation.method.to_lowercase()] = fields;
    }
    json!({
        "openapi": "3.0.3",
        "info": {"title": host, "version": version},
        "servers": [{"url": format!("http://{host}")}],
        "paths": Value::Object(paths),
    })
    .to_string()
}
