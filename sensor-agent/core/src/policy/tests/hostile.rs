//! Policies with mistakes: refused whole, with the line, the field and what to write.

use super::*;

fn refused(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let found = errors(text);
        assert!(found.contains(expected), "{text}\n{found}");
        assert!(found.starts_with("p.yaml:"), "{found}");
    }
}

#[test]
fn a_mistake_names_line_field_and_remedy() {
    let cases = [
        (
            "block:\n  - {id: a, clients: [10.0.0.5/8]}\n",
            "p.yaml:2: block[0].clients[0]: `10.0.0.5/8` has bits set",
        ),
        (
            "block:\n  - {id: a, clients: ['::ffff:10.0.0.1']}\n",
            "p.yaml:2: block[0].clients[0]: `::ffff:10.0.0.1` is IPv4",
        ),
        ("block:\n  - {id: a, clients: []}\n", "p.yaml:2: block[0].clients: no clients"),
        ("block:\n  - {id: a b, clients: [any]}\n", "p.yaml:2: block[0].id: `a b` is not an id"),
        (
            "block:\n  - {id: a, clients: [10.0.0.1]}\nallow:\n  - {id: a, clients: [10.0.0.1]}\n",
            "p.yaml:2: block[0].id: `a` is the id of the rule in line 4 too",
        ),
        (
            "block:\n  - {id: a, clients: [any], action: reset, protocol: udp}\n",
            "block[0].action: only TCP has a reset",
        ),
        (
            "block:\n  - {id: a, clients: [any], action: deny}\n",
            "block[0].action: `deny` is not an action; write drop, reset or monitor",
        ),
        (
            "allow:\n  - {id: a, clients: [any], action: drop}\n",
            "allow[0].action: an allow rule has no action",
        ),
        (
            "block:\n  - {id: a, clients: [any], ports: [0]}\n",
            "block[0].ports[0]: `0` is not a port",
        ),
        (
            "block:\n  - {id: a, clients: [any], ports: [9-1]}\n",
            "block[0].ports[0]: `9-1` is not a port",
        ),
        (
            "block:\n  - {id: a, clients: [any], protocol: icmp}\n",
            "block[0].protocol: `icmp` is not a protocol",
        ),
        (
            "block:\n  - {id: a, clients: [any], direction: in}\n",
            "block[0].direction: `in` is not a direction",
        ),
        (
            "block:\n  - {id: a, clients: [any], interface: 'a/b'}\n",
            "block[0].interface: `a/b` is not the name",
        ),
        (
            "block:\n  - {id: a, clients: [any], expires: soon}\n",
            "block[0].expires: `soon` is not a date",
        ),
        ("block:\n  - {id: a, clients: [any], ttl: 1y}\n", "block[0].ttl: `1y` is not a duration"),
        (
            "block:\n  - {id: a, clients: [any], ttl: 1h, expires: 2027-01-01}\n",
            "block[0].ttl: expires and ttl exclude",
        ),
        (
            "block:\n  - {id: a, clients: [any], reason: \"a\\nb\"}\n",
            "block[0].reason: write one line",
        ),
        ("limits:\n  - {id: a}\n", "p.yaml:2: limits[0]: nothing is limited"),
        ("limits:\n  - {id: a, packets: {rate: 0}}\n", "limits[0].packets.rate: write a number"),
        (
            "limits:\n  - {id: a, packets: {rate: 1, burst: 100000}}\n",
            "limits[0].packets.burst: write a number",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 1}, ports: [1, 5]}\n",
            "limits[0].ports: a limit has one port",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 1}, direction: egress}\n",
            "limits[0].direction: limits count",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 1}, client_prefix: {ipv4: 33}}\n",
            "limits[0].client_prefix.ipv4: write",
        ),
        (
            "failsafe: {ssh: {management: [10.0.0.1/8]}}\n",
            "p.yaml:1: failsafe.ssh.management[0]: `10.0.0.1/8` has bits",
        ),
        (
            "failsafe:\n  also:\n    - {name: x, networks: [any], side: their}\n",
            "p.yaml:3: failsafe.also[0].side: `their`",
        ),
    ];
    refused(&cases);
}

