//! Documents that are wrong, huge, or made to harm: an error that says where, never a panic.

use super::*;

fn refused(name: &str, text: &[u8]) -> super::super::DocumentError {
    let good = document(&["GET /good"]);
    let documents: [(&str, &[u8]); 2] = [(name, text), ("good.yaml", good.as_bytes())];
    let (catalogue, errors) = Catalogue::load(&documents, None);
    // One bad document does not hide the others.
    assert_eq!(answer(&catalogue, &ANY, "GET /good").0, DeclarationKind::Current);
    let shown = String::from_utf8_lossy(text.get(..200).unwrap_or(text)).into_owned();
    let error = errors.into_iter().find(|error| error.severity == Severity::Refused);
    let error = error.unwrap_or_else(|| panic!("{name} was not refused: {shown}"));
    assert_eq!(error.document, name);
    error
}

#[test]
fn wrong_types_name_their_place() {
    let cases = [
        ("openapi: 3.0.0\npaths: 5\n", "/paths", 2),
        ("openapi: 3.0.0\npaths: [a]\n", "/paths", 2),
        ("openapi: 3.0.0\npaths:\n  /a: text\n", "/paths/~1a", 3),
        ("openapi: 3.0.0\npaths:\n  /a:\n    get: 7\n", "/paths/~1a/get", 4),
        ("openapi: 3.0.0\npaths:\n  /a:\n    get: []\n", "/paths/~1a/get", 4),
        (
            "openapi: 3.0.0\npaths:\n  /a:\n    get: {deprecated: 'yes'}\n",
            "/paths/~1a/get/deprecated",
            4,
        ),
        ("openapi: 3.0.0\npaths:\n  /a:\n", "/paths/~1a", 3),
        ("openapi: 3.0.0\nservers: x\npaths: {}\n", "/servers", 2),
        ("openapi: 3.0.0\nservers: [x]\npaths: {}\n", "/servers/0", 2),
        ("openapi: 3.0.0\nservers:\n  - description: x\npaths: {}\n", "/servers/0/url", 2),
        ("openapi: 3.0.0\nservers:\n  - url: 'http://a:99999'\npaths: {}\n", "/servers/0/url", 3),
        (
            "openapi: 3.0.0\nservers:\n  - {url: /, variables: 3}\npaths: {}\n",
            "/servers/0/variables",
            3,
        ),
        ("openapi: 3.0.0\ninfo: 3\npaths: {}\n", "/info", 2),
        ("openapi: 3.0.0\ninfo:\n  title: [x]\npaths: {}\n", "/info/title", 3),
        ("openapi: {}\npaths: {}\n", "/openapi", 1),
        ("openapi: 4.0.0\npaths: {}\n", "/openapi", 1),
        ("openapi: 3.0.0\npaths:\n  /{a:\n    get: {}\n", "/paths/~1{a", 3),
        ("openapi: 3.0.0\npaths:\n  \"/a\\0b\":\n    get: {}\n", "/paths/~1a\0b", 3),
        ("openapi: 3.0.0\npaths:\n  /a: {$ref: '#/paths/~1a'}\n", "/paths/~1a/$ref", 3),
        ("openapi: 3.0.0\npaths:\n  /a: {$ref: 'https://x/y.yaml'}\n", "/paths/~1a/$ref", 3),
        ("openapi: 3.0.0\npaths:\n  /a: {get: {$ref: 'gone.yaml'}}\n", "/paths/~1a/get/$ref", 3),
    ];
    for (text, pointer, line) in cases {
        let error = refused("bad.yaml", text.as_bytes());
        assert_eq!((&*error.pointer, error.line), (pointer, Some(line)), "{text}\n{error}");
    }
}

