//! Any bytes as a document of each format, a fragment it refers to, a binding file and a request: read or refused, never a panic, and the
//! same answer twice. The input is split at zero bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sensor_core::{
    catalogue::{Asked, Catalogue, ServiceEvidence, ServiceView},
    http::Method,
};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (yaml, json, binding, path) = (part(), part(), part(), part());
    let documents = [("a.yaml", yaml), ("b.json", json), ("c.csv", json), ("d.binpb", data)];
    let (catalogue, errors) = Catalogue::load(&documents, Some(("catalogue.yaml", binding)));
    for error in &errors {
        assert!(!error.to_string().contains('\n'), "an error is one line");
    }
    let service = ServiceView { hosts: &["api.example.com"], address: None, port: 80 };
    let first = catalogue.declare(&service, &Method::Get, path);
    assert_eq!(first, catalogue.declare(&service, &Method::Get, path));
    let asked = vec![Asked {
        requests: 100,
        method: Method::Get,
        path: String::from_utf8_lossy(path).into_owned(),
    }];
    let places = vec![(Some("api.example.com".into()), ([10, 0, 0, 1], 80).into())];
    let placed = catalogue.placed_by(&[ServiceEvidence { name: "api".into(), places, asked }]);
    assert_eq!(placed.documents(), catalogue.documents());
    for declared in placed.operations_of(&service) {
        assert!(declared.template.starts_with('/'));
    }
});