#[test]
fn a_mistake_in_what_a_rule_does_names_line_field_and_remedy() {
    let cases = [
        (
            "block:\n  - {id: a, clients: [any], percent: 101}\n",
            "block[0].percent: write a number from 0 to 100",
        ),
        (
            "block:\n  - {id: a, clients: [any], starts: 2027-01-02, expires: 2027-01-01}\n",
            "block[0].expires: the rule expires before it starts",
        ),
        (
            "allow:\n  - {id: a, clients: [any], max_share: 5}\n",
            "allow[0].max_share: an allow rule drops nobody",
        ),
        (
            "block:\n  - {id: a, clients: [192.0.2.1], max_share: 0}\n",
            "block[0].max_share: write a number from 1 to 100",
        ),
        (
            "allow:\n  - {id: a, clients: [any], include_shared: true}\n",
            "allow[0].include_shared: an allow rule applies to shared sources anyway",
        ),
        (
            "block:\n  - {id: a, lists: [{file: x, format: tsv}]}\n",
            "block[0].lists[0].format: `tsv` is not a format; write plain or csv",
        ),
        (
            "block:\n  - {id: a, lists: [{file: x, on_error: ignore}]}\n",
            "block[0].lists[0].on_error: `ignore` is not an answer; write refuse or skip",
        ),
        ("block:\n  - {id: a}\n", "p.yaml:2: block[0].clients: no clients"),
        (
            "require_reason: CHG[0-9]+\nblock:\n  - {id: a, clients: [any]}\n",
            "p.yaml:3: block[0].reason: rule `a`: no reason; write one that matches `CHG[0-9]+`, which this file demands",
        ),
        ("require_reason: (\n", "p.yaml:1: require_reason: `(` is not a pattern"),
        (
            "limits:\n  - {id: a, bytes: {rate: 10}}\n",
            "limits[0].bytes.rate: less than 1000 bytes a second",
        ),
        (
            "limits:\n  - {id: a, bytes: {rate: 10Mb}}\n",
            "limits[0].bytes.rate: `10Mb` is not a whole number; write a number, or one with kB",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 10MB}}\n",
            "limits[0].packets.rate: `10MB` is not a whole number",
        ),
        (
            "limits:\n  - {id: a, connections: 0}\n",
            "limits[0].connections: write a number from 1 to 1000000",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 5}, key: forwarded}\n",
            "limits[0].key: who a proxy forwards for",
        ),
        (
            "limits:\n  - {id: a, requests: {rate: 5}, key: cookie}\n",
            "limits[0].key: `cookie` is not a key; write address, forwarded or credential",
        ),
        (
            "limits:\n  - {id: a, requests: {rate: 5}, protocol: udp}\n",
            "limits[0].protocol: connections and requests are counted in TCP only",
        ),
        (
            "limits:\n  - {id: a, packets: {rate: 5}, shared: true, client_prefix: {ipv4: 24}}\n",
            "limits[0].shared: shared and client_prefix exclude",
        ),
        ("version: 2\n", "p.yaml:1: version: version 2 is not known; write 1"),
    ];
    refused(&cases);
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let found = errors(
        "block:\n  - {id: a, clients: [x], ports: [0]}\nlimits:\n  - {id: a, packets: {rate: 0}}\n",
    );
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 4, "{found}");
}