#[test]
fn what_cannot_be_parsed_names_its_line() {
    for (name, text, line) in [
        ("a.json", "{\"openapi\": \"3.0.0\",\n \"paths\": {\n \"/a\": {]}}}", Some(3)),
        ("a.json", "{\"openapi\": \"3.0.0\", \"paths\": {}} x", Some(1)),
        ("a.json", "{\"a\": 1,\n\"a\": 2}", Some(2)),
        ("a.json", "{\"paths\": {\n\"/a\": {}, \"/a\": {}}}", Some(2)),
        ("a.json", "", Some(1)),
        ("a.yaml", "openapi: 3.0.0\npaths:\n  /a: {}\n  /a: {}\n", Some(4)),
        ("a.yaml", "openapi: 3.0.0\npaths:\n\t/a: {}\n", Some(3)),
        ("a.yaml", "openapi: [\n", None),
        ("a.yaml", "a: *nope\n", Some(1)),
    ] {
        let error = refused(name, text.as_bytes());
        assert!(line.is_none() || error.line == line, "{text}\n{error}");
        let shown = error.to_string();
        assert!(!shown.contains('\n'), "{shown}");
    }
    for text in [
        &b"\xff\xfe\0"[..],
        b"\xc3\x28",
        b"",
        b"\0",
        b"just text",
        b"[1, 2]",
        b"# only a comment\n",
    ] {
        refused("a.yaml", text);
        refused("a.json", text);
    }
}

#[test]
fn a_duplicate_key_has_a_pointer() {
    let error = refused(
        "a.json",
        b"{\"openapi\": \"3.0.0\", \"paths\": {\"/a\": {\"get\": {}, \"get\": {}}}}",
    );
    assert_eq!(
        (&*error.pointer, &error.problem),
        ("/paths/~1a/get", &Problem::DuplicateKey("get".into()))
    );
}

#[test]
fn alias_bombs_are_refused_quickly() {
    let mut bomb = String::from("openapi: 3.0.0\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for n in 1..12 {
        let below = format!("*x{}", n - 1);
        bomb.extend([format!("x{n}: &x{n} [{}]\n", vec![below; 10].join(", "))]);
    }
    bomb.push_str("paths: {}\n");
    refused("bomb.yaml", bomb.as_bytes());
    let own = "openapi: 3.0.0\npaths: &p\n  /a: *p\n";
    refused("own.yaml", own.as_bytes());
}

#[test]
fn honest_anchors_are_read() {
    let text = "openapi: 3.0.0\nx-common: &item {get: {deprecated: true}}\npaths:\n  /a: *item\n  /b:\n    <<: *item\n    post: {}\n";
    let catalogue = load(&[("a.yaml", text)]);
    for request in ["GET /a", "GET /b", "POST /b"] {
        assert_eq!(answer(&catalogue, &ANY, request).0, DeclarationKind::Current, "{request}");
    }
}

#[test]
fn deep_nesting_is_skipped_or_refused_and_never_a_crash() {
    let good = document(&["GET /good"]);
    for depth in [100, 200, 5_000, 100_000] {
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let maps = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let block: String =
            (0..depth.min(3_000)).flat_map(|n| [" ".repeat(n), "a:\n".to_owned()]).collect();
        for deep in [&lists, &maps] {
            for key in ["x", "schemas", "paths"] {
                let json =
                    format!("{{\"openapi\": \"3.0.0\", \"paths\": {{}}, \"{key}\": {deep}}}");
                let yaml = format!("openapi: 3.0.0\n{key}: {deep}\n");
                for (name, text) in
                    [("deep.json", &json), ("deep.yaml", &yaml), ("deep.yaml", &block)]
                {
                    let (catalogue, _) =
                        Catalogue::load(&[(name, text), ("good.yaml", &good)], None);
                    assert_eq!(answer(&catalogue, &ANY, "GET /good").0, DeclarationKind::Current);
                }
            }
        }
    }
}

#[test]
fn a_path_of_too_many_segments_is_refused() {
    let long = "/a".repeat(SEGMENTS_MAX + 1);
    let text = format!("openapi: 3.0.0\npaths:\n  {long}: {{get: {{}}}}\n");
    assert_eq!(refused("long.yaml", text.as_bytes()).problem, Problem::TooManySegments);
    let fits = "/a".repeat(SEGMENTS_MAX);
    let catalogue =
        load(&[("a.yaml", &format!("openapi: 3.0.0\npaths:\n  {fits}: {{get: {{}}}}\n"))]);
    assert_eq!(answer(&catalogue, &ANY, &format!("GET {fits}")).0, DeclarationKind::Current);
    assert_eq!(answer(&catalogue, &ANY, &format!("GET {long}")).0, DeclarationKind::PathUnknown);
}

