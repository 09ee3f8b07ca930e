//! Documents that are no OpenAPI: gRPC descriptor sets and lists of endpoints.

use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet, FileOptions, MethodDescriptorProto, MethodOptions,
    ServiceDescriptorProto, ServiceOptions,
};

use super::*;
use crate::catalogue::OwnerSource;
use DeclarationKind::{Current, MethodUnknown, PathUnknown, ServiceUnknown};

fn method(name: &str, deprecated: bool) -> MethodDescriptorProto {
    MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(".acme.In".into()),
        output_type: Some(".acme.Out".into()),
        options: Some(MethodOptions { deprecated: Some(deprecated), ..Default::default() }),
        server_streaming: Some(true),
        ..Default::default()
    }
}

fn service(name: &str, deprecated: bool, methods: &[(&str, bool)]) -> ServiceDescriptorProto {
    ServiceDescriptorProto {
        name: Some(name.into()),
        method: methods.iter().map(|(name, deprecated)| method(name, *deprecated)).collect(),
        options: Some(ServiceOptions { deprecated: Some(deprecated), ..Default::default() }),
    }
}

fn set() -> FileDescriptorSet {
    let orders = FileDescriptorProto {
        name: Some("acme/orders.proto".into()),
        package: Some("acme.shop.v1".into()),
        service: vec![
            service("Orders", false, &[("Get", false), ("List", true)]),
            service("Old", true, &[("Get", false)]),
        ],
        ..Default::default()
    };
    let bare = FileDescriptorProto {
        name: Some("bare.proto".into()),
        service: vec![service("Bare", false, &[("Do", false)])],
        options: Some(FileOptions { deprecated: Some(true), ..Default::default() }),
        ..Default::default()
    };
    FileDescriptorSet { file: vec![orders, bare] }
}