#[test]
fn what_cannot_be_parsed_names_its_line() {
    for (text, line, word) in [
        ("block:\n  - {id: a, clients: [any], per_cent: 5}\n", 2, "per_cent"),
        ("block:\n  - {id: a, clients: [any], percent: -1}\n", 2, ""),
        ("block:\n  - {id: a, lists: [x.txt]}\n", 2, ""),
        ("blocks: []\n", 1, "blocks"),
        ("block: 5\n", 1, ""),
        ("block:\n  - id: a\n    clients: 10.0.0.1\n", 3, ""),
        ("block:\n  - clients: [any]\n", 2, "id"),
        ("block:\n  - {id: a, clients: [any], id: b}\n", 2, "id"),
        ("limits:\n  - {id: a, packets: {rate: -1}}\n", 2, ""),
        ("limits:\n  - {id: a, packets: {rate: 1.5}}\n", 2, ""),
        ("block:\n  - {id: a, clients: [any], ports: [70000.5]}\n", 2, ""),
        ("block:\n\t- x\n", 2, ""),
    ] {
        let found = errors(text);
        assert!(found.starts_with(&format!("p.yaml:{line}: ")), "{text}\n{found}");
        assert!(found.contains(word) && !found.contains('\n'), "{text}\n{found}");
    }
}

#[test]
fn any_bytes_are_read_or_refused() {
    let valid = "version: 1\nowner: o\nallow:\n  - {id: a, clients: [10.0.0.0/8], ttl: 1h}\nlimits:\n  - {id: b, packets: {rate: 5, burst: 9}}\n";
    for len in 0..valid.len() {
        let _outcome = parse("p", &valid.as_bytes()[..len], NOW);
    }
    for bytes in [
        &b"\xff"[..],
        b"\0",
        b"a\0b: c",
        b"[",
        b"&a [*a]",
        b"&a {allow: *a}",
        b"--- {}\n--- {}\n",
        b"!!binary x",
    ] {
        assert!(parse("p", bytes, NOW).is_err(), "{bytes:?}");
    }
    let not_utf8 = parse("p", b"version: 1\nowner: \xff\n", NOW).unwrap_err();
    assert_eq!(not_utf8.errors[0].line, Some(2));
    assert!(parse("p", b"", NOW).is_ok_and(|policy| policy.rules.is_empty()));
}

#[test]
fn bombs_and_depth_are_refused_quickly() {
    let mut bomb = String::from("x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for n in 1..12 {
        bomb.extend([format!("x{n}: &x{n} [{}]\n", vec![format!("*x{}", n - 1); 10].join(", "))]);
    }
    let deep = format!("block: {}{}", "[".repeat(50_000), "]".repeat(50_000));
    let maps = format!("{}1{}", "{block: ".repeat(50_000), "}".repeat(50_000));
    for text in [&bomb, &deep, &maps] {
        assert!(parse("p", text.as_bytes(), NOW).is_err());
    }
}

#[test]
fn too_much_is_refused_with_the_figure() {
    let rules: Vec<String> =
        (0..4200).map(|n| format!("  - {{id: r{n}, clients: [10.0.0.1]}}\n")).collect();
    assert!(
        errors(&format!("block:\n{}", rules.concat()))
            .contains("4200 rules are over the limit of 4096")
    );
    let ports: Vec<String> = (0..5000).map(|n| (n * 2 + 1).to_string()).collect();
    let wide =
        format!("block:\n  - {{id: a, clients: [10.0.0.1], ports: [{}]}}\n", ports.join(", "));
    assert!(errors(&wide).contains("256"), "{}", errors(&wide));
    let many: Vec<String> = (0..100).map(|n| format!("10.0.{n}.0/24")).collect();
    let failsafe = format!("failsafe: {{ssh: {{management: [{}]}}}}\n", many.join(", "));
    assert!(errors(&failsafe).contains("over the limit of 64"));
    let mistakes = "x, ".repeat(100_000);
    let found = errors(&format!("block:\n  - {{id: a, clients: [{mistakes}]}}\n"));
    assert_eq!(found.lines().count(), PolicyErrors::SHOWN_MAX);
}

#[test]
fn a_list_of_many_clients_compiles() {
    let clients: Vec<String> = (0..100_000_u32)
        .map(|n| format!("{}.{}.{}.{}", 11 + n % 7, n / 65_536, n / 256 % 256, n % 256))
        .collect();
    let compiled = compiled(&format!("block:\n  - {{id: a, clients: [{}]}}\n", clients.join(", ")));
    assert!((1..=100_000).contains(&compiled.counts.block));
}