#[test]
fn a_document_over_the_size_limit_is_refused_with_the_figure() {
    let bytes = vec![b' '; super::super::limits::DOCUMENT_BYTES_MAX + 1];
    let error = refused("huge.json", &bytes);
    assert_eq!(error.problem, Problem::TooLarge { bytes: bytes.len() });
}

#[test]
fn fifty_megabytes_of_schemas_cost_what_the_paths_cost() {
    let mut text = String::from("{\"openapi\":\"3.0.3\",\"components\":{\"schemas\":{\"A\":[");
    while text.len() < 50_000_000 {
        text.push_str("{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"}}},");
    }
    text.push_str("0]}},\"paths\":{\"/a/{id}\":{\"get\":{}}}}");
    let catalogue = load(&[("big.json", &text)]);
    assert_eq!(answer(&catalogue, &ANY, "GET /a/1").0, DeclarationKind::Current);
}

#[test]
fn overlapping_templates_made_to_explode_stay_bounded() {
    // Each level a literal and a parameter: 2^12 templates that all fit until the last segment.
    let mut operations = Vec::new();
    for bits in 0..(1_u32 << 12) {
        let path: String =
            (0..12).map(|n| if bits >> n & 1 == 0 { "/a" } else { "/{p}" }).collect();
        operations.push(format!("GET {path}/end"));
    }
    let operations: Vec<&str> = operations.iter().map(String::as_str).collect();
    let catalogue = load(&[("a.yaml", &document(&operations))]);
    let path = "/a".repeat(12);
    assert_eq!(answer(&catalogue, &ANY, &format!("GET {path}/end")).1, format!("{path}/end"));
    assert_eq!(
        answer(&catalogue, &ANY, &format!("GET {path}/other")).0,
        DeclarationKind::PathUnknown
    );
}

#[test]
fn two_documents_of_one_name_are_told() {
    let text = document(&["GET /a"]);
    let (catalogue, errors) = Catalogue::load(&[("a.yaml", &text), ("a.yaml", &text)], None);
    assert_eq!(catalogue.documents().len(), 1);
    assert!(errors.iter().any(|error| error.problem == Problem::DuplicateName));
}

#[test]
fn every_prefix_of_a_document_is_read_or_refused() {
    let yaml = "openapi: 3.0.3\nservers: [{url: 'https://{t}.x/v1', variables: {t: {default: a}}}]\npaths:\n  '/a/{id}.json':\n    get: {deprecated: true, x-sunset: 2026-01-01}\n";
    let json = r##"{"openapi":"3.1.0","servers":[{"url":"//a/b"}],"paths":{"/a":{"$ref":"#/x"}},"x":{"get":{}}}"##;
    for (name, text) in [("a.yaml", yaml), ("a.json", json)] {
        for len in 0..text.len() {
            let (_, errors) = Catalogue::load(&[(name, &text[..len])], None);
            assert!(len > 20 || !errors.is_empty(), "{}", &text[..len]);
        }
    }
}

#[test]
fn any_bytes_as_a_binding_file_are_read_or_refused() {
    let good = document(&["GET /a"]);
    for binding in [
        &b""[..],
        b"\xff",
        b"{",
        b"documents: []",
        b"documents:\n  - 7\n",
        b"documents:\n  - document: a\n    x: 1\n",
    ] {
        let (catalogue, _) =
            Catalogue::load(&[("a.yaml", &good)], Some(("catalogue.yaml", binding)));
        assert_eq!(catalogue.documents().len(), 1);
    }
}

