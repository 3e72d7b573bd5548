//! A relay: peers that cannot be dialled are reached over it, and punch holes from there.
//!
//! ```text
//! cargo run --release -p glueberry-libp2p --example relay -- \
//!     --listen /ip4/0.0.0.0/tcp/4001 --external /ip4/192.0.2.1/tcp/4001
//! ```
//!
//! It prints what the others listen on (`Builder::listen`); `behind_nat` is such a program. Ctrl-C or
//! SIGTERM ends it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::{Handshake, Multiaddr, Node, identity};
use libp2p::multiaddr::Protocol;

/// Relays connections of others.
#[derive(Parser)]
struct Cli {
    /// Where to listen; may be given several times.
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/4001")]
    listen: Vec<Multiaddr>,
    /// An address at which others reach this machine, if it is none of those.
    #[arg(long)]
    external: Vec<Multiaddr>,
    /// The file that holds this node's identity; created if it is missing.
    #[arg(long, default_value = "relay.key")]
    identity: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let cli = Cli::parse();
    let stopped = stopped()?;
    let mut over = Libp2p::default();
    over.relay_server = true;
    let reached_at = if cli.external.is_empty() { &cli.listen } else { &cli.external }.clone();
    if let Some(address) = reached_at.iter().find(|address| !says_where(address)) {
        let why = "does not say where others reach this machine; name that by --external";
        return Err(format!("{address} {why}").into());
    }
    over.external_addresses.clone_from(&reached_at);
    let mut builder = Node::builder(identity::load_or_create(&cli.identity)?)
        // Sessions with the relay itself carry nothing here.
        .streams(["none"])
        .handshake(Handshake::on_request());
    for address in cli.listen {
        builder = builder.listen(address);
    }
    let node = builder.build_over(over).await?;
    for address in reached_at {
        say(&format!("listen on: {address}/p2p/{}/p2p-circuit", node.peer_id()));
    }
    stopped.await;
    node.shutdown().await;
    Ok(())
}

/// Returns whether an address is one machine's and has a port.
fn says_where(address: &Multiaddr) -> bool {
    address.iter().all(|part| match part {
        Protocol::Ip4(ip) => !ip.is_unspecified(),
        Protocol::Ip6(ip) => !ip.is_unspecified(),
        Protocol::Tcp(port) | Protocol::Udp(port) => port != 0,
        _ => true,
    })
}

/// Returns what waits for Ctrl-C, or for what stops a container. Called before anything is printed: who
/// reads that may send the signal at once, and it would end a program that does not wait for it yet.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
