//! Health, metrics and debugging over real HTTP requests, and the dashboard.

#![expect(clippy::unwrap_used, reason = "a test says what must hold by unwrapping")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use glueberry_tokio::http::axum;
use glueberry_tokio::identity::Keypair;
use glueberry_tokio::prometheus::{PrometheusMetrics, Registry, encode};
use glueberry_tokio::proto::ConnectionState;
use glueberry_tokio::{
    AttemptOutcome, Direction, Handshake, HandshakeOutcome, Metrics, Node, http,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

async fn node(metrics: Arc<PrometheusMetrics>) -> Node {
    Node::builder(Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
        .streams(["chat"])
        .handshake(Handshake::accept_all())
        .metrics(metrics)
        .build()
        .await
        .unwrap()
}

async fn serve(node: Node, registry: Registry) -> SocketAddr {
    serve_router(http::router(node, Arc::new(registry))).await
}

async fn serve_router(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// Returns the status line and the body.
async fn get(addr: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(LONG, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_node_is_observed_over_http() {
    let (mut registry, mut other) = (Registry::default(), Registry::default());
    let alice = node(Arc::new(PrometheusMetrics::register(&mut registry))).await;
    let bob = node(Arc::new(PrometheusMetrics::register(&mut other))).await;
    let addr = serve(alice.clone(), registry).await;
    let peer = alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
    timeout(LONG, alice.wait_established(peer)).await.unwrap().unwrap();
    let mut inbox = bob.messages().unwrap();
    for _ in 0..3 {
        alice.send(peer, "chat", "hello").await.unwrap();
        timeout(LONG, inbox.recv()).await.unwrap().unwrap();
    }

    let (status, body) = get(addr, "/health").await;
    assert!(status.contains("200") && body.contains("\"is_healthy\":true"), "{status} {body}");
    let (status, body) = get(addr, "/ready").await;
    assert!(status.contains("200") && body == "ready\n", "{status} {body}");
    let (status, body) = get(addr, "/metrics").await;
    assert!(status.contains("200"), "{status}");
    for line in [
        "glueberry_connections_total{direction=\"outbound\"} 1",
        "glueberry_connection_attempts_total{result=\"success\"} 1",
        "glueberry_handshake_results_total{result=\"success\"} 1",
        "glueberry_handshake_duration_seconds_count 1",
        "glueberry_messages_sent_total{stream=\"chat\"} 3",
        "glueberry_bytes_sent_total{stream=\"chat\"} 15",
        "glueberry_streams_opened_total{stream=\"chat\"} 1",
        "glueberry_encryption_errors_total 0",
    ] {
        assert!(body.lines().any(|it| it == line), "{line} is not in\n{body}");
    }
    let (status, body) = get(addr, "/debug").await;
    assert!(status.contains("200"), "{status}");
    let debug: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(debug["state"]["peer_id"], alice.peer_id().to_string());
    assert_eq!(debug["connected"][0]["peer"], bob.peer_id().to_string());
    assert_eq!(debug["connected"][0]["state"], "Established");
    assert!(debug["statistics"][0]["messages_sent"].as_u64().unwrap() >= 3);
    let (status, _) = get(addr, "/nothing").await;
    assert!(status.contains("404"), "{status}");

    alice.shutdown().await;
    for path in ["/health", "/ready", "/debug"] {
        let (status, body) = get(addr, path).await;
        assert!(status.contains("503"), "{path}: {status} {body}");
    }
}

#[tokio::test]
async fn a_public_router_says_nothing_of_peers() {
    let mut registry = Registry::default();
    let alice = node(Arc::new(PrometheusMetrics::register(&mut registry))).await;
    let bob = node(Arc::new(PrometheusMetrics::register(&mut Registry::default()))).await;
    let addr = serve_router(http::public_router(alice.clone(), Arc::new(registry))).await;
    let peer = alice.dial(bob.dial_addrs().remove(0)).await.unwrap();
    timeout(LONG, alice.wait_established(peer)).await.unwrap().unwrap();
    for path in ["/health", "/ready", "/metrics"] {
        let (status, body) = get(addr, path).await;
        assert!(status.contains("200"), "{path}: {status}");
        assert!(!body.contains(&peer.to_string()) && !body.contains("/udp/"), "{path}: {body}");
    }
    let (status, _) = get(addr, "/debug").await;
    assert!(status.contains("404"), "{status}");
}

/// Has everything counted that there is.
fn full() -> (Registry, PrometheusMetrics) {
    let mut registry = Registry::default();
    let metrics = PrometheusMetrics::register(&mut registry);
    metrics.connection_opened(Direction::Inbound);
    metrics.connection_closed(Direction::Inbound);
    metrics.connection_attempt(AttemptOutcome::Failure);
    metrics.handshake_duration(Duration::from_millis(20));
    metrics.handshake_result(HandshakeOutcome::Timeout);
    metrics.message_sent("chat", 5);
    metrics.message_received("chat", 5);
    metrics.stream_opened("chat");
    metrics.stream_closed("chat");
    metrics.encryption_error();
    metrics.decryption_error();
    metrics.key_derivation(false);
    metrics.event_emitted(ConnectionState::Established);
    metrics.event_dropped();
    metrics.message_dropped("chat");
    metrics.backpressure_engaged("chat");
    metrics.backpressure_wait("chat", Duration::from_millis(2));
    metrics.pending_messages("chat", 7);
    (registry, metrics)
}

/// Else `increase` and `rate` would not see the first of each.
#[test]
fn series_of_known_labels_are_there_before_anything_is_counted() {
    let mut registry = Registry::default();
    let _metrics = PrometheusMetrics::register(&mut registry);
    let text = encode(&registry);
    for (name, label, values) in [
        ("connections_opened", "direction", &["inbound", "outbound"][..]),
        ("connections_closed", "direction", &["inbound", "outbound"]),
        ("connection_attempts", "result", &["success", "failure"]),
        ("handshake_results", "result", &["success", "failure", "timeout"]),
        ("key_derivations", "cached", &["true", "false"]),
        ("events_emitted", "state", &["Disconnected", "Connecting", "Connected", "Established"]),
        ("events_emitted", "state", &["Reconnecting", "Cooldown"]),
    ] {
        for value in values {
            let line = format!("glueberry_{name}_total{{{label}=\"{value}\"}} 0");
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}

#[test]
fn messages_counted_at_once_are_as_many_as_one_by_one() {
    let [mut single, mut many] = [Registry::default(), Registry::default()];
    let sizes = [5, 0, 700];
    let metrics = PrometheusMetrics::register(&mut single);
    for bytes in sizes {
        metrics.message_sent("chat", bytes);
        metrics.message_received("chat", bytes);
    }
    let metrics = PrometheusMetrics::register(&mut many);
    metrics.messages_sent("chat", &mut sizes.into_iter());
    metrics.messages_received("chat", &mut sizes.into_iter());
    // The series of one name are in no order.
    let lines = |registry| encode(registry).lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(&single), lines(&many));
}

fn names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c| !is_name(c));
    words.filter(|word| word.starts_with("glueberry_")).map(ToOwned::to_owned).collect()
}

/// Names of samples, without comments.
fn sample_names(registry: &Registry) -> BTreeSet<String> {
    let text = encode(registry);
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    names(&samples.join("\n"))
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let (registry, _) = full();
    let there = sample_names(&registry);
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../grafana.json")).unwrap();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        for target in &targets {
            asked.extend(names(target["expr"].as_str().unwrap()));
        }
    }
    let missing: Vec<&String> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "the dashboard asks for {missing:?}; there are {there:?}");
    assert!(asked.len() >= 15, "it shows only {asked:?}");
}

#[test]
fn the_table_of_names_is_true() {
    let (registry, _) = full();
    let source = include_str!("../src/prometheus.rs");
    let table: Vec<&str> = source.lines().filter(|line| line.starts_with("//! |")).collect();
    let documented = names(&table.join("\n"));
    let base = |name: &String| {
        let name = name.as_str();
        let suffixes = ["_bucket", "_sum", "_count"];
        suffixes.iter().find_map(|it| name.strip_suffix(it)).unwrap_or(name).to_owned()
    };
    let there: BTreeSet<String> = sample_names(&registry).iter().map(base).collect();
    assert_eq!(documented, there);
}

#[test]
fn labels_are_bounded() {
    let (registry, metrics) = full();
    for number in 0..1000 {
        metrics.message_sent(&format!("stream-{number}"), 1);
    }
    let text = encode(&registry);
    let sent = text.lines().filter(|it| it.starts_with("glueberry_messages_sent_total{"));
    assert_eq!(sent.count(), 65);
    let other = "glueberry_messages_sent_total{stream=\"other\"} 937";
    assert!(text.lines().any(|it| it == other), "{text}");
}