/// Pieces of documents in any order, so that the reader gets beyond the first byte.
const PIECES: &[&str] = &[
    "openapi: 3.0.3\n",
    "swagger: '2.0'\n",
    "paths:\n",
    "  /a/{id}:\n",
    "    get: {}\n",
    "    get:\n",
    "servers:\n",
    "  - url: ",
    "https://{t}.x:{p}/v1\n",
    "variables: {t: {enum: [a, 1]}}\n",
    "$ref: '#/paths/~1a'\n",
    "  x: &a\n",
    "  y: *a\n",
    "<<: *a\n",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    ": ",
    "- ",
    "\n",
    "  ",
    "deprecated: true\n",
    "x-sunset: 2026-01-01\n",
    "basePath: /v1\n",
    "host: a.b\n",
    "info: {",
    "\0",
    "\u{85}",
    "\u{feff}",
    "|\n",
    ">-\n",
    "!!map ",
    "? ",
    "--- ",
    "...\n",
    "{\"openapi\":\"3.1.0\",\"paths\":{\"/b\":{\"get\":",
    "}}}",
];

#[test]
fn a_name_with_a_line_end_in_it_does_not_break_the_error_s_line() {
    let good = document(&["GET /good"]);
    let documents = [("a.yaml", "info: {...\n\n    get:\n"), ("good.yaml", good.as_str())];
    let (_, errors) = Catalogue::load(&documents, None);
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|error| !error.to_string().contains('\n')), "{errors:?}");
}

#[test]
fn a_look_up_that_takes_too_many_steps_says_so_and_declares_nothing() {
    // At each place a literal beside a parameter: a path that fits no template is tried in 2^14 ways.
    const PLACES: u32 = 14;
    let paths: Vec<String> = (0..1_u32 << PLACES)
        .map(|bits| {
            let part =
                |at: u32| if bits >> at & 1 == 0 { "/a".into() } else { format!("/{{p{at}}}") };
            format!("GET {}/end", (0..PLACES).map(part).collect::<String>())
        })
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let catalogue = load(&[("wide.yaml", &document(&paths))]);
    let literal = "/a".repeat(14);
    let ask = |end: &str| {
        let path = format!("{literal}/{end}");
        let answer = catalogue.declare(&ANY, &Method::Get, path.as_bytes());
        (answer.kind, answer.limit)
    };
    assert_eq!(ask("end"), (DeclarationKind::Current, None));
    assert_eq!(ask("other"), (DeclarationKind::PathUnknown, Some(LookupLimit::Steps)));
}

#[test]
fn a_service_of_more_names_than_documents_are_asked_for_says_so() {
    let hosts: Vec<String> = (0..=BOUND_MAX).map(|number| format!("h{number}.example")).collect();
    let documents: Vec<(String, String)> = hosts
        .iter()
        .map(|host| {
            let own = document(&[&format!("GET /{host}")]);
            (format!("{host}.yaml"), format!("{own}servers: [{{url: 'http://{host}'}}]\n"))
        })
        .collect();
    let (catalogue, errors) = Catalogue::load(&documents, None);
    assert!(errors.is_empty(), "{errors:#?}");
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for (count, limit) in [(BOUND_MAX, None), (BOUND_MAX + 1, Some(LookupLimit::Tries))] {
        let service = ServiceView { hosts: &names[..count], address: None, port: 80 };
        let answer = catalogue.declare(&service, &Method::Get, b"/h3.example");
        assert_eq!((answer.kind, answer.limit), (DeclarationKind::Current, limit));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn pieces_of_documents_in_any_order_are_read_or_refused(
        picks in proptest::collection::vec(proptest::sample::select(PIECES), 0..40), json: bool,
    ) {
        let good = document(&["GET /good"]);
        let text = picks.concat();
        let name = if json { "a.json" } else { "a.yaml" };
        let documents = [(name, text.as_str()), ("good.yaml", good.as_str())];
        let (catalogue, errors) = Catalogue::load(&documents, Some(("catalogue.yaml", text.as_bytes())));
        proptest::prop_assert_eq!(answer(&catalogue, &ANY, "GET /good").0, DeclarationKind::Current);
        proptest::prop_assert!(errors.iter().all(|error| !error.to_string().contains('\n')));
    }
}
