//! SIGTERM and SIGINT end a command in order.

use tokio::signal::unix::{SignalKind, signal};

/// Done when the process is asked to end.
pub(super) async fn stopped() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the default ends the process at once, which is what a second signal is for anyway.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
