//! What the demo tells: coverage, the inventory as it is discovered, a block and a limit set live, the
//! ledger. Each act checks what it shows; the first that is not so ends the demo with expected and seen.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::traffic::{PARTNER, SHOP, call};
use crate::{
    agent::Agent,
    process::{output, say},
    scene::{Namespace, Scene},
};

/// Activity window of the demo: short, so that an endpoint nobody calls becomes dormant while one looks on.
const WINDOW: Duration = Duration::from_secs(12);
/// Longest time without a line while the inventory is told.
const SILENCE: Duration = Duration::from_secs(4);
/// Longest wait for something the sensor should come to know.
const PATIENCE: Duration = Duration::from_secs(25);

const HOST_FOR_APP: &str = "10.77.1.1";
const APP: &str = "10.77.1.2";
const HOST_FOR_BATCH: &str = "10.77.2.1";
const BATCH: &str = "10.77.2.2";
const HOST_FOR_ROGUE: &str = "10.77.3.1";
const ROGUE: &str = "10.77.3.2";
/// An address of the documentation range: it exists only inside the demo's own namespace.
const OUTSIDE: &str = "203.0.113.10";

/// Everybody who takes part.
struct Cast {
    host: Namespace,
    app: Namespace,
    batch: Namespace,
    rogue: Namespace,
}

/// Tells the whole story.
pub(crate) fn tell(scene: &Scene, program: &Path) -> Result<()> {
    let cast = set_up(scene)?;
    say("\n== The sensor starts on the host (mode enforce, with an empty policy)");
    scene.write("policy.yaml", include_str!("../../demo/policy-empty.yaml"))?;
    fs::create_dir_all(scene.folder().join("catalogue"))?;
    scene.write("catalogue/shop.yaml", include_str!("../../demo/shop.yaml"))?;
    let policy = scene.folder().join("policy.yaml");
    let catalogue = scene.folder().join("catalogue");
    let window = format!("{}s", WINDOW.as_secs());
    let agent = Agent::start(
        scene,
        &cast.host,
        program,
        &[
            "--mode",
            "enforce",
            "--window",
            &window,
            "--policy",
            &policy.to_string_lossy(),
            "--catalogue",
            &catalogue.to_string_lossy(),
        ],
    )?;
    let attached = Instant::now();

    discover(scene, &cast, &agent, attached)?;
    enforce(scene, &cast, &agent)?;
    ledger(&agent)?;
    scene.running("sensor")?;
    scene.stop("sensor");
    Ok(())
}

fn set_up(scene: &Scene) -> Result<Cast> {
    say("\n== The stage: a host, three clients and the world outside, each in a network namespace");
    let host = scene.namespace("host")?;
    let client = |name: &str, own: &str, peer: &str| -> Result<Namespace> {
        let namespace = scene.namespace(name)?;
        let (own, peer) = (format!("{own}/24"), format!("{peer}/24"));
        host.join((&format!("to-{name}"), &own), &namespace, ("eth0", &peer))?;
        Ok(namespace)
    };
    let app = client("app", HOST_FOR_APP, APP)?;
    let batch = client("batch", HOST_FOR_BATCH, BATCH)?;
    let rogue = client("rogue", HOST_FOR_ROGUE, ROGUE)?;
    let outside = client("outside", "10.77.9.1", "10.77.9.2")?;
    outside.ip(&format!("address add {OUTSIDE}/32 dev lo"))?;
    host.ip("route add default via 10.77.9.2")?;

    let (key, certificate) = (scene.folder().join("shop.key"), scene.folder().join("shop.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=shop.example"]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"]);
    output(openssl.arg(key).arg("-out").arg(certificate))?;

    let shop = scene.write("shop.conf", include_str!("../../demo/shop.nginx.conf"))?;
    let partner = scene.write("partner.conf", include_str!("../../demo/partner.nginx.conf"))?;
    scene.start("shop", host.command("nginx").arg("-c").arg(shop))?;
    scene.start("partner", outside.command("nginx").arg("-c").arg(partner))?;
    let cast = Cast { host, app, batch, rogue };
    wait_for("nginx to answer", || {
        scene.running("shop")?;
        scene.running("partner")?;
        let shop = call(&cast.host, "GET", "http://shop.example/ready", (SHOP, "127.0.0.1"), &[])?;
        let partner =
            call(&cast.host, "GET", "http://api.partner.example/", (PARTNER, OUTSIDE), &[])?;
        Ok((shop.answered == 1 && partner.answered == 1).then_some(()))
    })?;
    say(
        "  host: nginx, an API on port 80 and behind TLS on 443; its OpenAPI document is given to the sensor",
    );
    say(&format!("  app {APP}, batch {BATCH}, rogue {ROGUE}: curl;  outside: {PARTNER}"));
    Ok(cast)
}

/// One round of everyday calls.
fn everyday(cast: &Cast) -> Result<()> {
    let shop = (SHOP, HOST_FOR_APP);
    let calls = [
        ("GET", "http://shop.example/orders?page=[1-20]"),
        ("POST", "http://shop.example/orders?n=[1-2]"),
        ("GET", "http://shop.example/orders/[101-105]"),
        ("GET", "http://shop.example/v1/customers?n=[1-3]"),
        ("GET", "http://shop.example/internal/export?n=[1-2]"),
        ("DELETE", "http://shop.example/orders/[201-202]"),
        ("GET", "https://shop.example/account?n=[1-2]"),
    ];
    for (method, url) in calls {
        let answers = call(&cast.app, method, url, shop, &[])?;
        ensure!(answers.failed == 0, "expected: {method} {url} answered; seen: {answers:?}");
    }
    call(&cast.host, "GET", "http://api.partner.example/v2/rates", (PARTNER, OUTSIDE), &[])?;
    Ok(())
}

/// What the inventory must come to say, and in which words of the table of states.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("GET", "/orders", "declared"),
    ("GET", "/orders/{id}", "declared"),
    ("GET", "/internal/export", "shadow-path"),
    ("DELETE", "/orders/{id}", "shadow-method"),
    ("GET", "/v1/customers", "zombie-deprecated"),
    ("GET", "/reports/daily", "dormant"),
];