fn load_bytes(name: &str, bytes: &[u8]) -> (Catalogue, Vec<String>) {
    let (catalogue, errors) = Catalogue::load(&[(name, bytes)], None);
    (catalogue, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn a_descriptor_set_declares_its_methods() {
    let bytes = set().encode_to_vec();
    for name in ["api.binpb", "api.pb", "api.desc", "sub/api.protoset"] {
        let (catalogue, errors) = load_bytes(name, &bytes);
        assert!(errors.is_empty(), "{errors:?}");
        for (request, kind, deprecated) in [
            ("POST /acme.shop.v1.Orders/Get", Current, false),
            ("POST /acme.shop.v1.Orders/List", Current, true),
            ("POST /acme.shop.v1.Old/Get", Current, true),
            ("POST /Bare/Do", Current, true),
            ("GET /Bare/Do", MethodUnknown, false),
            ("POST /acme.shop.v1.Orders/Other", PathUnknown, false),
        ] {
            let (method, path) = request.split_once(' ').unwrap();
            let method = Method::parse(method).unwrap();
            let found = catalogue.declare(&ANY, &method, path.as_bytes());
            assert_eq!((found.kind, found.lifecycle.deprecated), (kind, deprecated), "{request}");
        }
        assert_eq!(catalogue.documents()[0].operations, 4);
    }
}

#[test]
fn a_descriptor_set_is_bound_as_any_document() {
    let bytes = set().encode_to_vec();
    let binding: &[u8] = b"documents:\n  - document: api.binpb\n    hosts: [grpc.example]\n    prefix: {add: /rpc}\n";
    let (catalogue, errors) =
        Catalogue::load(&[("api.binpb", &bytes)], Some(("catalogue.yaml", binding)));
    assert!(errors.is_empty(), "{errors:?}");
    let grpc = ServiceView { hosts: &["grpc.example"], address: None, port: 443 };
    assert_eq!(answer(&catalogue, &grpc, "POST /rpc/Bare/Do").0, Current);
    assert_eq!(answer(&catalogue, &ANY, "POST /rpc/Bare/Do").0, ServiceUnknown);
}

#[test]
fn every_prefix_and_every_broken_byte_of_a_set_is_read_or_refused() {
    let bytes = set().encode_to_vec();
    let good = document(&["GET /good"]);
    let check = |bytes: &[u8]| {
        let documents = [("api.binpb", bytes), ("good.yaml", good.as_bytes())];
        let (catalogue, errors) = Catalogue::load(&documents, None);
        assert_eq!(answer(&catalogue, &ANY, "GET /good").0, Current);
        assert!(errors.iter().all(|error| !error.to_string().contains('\n')));
        errors.iter().any(|error| error.severity == Severity::Refused)
    };
    for len in 0..bytes.len() {
        check(&bytes[..len]);
        for mask in [0x01, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[len] ^= mask;
            check(&broken);
        }
    }
    for bad in [&b""[..], b"openapi: 3.0.0\npaths: {}\n", b"{}", &[0xff; 40], &bytes[..9]] {
        assert!(check(bad), "{bad:?}");
    }
}

#[test]
fn names_that_are_no_paths_are_refused() {
    for (service_name, method_name) in
        [("A/B", "C"), ("A", "B{c}"), ("", "C"), ("A", ""), ("A", "b.c")]
    {
        let file = FileDescriptorProto {
            service: vec![service(service_name, false, &[(method_name, false)])],
            ..Default::default()
        };
        let (_, errors) =
            load_bytes("a.pb", &FileDescriptorSet { file: vec![file] }.encode_to_vec());
        assert!(errors[0].contains("is no name of a service or method"), "{errors:?}");
    }
    let empty = FileDescriptorSet { file: vec![FileDescriptorProto::default()] };
    let (_, errors) = load_bytes("a.pb", &empty.encode_to_vec());
    assert_eq!(errors, ["a.pb: no gRPC service is in this descriptor set"]);
}

const LIST: &str = "\u{feff}Method, Host, PATH, owner, deprecated, sunset, internal, note, team\r
GET,api.example.com,/v1/orders/{id},\"Orders, \"\"EU\"\"\",,,,x,y\r
# a comment\r
\r
post,api.example.com:8443,/v1/orders,Orders,true,2027-01-31,yes\r
DELETE,*.shop.example,/v1/orders/{name}.json\r
GET,,/health\r
";

#[test]
fn a_list_of_endpoints_declares_them() {
    let (catalogue, errors) = load_bytes("endpoints.csv", LIST.as_bytes());
    assert_eq!(errors, ["endpoints.csv:1: the column `team` is not read"]);
    let of = |host: &str, request: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let hosts = [host];
        let view = ServiceView { hosts: &hosts, address: None, port: 80 };
        catalogue.declare(&view, &Method::parse(method).unwrap(), path.as_bytes())
    };
    let get = of("api.example.com", "GET /v1/orders/7");
    assert_eq!((get.kind, get.template), (Current, Some("/v1/orders/{id}")));
    assert_eq!(get.operation.unwrap().owner(), Some("Orders, \"EU\""));
    assert_eq!(get.operation.unwrap().owner_source(), Some(OwnerSource::Document));
    let post = of("api.example.com:8443", "POST /v1/orders");
    assert!(post.lifecycle.deprecated && post.operation.unwrap().internal());
    assert_eq!(post.lifecycle.sunset.map(|at| at.0 / 1_000_000_000), Some(1_801_353_600));
    assert_eq!(of("a.shop.example", "DELETE /v1/orders/7.json").kind, Current);
    assert_eq!(of("shop.example", "DELETE /v1/orders/7.json").kind, PathUnknown);
    assert_eq!(of("any.example", "GET /health").kind, Current);
}

#[test]
fn a_list_may_have_semicolons_and_its_columns_in_any_order() {
    let (catalogue, errors) = load_bytes("a.csv", b"path;method\n/a,b;GET\n/c;PUT\n");
    assert!(errors.is_empty(), "{errors:?}");
    for request in ["GET /a,b", "PUT /c"] {
        assert_eq!(answer(&catalogue, &ANY, request).0, Current, "{request}");
    }
}

#[test]
fn a_mistake_in_a_list_names_its_line_and_all_are_told() {
    let text = "method,host,path,deprecated,sunset
GET,a.example,/ok,,
GE T,a.example,/x,,
GET,a.example,/{x,,
GET,a.example/v1,/x,,
GET,a.example,/x,perhaps,
GET,a.example,/x,,soon
GET,a.example,/x,,,too,many
GET,a.example,\"/x,,
GET,a.example:99999,/x
GET,a.example,x
";
    let (catalogue, errors) = load_bytes("a.csv", text.as_bytes());
    assert!(catalogue.is_empty());
    let lines: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
    let expected = [3, 4, 5, 6, 7, 8, 9, 10, 11].map(|line| format!("a.csv:{line}"));
    assert_eq!(lines, expected, "{errors:#?}");
    for (text, line, part) in [
        ("", "a.csv: ", "`method` is missing"),
        ("method,host\n", "a.csv:1: ", "`path` is missing"),
        ("method,path,method\n", "a.csv:1: ", "is there twice"),
        ("\u{0}", "a.csv:1: ", "`method` is missing"),
    ] {
        let (_, errors) = load_bytes("a.csv", text.as_bytes());
        assert!(errors[0].starts_with(line) && errors[0].contains(part), "{text:?} {errors:?}");
    }
    assert!(load_bytes("a.csv", b"\xff\xfe").1[0].contains("not UTF-8"));
}

#[test]
fn an_endpoint_that_is_listed_twice_is_told_with_its_line() {
    let (_, errors) = load_bytes("a.csv", b"method,path\nGET,/a/{x}\nGET,/b\nGET,/a/{y}\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("a.csv:4: GET is declared"), "{errors:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_lines_and_any_bytes_are_read_or_refused(
        lines in proptest::collection::vec("[a-z/{}\",; .0-9*:-]{0,30}", 0..8),
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
    ) {
        let text = format!("method,host,path,deprecated\n{}", lines.join("\n"));
        for (name, bytes) in [("a.csv", text.as_bytes()), ("a.csv", &*bytes), ("a.pb", &*bytes)] {
            let (_, errors) = load_bytes(name, bytes);
            proptest::prop_assert!(errors.iter().all(|error| !error.contains('\n')));
        }
    }
}
