//! Draws scenarios: real operations of public descriptions, declared and called in every way that the table tells apart.

use std::net::SocketAddr;

use super::world::{Answer, Call, DAY, Declared, Habit, Operation, Service, WINDOW, Watch, World};
use crate::{generate::Random, score::description::Description};

/// When states are asked for first: 2026-07-01.
const NOW: u64 = 1_782_864_000;
/// Operations of one service at most.
const OPERATIONS_MAX: usize = 40;
const HOUR: u64 = 3_600;

/// Draws one; the descriptions lend their operations.
pub(super) fn world(descriptions: &[Description], seed: u64) -> World {
    let mut random = Random::new(seed);
    random.next_u64();
    let watch = watch(&mut random);
    let services: Vec<Service> = (0..=random.below(3)).map(|at| service(at, &mut random)).collect();
    let mut world = World {
        catalogue: random.chance(85),
        reload: random.chance(40).then_some(NOW - 5 * DAY).filter(|time| *time > watch.since),
        services,
        operations: Vec::new(),
        calls: Vec::new(),
        watch,
        asked: vec![NOW, NOW + 10 * DAY, NOW + WINDOW + DAY],
    };
    for service in 0..world.services.len() {
        // Each service has operations of its own.
        let description = &descriptions
            [(random.below(descriptions.len() / 3) * 3 + service) % descriptions.len()];
        add_operations(&mut world, service, description, &mut random);
    }
    for operation in 0..world.operations.len() {
        add_calls(&mut world, operation, &mut random);
    }
    for service in 0..world.services.len() {
        add_noise(&mut world, service, &mut random);
    }
    let watch = world.watch.clone();
    world.calls.retain(|call| watch.sees(call.time));
    world.calls.sort_by_key(|call| call.time);
    world
}

fn watch(random: &mut Random) -> Watch {
    let since = NOW - DAY * [5, 29, 30, 31, 45, 45, 70, 70][random.below(8)];
    let away = random.chance(30).then(|| {
        let length = HOUR * [1, 7, 8, 48][random.below(4)];
        let from = NOW - DAY * [2, 25, 40][random.below(3)];
        (from, from + length)
    });
    let once =
        |random: &mut Random| random.chance(12).then(|| NOW - DAY * [1, 29, 35][random.below(3)]);
    Watch {
        since,
        away: away.filter(|(from, _)| *from > since),
        lost: once(random).filter(|time| *time > since),
        sampled: once(random).filter(|time| *time > since),
    }
}

fn service(number: usize, random: &mut Random) -> Service {
    let of = u8::try_from(number).unwrap_or(0);
    let habit = match random.below(10) {
        0..=6 => Habit::NotFound,
        7..=8 => Habit::Refusal,
        _ => Habit::Page,
    };
    let unreadable = if random.chance(20) {
        ([5, 10, 11, 200][random.below(4)], NOW - DAY * [10, 40][random.below(2)])
    } else {
        (0, NOW)
    };
    Service {
        host: format!("{}.example.com", ["shop", "billing", "people"][number % 3]),
        addresses: (1..=1 + u8::try_from(random.below(3)).unwrap_or(0))
            .map(|pod| SocketAddr::from(([10, 0, of, pod], 8_000 + u16::from(of))))
            .collect(),
        documented: number == 0 || random.chance(65),
        habit,
        unreadable,
    }
}

