//! An application as it runs in a container: identity, address book and configuration in files,
//! health and metrics over HTTP, and a graceful stop on SIGTERM and Ctrl-C.
//!
//! ```text
//! cargo run --release -p glueberry-examples --bin integration -- --data FOLDER
//! curl http://127.0.0.1:9090/health
//! ```
//!
//! It echoes every message on the stream `echo`, and stays connected to the peers in its book.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use glueberry_examples::stopped;
use glueberry_tokio::http::axum;
use glueberry_tokio::prometheus::{PrometheusMetrics, Registry};
use glueberry_tokio::{Config, Handshake, Multiaddr, Node, http, identity};
use tokio::net::TcpListener;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs an application until it is to stop.
#[derive(Parser)]
struct Cli {
    /// The folder of the identity, the address book and `config.json`, which may be missing.
    #[arg(long, default_value = ".")]
    data: PathBuf,
    /// Where to listen for peers.
    #[arg(long, default_value = "/ip4/127.0.0.1/udp/0/quic-v1")]
    listen: Multiaddr,
    /// Where to listen for HTTP: /health, /ready and /metrics, and /debug if it is a loopback address.
    #[arg(long, default_value = "127.0.0.1:9090")]
    http: SocketAddr,
    /// Peers to add and to stay connected to, each address ending in /p2p/PEER.
    #[arg(long)]
    peer: Vec<Multiaddr>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let stopped = stopped()?;
    std::fs::create_dir_all(&cli.data)?;
    let config = match std::fs::read_to_string(cli.data.join("config.json")) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Config::default(),
        Err(error) => return Err(error.into()),
    };
    let mut registry = Registry::default();
    let metrics = Arc::new(PrometheusMetrics::register(&mut registry));
    let node = Node::builder(identity::load_or_create(cli.data.join("identity.key"))?)
        .config(config)
        .address_book(cli.data.join("book.json"))
        .listen(cli.listen)
        .streams(["echo"])
        .handshake(Handshake::accept_all())
        .metrics(metrics)
        .build()
        .await?;
    for finding in node.address_book_findings() {
        say(&format!("address book: {finding}"));
    }
    let listener = TcpListener::bind(cli.http).await;
    let listener = listener.map_err(|error| format!("HTTP at {}: {error}", cli.http))?;
    say(&format!("http://{}", listener.local_addr()?));
    for address in node.dial_addrs() {
        say(&format!("peers reach this node at {address}"));
    }
    // /debug shows the ids and addresses of peers.
    let router = match cli.http.ip().is_loopback() {
        true => http::router(node.clone(), Arc::new(registry)),
        false => http::public_router(node.clone(), Arc::new(registry)),
    };
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let result = tokio::select! {
        result = work(&node, cli.peer) => result,
        () = stopped => Ok(()),
    };
    say("stopping: what is queued is sent, the address book is stored");
    node.shutdown().await;
    serving.abort();
    result
}

async fn work(node: &Node, peers: Vec<Multiaddr>) -> Result<()> {
    let mut messages = node.messages().ok_or("messages were taken")?;
    node.autoconnect().await?;
    for address in peers {
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(error) = node.dial(address).await {
                say(&format!("{error:#} ({})", error.hint()));
            }
        });
    }
    while let Some(message) = messages.recv().await {
        // A peer that does not read its echoes loses some, and holds no other peer up.
        if let Err(error) = node.try_send(message.peer, "echo", message.data) {
            say(&format!("not echoed: {error:#}"));
        }
    }
    Ok(())
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