fn discover(scene: &Scene, cast: &Cast, agent: &Agent, attached: Instant) -> Result<()> {
    say("\n== Traffic runs; how much of it can the sensor read?");
    everyday(cast)?;
    wait_for("the first endpoints", || {
        Ok((!rows(&agent.json("inventory")?, "endpoints").is_empty()).then_some(()))
    })?;
    say(agent.text("coverage")?.trim_end());

    say(&format!(
        "\n== The inventory, as it is discovered (dormant: declared, and not called for {} s here, 30 days by default)",
        WINDOW.as_secs()
    ));
    let mut told = BTreeSet::new();
    let mut last_seen = Value::Null;
    let mut said = Instant::now();
    let until = attached + WINDOW + PATIENCE;
    loop {
        let view = agent.json("inventory")?;
        for row in rows(&view, "endpoints") {
            let [method, path, state] =
                ["method", "path_template", "state"].map(|key| word(&row, key));
            if told.insert((method.clone(), path.clone(), state.clone())) {
                let at = attached.elapsed().as_secs_f64();
                say(&format!(
                    "  {at:5.1} s  {state:<18} {method:<7} {path}  ({})",
                    word(&row, "reason")
                ));
            }
        }
        for row in rows(&view, "egress") {
            let host = word(&row, "host");
            if told.insert((String::new(), host.clone(), String::new())) {
                let at = attached.elapsed().as_secs_f64();
                say(&format!("  {at:5.1} s  {:<18} {:<7} {host}", "egress", word(&row, "method")));
            }
        }
        let missing = missing(&view);
        if missing.is_empty() {
            break;
        }
        last_seen = view;
        if Instant::now() > until {
            bail!("expected in the inventory: {}; seen: {last_seen:#}", missing.join(", "));
        }
        if said.elapsed() > SILENCE {
            said = Instant::now();
            let at = attached.elapsed().as_secs_f64();
            let left = missing.join(", ");
            say(&format!("  {at:5.1} s  ... traffic goes on; not yet: {left}"));
        }
        everyday(cast)?;
        thread::sleep(Duration::from_millis(300));
    }
    drop(last_seen);
    say("");
    say(agent.text("inventory")?.trim_end());
    counts(scene, agent)
}

fn missing(view: &Value) -> Vec<String> {
    let endpoints = rows(view, "endpoints");
    let mut missing: Vec<String> = EXPECTED
        .iter()
        .filter(|(method, path, state)| {
            !endpoints.iter().any(|row| {
                word(row, "method") == *method
                    && word(row, "path_template") == *path
                    && word(row, "state") == *state
            })
        })
        .map(|(method, path, state)| format!("{method} {path} as {state}"))
        .collect();
    if !rows(view, "egress").iter().any(|row| word(row, "host") == PARTNER) {
        missing.push(format!("egress to {PARTNER}"));
    }
    missing
}

/// Compares with nginx's own log: the sensor's totals are exact.
fn counts(scene: &Scene, agent: &Agent) -> Result<()> {
    wait_for("totals equal to the server's log", || {
        let log = fs::read_to_string(scene.folder().join("shop.access.log"))?;
        let view = agent.json("inventory")?;
        let logged = log.lines().filter(|line| line.ends_with("GET /orders 200")).count() as u64;
        let seen = rows(&view, "endpoints")
            .iter()
            .filter(|row| word(row, "method") == "GET" && word(row, "path_template") == "/orders")
            .find_map(|row| row["requests"].as_u64())
            .unwrap_or(0);
        if logged == seen {
            say(&format!("GET /orders: {seen} in the inventory, {logged} in nginx's log"));
        }
        Ok((logged == seen).then_some(()))
    })
}

