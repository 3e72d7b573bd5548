//! A router for health checks, metrics and debugging over HTTP. Only with the feature `http`.
//!
//! | path | status | body |
//! |---|---|---|
//! | `/health` | 200, or 503 if a check fails that counts | [`Health`](crate::Health) as JSON |
//! | `/ready` | 200 if the node runs and can be reached, else 503 | `ready` or `not ready` |
//! | `/metrics` | 200 | the registry, for Prometheus |
//! | `/debug` | 200, or 503 once the node has stopped | [`Debug`](struct@Debug) as JSON |
//!
//! `/debug` shows the ids and addresses of peers. Let the router listen on a loopback address, or
//! behind something that decides who may ask. [`public_router`] leaves it out: for probes that come
//! from another machine, as those of a container do.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use glueberry_tokio::prometheus::{PrometheusMetrics, Registry};
//! use glueberry_tokio::{Node, http, identity::Keypair};
//! use std::sync::Arc;
//!
//! let mut registry = Registry::default();
//! let metrics = Arc::new(PrometheusMetrics::register(&mut registry));
//! let node = Node::builder(Keypair::generate_ed25519()).metrics(metrics).build().await?;
//! let router = http::router(node, Arc::new(registry));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9090").await?;
//! http::axum::serve(listener, router).await?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

/// The web framework, re-exported so that versions match.
pub use axum;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use crate::debug::DebugState;
use crate::health::CheckName;
use crate::node::{ConnectedPeer, Node};
use crate::prometheus::{Registry, encode};
use crate::stats::PeerStats;

/// What `/debug` returns.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Debug {
    /// The node and all peers that it holds a state for.
    pub state: DebugState,
    /// The peers that are there.
    pub connected: Vec<ConnectedPeer>,
    /// What was exchanged with each peer, in the order of their ids.
    pub statistics: Vec<PeerStats>,
}

#[derive(Clone)]
struct Observed {
    node: Node,
    registry: Arc<Registry>,
}

/// Makes the router of a node. It holds a handle of the node, which so does not shut down by itself.
pub fn router(node: Node, registry: Arc<Registry>) -> Router {
    public().route("/debug", get(debug)).with_state(Observed { node, registry })
}

/// Makes a router without `/debug`. It holds a handle of the node, as [`router`] does.
pub fn public_router(node: Node, registry: Arc<Registry>) -> Router {
    public().with_state(Observed { node, registry })
}

fn public() -> Router<Observed> {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
}

async fn health(State(observed): State<Observed>) -> Response {
    let health = observed.node.health().await;
    json(status(health.is_healthy), &health)
}

async fn ready(State(observed): State<Observed>) -> Response {
    let health = observed.node.health().await;
    let passes = |name| health.check(name).is_some_and(|check| check.is_healthy);
    let is_ready = passes(CheckName::NodeStarted) && passes(CheckName::HostRunning);
    (status(is_ready), if is_ready { "ready\n" } else { "not ready\n" }).into_response()
}

async fn metrics(State(observed): State<Observed>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], encode(&observed.registry)).into_response()
}

async fn debug(State(observed): State<Observed>) -> Response {
    let Ok(state) = observed.node.debug_state().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the node has stopped\n").into_response();
    };
    let mut statistics: Vec<PeerStats> =
        observed.node.all_peer_statistics().into_values().collect();
    statistics.sort_by_key(|stats| stats.peer);
    let connected = observed.node.connected();
    json(StatusCode::OK, &Debug { state, connected, statistics })
}

const fn status(is_good: bool) -> StatusCode {
    match is_good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => (status, [(CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