fn add_operations(
    world: &mut World,
    service: usize,
    description: &Description,
    random: &mut Random,
) {
    let usable: Vec<_> = description.operations.iter().filter(|it| is_plain(&it.path)).collect();
    let first = random.below(usable.len().saturating_sub(OPERATIONS_MAX) + 1);
    let start = world.operations.len();
    for operation in usable.into_iter().skip(first).take(OPERATIONS_MAX) {
        let declared = match random.below(10) {
            0..=3 => Declared::Current,
            4..=5 => Declared::Older,
            6 => Declared::Both,
            _ => Declared::Nowhere,
        };
        let announces = random.chance(20);
        let near = |random: &mut Random| match random.below(6) {
            0 => NOW - 20 * DAY,
            1 => NOW - 1,
            2 => NOW,
            3 => NOW + 1,
            4 => NOW + 5 * DAY,
            _ => NOW + 90 * DAY,
        };
        let (deprecation, sunset) = if announces {
            let deprecation = random.chance(60).then(|| near(random));
            (deprecation, random.chance(60).then(|| near(random)))
        } else {
            (None, None)
        };
        world.operations.push(Operation {
            service,
            method: operation.method.clone(),
            path: operation.path.clone(),
            declared,
            declared_before: declared,
            deprecated: random.chance(30),
            x_sunset: random.chance(25).then(|| near(random)),
            deprecation,
            sunset,
        });
        if operation.method == "GET" && random.chance(5) {
            let mut head = world.operations.last().cloned().into_iter();
            world.operations.extend(head.by_ref().map(|get| Operation {
                method: "HEAD".into(),
                declared: Declared::Nowhere,
                declared_before: Declared::Nowhere,
                deprecated: false,
                x_sunset: None,
                deprecation: None,
                sunset: None,
                ..get
            }));
        }
    }
    settle(&mut world.operations[start..], world.reload.is_some(), random);
}

/// What a wider declared template covers is not undeclared; a current document has an operation.
fn settle(operations: &mut [Operation], reloads: bool, random: &mut Random) {
    if let Some(first) = operations.first_mut() {
        first.declared = Declared::Current;
    }
    loop {
        let declared: Vec<String> = operations
            .iter()
            .filter(|it| it.declared != Declared::Nowhere)
            .map(|it| it.path.clone())
            .collect();
        let covered = operations.iter_mut().find(|it| {
            it.declared == Declared::Nowhere
                && it.method != "HEAD"
                && declared.iter().any(|wide| *wide != it.path && covers(wide, &it.path))
        });
        match covered {
            Some(operation) => operation.declared = Declared::Current,
            None => break,
        }
    }
    for operation in operations.iter_mut() {
        let was = reloads && random.chance(60) && operation.declared != Declared::Nowhere;
        operation.declared_before = if was { Declared::Current } else { operation.declared };
    }
    if reloads {
        for at in 0..operations.len() {
            let path = operations[at].path.clone();
            let alone = operations.iter().all(|it| {
                it.path == path || (!covers(&path, &it.path) && !covers(&it.path, &path))
            });
            let undeclared = operations[at].declared == Declared::Nowhere;
            if undeclared && alone && operations[at].method != "HEAD" && random.chance(50) {
                operations[at].declared_before = Declared::Current;
            }
        }
    }
}

/// Whether a request of `narrow` could be taken for one of `wide`.
fn covers(wide: &str, narrow: &str) -> bool {
    let (wide, narrow) = (wide.split('/'), narrow.split('/'));
    wide.clone().count() == narrow.clone().count()
        && wide.zip(narrow).all(|(wide, narrow)| wide == narrow || wide.contains('{'))
}

/// Parameters are whole segments, with an extension at most.
fn is_plain(path: &str) -> bool {
    path != "/"
        && path.split('/').all(|segment| match segment.split_once('{') {
            None => true,
            Some((before, rest)) => {
                before.is_empty() && (rest.ends_with('}') || rest.ends_with("}.json"))
            }
        })
}

