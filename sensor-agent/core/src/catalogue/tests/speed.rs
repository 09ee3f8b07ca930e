//! Each of 100 000 requests finds its operation among 100 000; what a look-up costs is printed and decides nothing
//! (`cargo test --release -p sensor-core -- --nocapture speed_of`).

use super::*;

/// Operations over 100 000 templates of the usual shapes.
fn large(operations: usize) -> String {
    let mut text = String::from("{\"openapi\":\"3.0.3\",\"paths\":{");
    for n in 0..operations / 4 {
        let (a, b, c) = (n % 50, n / 50 % 50, n / 2500);
        text.extend([format!(
            "\"/v1/area{a}/kind{b}/{{id}}/part{c}\":{{\"get\":{{}},\"post\":{{}},\"put\":{{}},\"delete\":{{}}}},"
        )]);
    }
    text.push_str("\"/health\":{\"get\":{}}}}");
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn speed_of_loading_and_of_a_look_up() {
    use std::time::Instant;
    let text = large(100_000);
    let start = Instant::now();
    let catalogue = load(&[("big.json", &text)]);
    println!(
        "load {} operations, {} bytes: {:?}",
        catalogue.operations().len(),
        text.len(),
        start.elapsed()
    );
    let requests: Vec<String> = (0..100_000_usize)
        .map(|n| {
            format!("/v1/area{}/kind{}/{}/part{}?q=1", n * 7 % 50, n * 13 % 50, n, n * 31 % 10)
        })
        .collect();
    for round in 0..3 {
        let start = Instant::now();
        let found = requests.iter().filter(|path| {
            catalogue.declare(&ANY, &Method::Get, path.as_bytes()).kind == DeclarationKind::Current
        });
        let found = found.count();
        let each = start.elapsed().as_nanos() / requests.len() as u128;
        println!("round {round}: {each} ns a look-up, {found} declared of {}", requests.len());
        assert_eq!(found, requests.len());
    }
    let mut yaml = String::from("openapi: 3.0.3\npaths:\n");
    for n in 0..25_000 {
        yaml.extend([format!("  /v1/a{n}/{{id}}:\n    get:\n      responses:\n        '200':\n          description: fine\n")]);
    }
    let start = Instant::now();
    let catalogue = load(&[("big.yaml", &yaml)]);
    println!(
        "load {} operations, {} bytes of YAML: {:?}",
        catalogue.operations().len(),
        yaml.len(),
        start.elapsed()
    );
}
