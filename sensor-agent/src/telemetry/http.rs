//! `/metrics`, `/healthz` and `/readyz` on loopback.
//!
//! `/healthz` says that the process serves; `/readyz` is 503 with the reasons while the sensor is not attached, its
//! heartbeat is stale, or packets are missing.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::metrics;
use crate::control::StatusView;

/// Gives the status for a scrape.
pub trait Source: Send + Sync + 'static {
    /// As of now; `None` when the pipeline does not answer in time.
    fn status(&self) -> impl Future<Output = Option<StatusView>> + Send;
}

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics: cannot listen on {address}: {source}; choose another address with --metrics-listen, or write --metrics-listen off"
)]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Binds the address; done before capabilities are dropped, so that a low port works.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, ListenError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| ListenError { address, source })
}

/// Serves until the task is dropped.
pub async fn serve<S: Source>(listener: std::net::TcpListener, source: Arc<S>) -> io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(scrape::<S>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<S>))
        .with_state(source);
    axum::serve(TcpListener::from_std(listener)?, routes).await
}

async fn scrape<S: Source>(State(source): State<Arc<S>>) -> Response {
    let Some(view) = source.status().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the pipeline does not answer\n").into_response();
    };
    match metrics::render(view) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready<S: Source>(State(source): State<Arc<S>>) -> Response {
    match source.status().await {
        Some(view) if view.ready => "ready\n".into_response(),
        Some(view) => {
            (StatusCode::SERVICE_UNAVAILABLE, view.not_ready.join("\n") + "\n").into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the pipeline does not answer\n").into_response(),
    }
}
