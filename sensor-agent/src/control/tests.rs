//! The socket answers who may ask, and nobody else.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
};

use serde_json::json;

use super::*;

struct Echo;

impl Responder for Echo {
    async fn respond(&self, question: Question) -> Answer {
        match question {
            Question::Status => Answer::Ok(json!({"it": "works"})),
            _ => Answer::Error("busy".into()),
        }
    }

    async fn denied(&self, _: Change, _: Peer) {}

    async fn change(&self, change: Change, body: Vec<u8>, peer: Peer) -> Answer {
        Answer::Ok(json!({"change": change, "bytes": body.len(), "uid": peer.uid}))
    }
}

fn start(path: &Path) -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = Listener::bind(path, Access::of(None, None).unwrap()).unwrap();
    runtime.spawn(listener.serve(Arc::new(Echo)));
    runtime
}

fn raw(path: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn questions_are_answered_and_the_socket_goes_with_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/agent.sock");
    assert!(matches!(ask(&path, &Question::Status), Err(AskError::NoAgent(_))));
    let runtime = start(&path);
    assert_eq!(ask(&path, &Question::Status).unwrap(), json!({"it": "works"}));
    assert!(
        matches!(ask(&path, &Question::Inventory), Err(AskError::Refused(text)) if text == "busy")
    );
    assert_eq!(raw(&path, b"{\"get\":\"status\"}\n{\"get\":\"status\"}\n").lines().count(), 2);
    assert!(matches!(
        Listener::bind(&path, Access::of(None, None).unwrap()),
        Err(BindError::Busy(_))
    ));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    assert!(!path.exists());
}

#[test]
fn hostile_questions_get_an_error_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let _runtime = start(&path);
    for bad in
        [&b"\n"[..], b"{}\n", b"{\"get\":\"everything\"}\n", b"\xff\xfe\n", b"{\"get\":\"status\"}"]
    {
        assert!(raw(&path, bad).starts_with("{\"error\":"), "{bad:?}");
    }
    let mut stream = UnixStream::connect(&path).unwrap();
    // Longer than a question may be: one error, then the end.
    drop(stream.write_all(&vec![b'x'; REQUEST_BYTES_MAX]));
    let mut text = String::new();
    drop(stream.read_to_string(&mut text));
    assert!(text.starts_with("{\"error\":"));
    assert!(ask(&path, &Question::Status).is_ok());
}

#[test]
fn what_is_no_stale_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "x").unwrap();
    assert!(matches!(
        Listener::bind(&path, Access::of(None, None).unwrap()),
        Err(BindError::Io { .. })
    ));
    assert!(path.exists());
    assert!(matches!(Access::of(Some("no such group here"), None), Err(BindError::Group { .. })));
}

#[test]
fn a_change_brings_its_document_and_only_so_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let _runtime = start(&path);
    let apply = |body_bytes| Change::PolicyApply {
        file: "p.yaml".into(),
        body_bytes,
        confirm_ms: None,
        terms: Terms::default(),
    };
    let answer = tell(&path, &apply(200_000), &vec![b'#'; 200_000]);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(answer.unwrap()["bytes"], 200_000);
        let refused = tell(&path, &apply(BODY_BYTES_MAX + 1), b"");
        assert!(matches!(refused, Err(AskError::Refused(text)) if text.contains("over the limit")));
        let short = raw(&path, b"{\"do\":\"policy_add\",\"body_bytes\":9,\"terms\":{}}\nabc");
        assert!(short.contains("ended early"), "{short}");
        // Two changes on one connection: the second begins where the first one's document ends.
        let add = "{\"do\":\"policy_add\",\"body_bytes\":3,\"terms\":{}}\nabc";
        assert_eq!(raw(&path, add.repeat(2).as_bytes()).matches("\"bytes\":3").count(), 2);
    } else {
        assert!(matches!(answer, Err(AskError::NotAllowed(_))));
    }
    for bad in ["{\"do\":\"everything\"}\n", "{\"do\":\"policy_confirm\",\"terms\":{\"x\":1}}\n"] {
        assert!(raw(&path, bad.as_bytes()).contains("\"error\""), "{bad}");
    }
}

#[test]
fn the_switch_waits_for_nobody_s_document() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let _runtime = start(&path);
    let mut slow = UnixStream::connect(&path).unwrap();
    slow.write_all(b"{\"do\":\"policy_add\",\"body_bytes\":9,\"terms\":{}}\nabc").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let switch = Change::Enforcement { on: false, terms: Terms::default() };
    assert_eq!(tell_switch(&path, &switch).unwrap()["change"]["on"], false);
    // The document is still taken when the rest of it comes.
    slow.write_all(b"defghi").unwrap();
    let mut answer = [0; 64];
    let taken = slow.read(&mut answer).unwrap();
    assert!(answer[..taken].starts_with(b"{\"ok\":"));
}

#[test]
fn what_is_said_of_endpoints_is_a_change_without_a_document() {
    let said = [
        r#"{"do":"inventory_accept","id":"0123456789abcdef","owner":"team","note":"","terms":{}}"#,
        r#"{"do":"inventory_ignore","id":"0123456789abcdef","until_unix_ns":null,"terms":{"reason":"x"}}"#,
        r#"{"do":"inventory_undo","id":"0123456789abcdef","word":"ignored","terms":{}}"#,
    ];
    for line in said {
        let Request::Do(change) = Request::read(line.as_bytes()).unwrap() else {
            panic!("{line} is a question");
        };
        assert_eq!(change.body_bytes(), 0, "{line}");
        assert_eq!(serde_json::to_string(&change).unwrap(), line);
    }
    // Nothing that is not known is taken for one.
    for line in [
        r#"{"do":"inventory_accept","id":"0","owner":"team","terms":{}}"#,
        r#"{"do":"inventory_undo","id":"0","word":"declared","terms":{}}"#,
        r#"{"get":"history","id":7}"#,
    ] {
        assert!(Request::read(line.as_bytes()).is_err(), "{line}");
    }
    assert_eq!(
        Request::read(br#"{"get":"history"}"#).unwrap(),
        Request::Get(Question::History { id: None })
    );
}
