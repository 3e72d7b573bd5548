//! A relay: peers that nobody can dial are reached over it, and punch holes from there.
//!
//! ```text
//! cargo run --release -p glueberry-libp2p --example relay -- \
//!     --listen /ip4/0.0.0.0/tcp/4001 --external /ip4/192.0.2.1/tcp/4001
//! ```
//!
//! It prints what the others listen on (`Builder::listen`); `behind_nat` is such a program. Ctrl-C ends it.

use std::path::PathBuf;

use clap::Parser;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::{Handshake, Multiaddr, Node, identity};

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
    let mut over = Libp2p::default();
    over.relay_server = true;
    over.external_addresses.clone_from(match cli.external.is_empty() {
        true => &cli.listen,
        false => &cli.external,
    });
    let reached_at = over.external_addresses.clone();
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
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example talks to a person")]
fn say(text: &str) {
    println!("{text}");
}
