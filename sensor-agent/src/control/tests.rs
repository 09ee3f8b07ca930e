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
            Question::Inventory => Answer::Error("busy".into()),
        }
    }
}

fn start(path: &Path) -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = Listener::bind(path, Access::of(None).unwrap()).unwrap();
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
    assert!(matches!(ask(&path, Question::Status), Err(AskError::NoAgent(_))));
    let runtime = start(&path);
    assert_eq!(ask(&path, Question::Status).unwrap(), json!({"it": "works"}));
    assert!(
        matches!(ask(&path, Question::Inventory), Err(AskError::Refused(text)) if text == "busy")
    );
    assert_eq!(raw(&path, b"{\"get\":\"status\"}\n{\"get\":\"status\"}\n").lines().count(), 2);
    assert!(matches!(Listener::bind(&path, Access::of(None).unwrap()), Err(BindError::Busy(_))));
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
    assert!(ask(&path, Question::Status).is_ok());
}

#[test]
fn what_is_no_stale_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "x").unwrap();
    assert!(matches!(Listener::bind(&path, Access::of(None).unwrap()), Err(BindError::Io { .. })));
    assert!(path.exists());
    assert!(matches!(Access::of(Some("no such group here")), Err(BindError::Group(_))));
}