fn add_calls(world: &mut World, number: usize, random: &mut Random) {
    let operation = world.operations[number].clone();
    let service = world.services[operation.service].clone();
    let times = match random.below(10) {
        0..=1 => return,
        2 => (world.watch.since, NOW - WINDOW - HOUR),
        3 => (NOW - 12 * DAY, NOW - HOUR),
        _ => (world.watch.since.max(NOW - WINDOW) + HOUR, NOW - HOUR),
    };
    let (from, to) = (times.0.max(world.watch.since), times.1);
    if from >= to {
        return;
    }
    let main = random.below(7);
    let also = random.below(7);
    let mixed = random.chance(35);
    let count = [1, 2, 4, 9, 10, 12, 24][random.below(7)];
    let values = [1, 4, 5, 20][random.below(4)];
    let credentials = random.chance(50);
    // One success makes an undeclared operation: most have one.
    let proven = random.chance(70);
    for at in 0..count {
        let kind = if mixed && random.chance(40) { also } else { main };
        let kind =
            if proven && at == 0 && operation.declared == Declared::Nowhere { 0 } else { kind };
        let value = 10_000 * (number + 1) + random.below(values);
        let path = filled(&operation.path, value);
        let answer = answer(kind, number, value, service.habit, operation.declared, random);
        world.calls.push(Call {
            time: from + random.below(usize::try_from(to - from).unwrap_or(1)) as u64,
            service: operation.service,
            operation: Some(number),
            method: operation.method.clone(),
            path,
            server: service.addresses[random.below(service.addresses.len())],
            client: SocketAddr::from((
                [10, 9, 0, u8::try_from(random.below(5)).unwrap_or(0)],
                40_000,
            )),
            host: service.host.clone(),
            credentials,
            preflight: false,
            answer,
        });
    }
}

fn answer(
    kind: usize,
    number: usize,
    value: usize,
    habit: Habit,
    declared: Declared,
    random: &mut Random,
) -> Answer {
    let one_of = |random: &mut Random, of: &[u16]| Answer::Status(of[random.below(of.len())]);
    match kind {
        0 | 1 => one_of(random, &[200, 200, 201, 204]),
        // A redirect each of its own, as after a form: of some operations only.
        2 if number.is_multiple_of(4) => Answer::Found(format!("/elsewhere/{number}/{value}")),
        2 => Answer::Status(202),
        // 405 says that the method is not there: asked of what is declared or nowhere.
        3 if declared == Declared::Current => one_of(random, &[401, 403, 405, 429]),
        3 => one_of(random, &[401, 403]),
        4 => one_of(random, &[500, 502, 503, 504]),
        // Where nothing is answered 404, operations are not either.
        5 if habit == Habit::NotFound => one_of(random, &[404, 404, 404, 410, 501]),
        5 => one_of(random, &[410, 501]),
        _ => match random.below(3) {
            0 => Answer::Found("/login".into()),
            1 => Answer::Upgrade,
            _ => Answer::Moved(format!("/moved/{number}")),
        },
    }
}

fn filled(path: &str, value: usize) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, behind)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push_str(&value.to_string());
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What nobody has: scans, redirects to the login, preflights.
fn add_noise(world: &mut World, service: usize, random: &mut Random) {
    let it = world.services[service].clone();
    let from = world.watch.since + HOUR;
    let span = usize::try_from(NOW - HOUR - from).unwrap_or(1);
    for server in &it.addresses {
        for at in 0..90 {
            let path = if at % 2 == 0 {
                format!(
                    "/{}-{at}.php",
                    ["wp", "admin", "backup", "test", "old", "phpmyadmin"][at % 6]
                )
            } else {
                format!(
                    "/{}/scan{at}/x{}",
                    ["cgi-bin", "vendor", "api2", "bin", "etc", "var", "tmp"][at % 7],
                    at * 7
                )
            };
            let answer = match (at, it.habit) {
                (0..=5, _) => Answer::Found("/login".into()),
                (_, Habit::NotFound) => Answer::Status(404),
                (_, Habit::Refusal) => Answer::Status(401),
                (_, Habit::Page) => Answer::Page,
            };
            world.calls.push(Call {
                time: from + random.below(span) as u64,
                service,
                operation: None,
                method: "GET".into(),
                path,
                server: *server,
                client: SocketAddr::from(([203, 0, 113, 9], 50_000)),
                host: if at % 10 == 7 { format!("forged{at}.example") } else { it.host.clone() },
                credentials: at % 3 == 0,
                preflight: false,
                answer,
            });
        }
        let preflight = Call {
            time: from + 1,
            service,
            operation: None,
            method: "OPTIONS".into(),
            path: "/anything".into(),
            server: *server,
            client: SocketAddr::from(([203, 0, 113, 9], 50_000)),
            host: it.host.clone(),
            credentials: false,
            preflight: true,
            answer: Answer::Status(204),
        };
        world.calls.push(preflight);
    }
}
