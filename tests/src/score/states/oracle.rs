//! The table of states, row by row as documented, from what is true of a scenario.
//!
//! Written without a look at the code that it judges, in words: what a row says is what is asked here.
#![expect(clippy::match_same_arms, reason = "one arm a row of the table")]

use std::{collections::BTreeSet, net::SocketAddr};

use super::world::{Answer, Call, DAY, Declared, Operation, WINDOW, Watch, World};

/// What the catalogue says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declaration {
    Current,
    OlderOnly,
    MethodUnknown,
    PathUnknown,
    ServiceUnknown,
    NoCatalogue,
}

/// What was answered in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Served,
    Refused,
    Failing,
    Absent,
    Silent,
}

/// Where it stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lifecycle {
    Supported,
    Deprecated,
    DeprecatedSunsetAhead,
    SunsetPassed,
}

/// The word for an operation's state at `now`; `probing` where there must be no row.
pub(super) fn state(world: &World, number: usize, now: u64) -> &'static str {
    let operation = &world.operations[number];
    let calls: Vec<&Call> = world
        .calls
        .iter()
        .filter(|call| call.operation == Some(number) && call.time <= now)
        .collect();
    let declaration = declaration(world, operation);
    let undeclared = !matches!(declaration, Declaration::Current | Declaration::OlderOnly);
    let older = declaration == Declaration::OlderOnly;
    let activity = activity(world, &calls, older, now);
    let life = lifecycle(world, operation, !calls.is_empty(), now);
    // HEAD is declared where GET is, and no operation of its own until it is asked for.
    if operation.method == "HEAD" && calls.is_empty() {
        return "probing";
    }
    let silent = |word| if is_covered(world, operation, now) { word } else { "not-covered" };
    let discriminates = || discriminates(world, number, &calls);
    // Row 3.
    if undeclared && !calls.iter().any(|call| is_success(world, call)) && !discriminates() {
        return "probing";
    }
    match (declaration, life, activity) {
        (Declaration::OlderOnly, _, Activity::Served | Activity::Failing) => "zombie-removed",
        (Declaration::OlderOnly, _, Activity::Refused) if discriminates() => "zombie-removed",
        (Declaration::OlderOnly, _, Activity::Refused | Activity::Absent) => "gone",
        (Declaration::OlderOnly, _, Activity::Silent) => silent("retired"),
        (_, Lifecycle::SunsetPassed, Activity::Absent) => "gone",
        (_, Lifecycle::SunsetPassed, Activity::Silent) => silent("retired"),
        (_, Lifecycle::SunsetPassed, _) => "zombie-sunset",
        (Declaration::Current, _, Activity::Absent)
            if is_missing(world, operation, &calls, older) =>
        {
            "missing"
        }
        (Declaration::Current, _, Activity::Silent) if now - world.watch.since < WINDOW => {
            "pending"
        }
        (Declaration::Current, _, Activity::Silent) => silent("dormant"),
        (Declaration::Current, Lifecycle::Deprecated, _) => "zombie-deprecated",
        (Declaration::Current, Lifecycle::DeprecatedSunsetAhead, _) => "deprecated",
        (Declaration::Current, Lifecycle::Supported, _) => "declared",
        (Declaration::NoCatalogue, ..) => "observed",
        (Declaration::ServiceUnknown, ..) => "shadow-host",
        (Declaration::PathUnknown, ..) => "shadow-path",
        (Declaration::MethodUnknown, ..) => "shadow-method",
    }
}

fn declaration(world: &World, operation: &Operation) -> Declaration {
    if !world.catalogue {
        return Declaration::NoCatalogue;
    }
    if !world.services[operation.service].documented {
        return Declaration::ServiceUnknown;
    }
    let of_service = || world.operations.iter().filter(|it| it.service == operation.service);
    let same_path = || of_service().filter(|it| it.path == operation.path);
    let is_in = |wanted: &[Declared]| {
        same_path().any(|it| {
            let head = operation.method == "HEAD" && it.method == "GET";
            (it.method == operation.method || head) && wanted.contains(&it.declared)
        })
    };
    if is_in(&[Declared::Current, Declared::Both]) {
        Declaration::Current
    } else if is_in(&[Declared::Older]) {
        Declaration::OlderOnly
    } else if same_path().any(|it| matches!(it.declared, Declared::Current | Declared::Both)) {
        Declaration::MethodUnknown
    } else {
        Declaration::PathUnknown
    }
}