fn enforce(scene: &Scene, cast: &Cast, agent: &Agent) -> Result<()> {
    say("\n== A block and a rate limit, set live by editing the policy file");
    let orders = "http://shop.example/orders?burst=[1-40]";
    let before =
        call(&cast.rogue, "GET", "http://shop.example/orders", (SHOP, HOST_FOR_ROGUE), &[])?;
    ensure!(before.answered == 1, "expected: rogue answered before the block; seen: {before:?}");
    let parallel =
        ["--parallel", "--parallel-max", "40", "--no-keepalive", "--http1.0", "--max-time", "2"];
    let before = call(&cast.batch, "GET", orders, (SHOP, HOST_FOR_BATCH), &parallel)?;
    ensure!(before.failed == 0, "expected: batch answered before the limit; seen: {before:?}");
    say("  before: rogue is answered, batch opens 40 connections at once and all are answered");

    scene.write("policy.yaml", include_str!("../../demo/policy.yaml"))?;
    for line in include_str!("../../demo/policy.yaml").lines().filter(|line| !line.starts_with('#'))
    {
        say(&format!("  | {line}"));
    }
    let edited = Instant::now();
    let quick = ["--max-time", "0.4"];
    wait_for("the block to be in force", || {
        let answers =
            call(&cast.rogue, "GET", "http://shop.example/orders", (SHOP, HOST_FOR_ROGUE), &quick)?;
        Ok((answers.failed == 1).then_some(()))
    })?;
    say(&format!("  in force {:.1} s after the edit", edited.elapsed().as_secs_f64()));

    let log = || fs::read_to_string(scene.folder().join("shop.access.log"));
    let from = |log: &str, client: &str| {
        log.lines().filter(|line| line.starts_with(&format!("{client} "))).count()
    };
    let start = log()?;
    let rogue = call(
        &cast.rogue,
        "GET",
        "http://shop.example/orders?try=[1-5]",
        (SHOP, HOST_FOR_ROGUE),
        &quick,
    )?;
    let batch = call(&cast.batch, "GET", orders, (SHOP, HOST_FOR_BATCH), &parallel)?;
    let app = call(&cast.app, "GET", orders, (SHOP, HOST_FOR_APP), &[])?;
    let end = log()?;
    let reached = |client: &str| from(&end, client) - from(&start, client);
    say(&format!(
        "  rogue: {} of 5 answered, {} reached the server",
        rogue.answered,
        reached(ROGUE)
    ));
    say(&format!(
        "  batch: {} of 40 answered, {} reached the server",
        batch.answered,
        reached(BATCH)
    ));
    say(&format!("  app:   {} of 40 answered, {} reached the server", app.answered, reached(APP)));
    ensure!(rogue.answered == 0 && reached(ROGUE) == 0, "expected: nothing of rogue gets through");
    ensure!(batch.answered < 40, "expected: batch is limited; seen: {batch:?}");
    ensure!(app.failed == 0, "expected: app is untouched; seen: {app:?}");
    hits(agent)
}

fn hits(agent: &Agent) -> Result<()> {
    let status = agent.json("status")?;
    let rules = rows(&status, "rules");
    for rule in &rules {
        let (packets, bytes) = (&rule["packets"], &rule["bytes"]);
        say(&format!(
            "  hits of {} ({}): {packets} packets, {bytes} bytes dropped in the kernel",
            word(rule, "id"),
            word(rule, "kind")
        ));
    }
    for name in ["rogue", "batch"] {
        let dropped = rules
            .iter()
            .find(|rule| word(rule, "id") == name)
            .and_then(|rule| rule["packets"].as_u64())
            .unwrap_or(0);
        ensure!(dropped > 0, "expected: hits of the rule {name}; seen: {}", status["rules"]);
    }
    Ok(())
}

fn ledger(agent: &Agent) -> Result<()> {
    say("\n== The loss ledger: what was not seen is a number");
    let (heads, exchanges) = wait_for("an exchange for every request head", || {
        let status = agent.json("status")?;
        let count = |stage: &str, name: &str| status["ledger"][stage][name].as_u64().unwrap_or(0);
        let (heads, exchanges) = (count("kernel", "request_heads"), count("pipeline", "exchanges"));
        Ok((heads == exchanges).then_some((heads, exchanges)))
    })?;
    say(agent.text("status")?.trim_end());
    say(&format!(
        "\n{heads} request heads in the kernel, {exchanges} exchanges in the pipeline: nothing was lost"
    ));
    Ok(())
}

fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() > until {
            bail!("expected: {what}; not so within {} s", PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn rows(view: &Value, key: &str) -> Vec<Value> {
    view[key].as_array().cloned().unwrap_or_default()
}

fn word(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or("").to_owned()
}