/// The document wins where it names a sunset; a `Sunset` before its `Deprecation` is ignored.
fn lifecycle(world: &World, operation: &Operation, called: bool, now: u64) -> Lifecycle {
    let in_document = world.catalogue && world.services[operation.service].documented;
    // HEAD stands under the document's GET.
    let declared = world.operations.iter().find(|it| {
        let same = it.service == operation.service && it.path == operation.path;
        let head = operation.method == "HEAD" && it.method == "GET";
        same && (it.method == operation.method || head) && it.declared != Declared::Nowhere
    });
    let declared = declared.filter(|_| in_document);
    let deprecation = operation.deprecation.filter(|_| called);
    let announced =
        operation.sunset.filter(|sunset| called && deprecation.is_none_or(|from| *sunset >= from));
    let sunset = declared.and_then(|it| it.x_sunset).or(announced);
    let deprecated =
        declared.is_some_and(|it| it.deprecated) || deprecation.is_some_and(|from| from <= now);
    match sunset {
        Some(sunset) if sunset <= now => Lifecycle::SunsetPassed,
        Some(_) if deprecated => Lifecycle::DeprecatedSunsetAhead,
        None if deprecated => Lifecycle::Deprecated,
        _ => Lifecycle::Supported,
    }
}

fn activity(world: &World, calls: &[&Call], older: bool, now: u64) -> Activity {
    let within = || calls.iter().filter(|call| call.time >= now - WINDOW);
    let any = |test: &dyn Fn(&Call) -> bool| within().any(|call| test(call));
    let status =
        |call: &Call, of: &[u16]| matches!(&call.answer, Answer::Status(it) if of.contains(it));
    if any(&|call| is_success(world, call)) {
        Activity::Served
    } else if any(&|call| status(call, &[401, 403, 405, 407, 429])) {
        Activity::Refused
    } else if any(&|call| {
        status(call, &[500, 505, 507]) || (!older && status(call, &[502, 503, 504]))
    }) {
        Activity::Failing
    } else if within().next().is_some() {
        Activity::Absent
    } else {
        Activity::Silent
    }
}

/// 2xx, or a redirect that is not generic and does not say that what was here is elsewhere.
fn is_success(world: &World, call: &Call) -> bool {
    match &call.answer {
        Answer::Status(status) => (200..300).contains(status),
        Answer::Found(location) => !is_generic(world, call.server, location),
        Answer::Page | Answer::Upgrade | Answer::Moved(_) => false,
    }
}

/// The same location for three paths of the listener.
fn is_generic(world: &World, server: SocketAddr, location: &str) -> bool {
    let paths: BTreeSet<&str> = world
        .calls
        .iter()
        .filter(|call| call.server == server)
        .filter(|call| matches!(&call.answer, Answer::Found(it) if it == location))
        .map(|call| &*call.path)
        .collect();
    paths.len() >= 3
}

/// Whether the operation was refused in a credentials state in which its listener answered 404 to three other paths.
fn discriminates(world: &World, number: usize, calls: &[&Call]) -> bool {
    [false, true].into_iter().any(|credentials| {
        let refused = calls.iter().find(|call| {
            let refusal = matches!(call.answer, Answer::Status(401 | 403 | 407 | 429));
            call.credentials == credentials && refusal
        });
        refused.is_some_and(|refused| {
            let others: BTreeSet<&str> = world
                .calls
                .iter()
                .filter(|call| call.service == refused.service && call.operation != Some(number))
                .filter(|call| {
                    call.credentials == credentials && call.answer == Answer::Status(404)
                })
                .map(|call| &*call.path)
                .collect();
            others.len() >= 3
        })
    })
}

/// Ten calls since it was last there, and no parameter or five distinct values. What is sent to https is not missing:
/// `nothing new`.
fn is_missing(world: &World, operation: &Operation, calls: &[&Call], older: bool) -> bool {
    let absent = |call: &Call| {
        activity(world, &[call], older, call.time) == Activity::Absent
            || call.answer == Answer::Upgrade
    };
    let since = calls.iter().rev().take_while(|call| absent(call));
    let counted: Vec<&&Call> = since.filter(|call| call.answer != Answer::Upgrade).collect();
    let paths: BTreeSet<&str> = counted.iter().map(|call| &*call.path).collect();
    counted.len() >= 10 && (!operation.has_parameter() || paths.len() >= 5)
}

/// Attached and readable for 99 %, and no head lost or sampled out, over the whole window.
fn is_covered(world: &World, operation: &Operation, now: u64) -> bool {
    let start = now - WINDOW;
    let Watch { since, away, lost, sampled } = &world.watch;
    let gone = away.map_or(0, |(from, to)| to.min(now).saturating_sub(from.max(start)));
    let missed = since.saturating_sub(start) + gone;
    // A thousand connections a day.
    let (permille, from) = world.services[operation.service].unreadable;
    let days = |from: u64| now.saturating_sub(from.max(*since).max(start)) / DAY;
    let readable = permille * days(from) * 100 <= 1_000 * days(start);
    let within = |time: &Option<u64>| time.is_some_and(|time| time >= start && time <= now);
    missed * 100 <= WINDOW && readable && !within(lost) && !within(sampled)
}
