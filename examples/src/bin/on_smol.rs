//! A node on smol: one side echoes, the other measures. No tokio runtime is in it.
//!
//! ```text
//! cargo run -p glueberry-examples --bin on_smol -- echo
//! cargo run -p glueberry-examples --bin on_smol -- ping MULTIADDR
//! ```
//!
//! Ctrl-C ends either. On async-std or an executor of your own only the runtime is another:
//! `AnyRuntime::async_std()`, or `AnyRuntime::new` with a function that spawns.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::{Parser, Subcommand};
use glueberry_tokio::runtime::AnyRuntime;
use glueberry_tokio::{Handshake, Multiaddr, Node, identity};
use smol::future::FutureExt;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Echoes what peers send, or measures how long a peer takes to do so.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The file that holds this node's identity; created if it is missing.
    #[arg(long, global = true, default_value = "smol.key")]
    identity: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Sends back every message, until Ctrl-C or SIGTERM.
    Echo {
        /// Where to listen.
        #[arg(long, default_value = "/ip4/127.0.0.1/udp/0/quic-v1")]
        listen: Multiaddr,
    },
    /// Sends messages to a peer that echoes.
    Ping {
        /// The address that `echo` has printed.
        peer: Multiaddr,
        /// How many.
        #[arg(long, default_value_t = 5)]
        count: u32,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let (interrupt, interrupted) = smol::channel::bounded(1);
    ctrlc::set_handler(move || {
        // Full: it was pressed twice.
        interrupt.try_send(()).ok();
    })?;
    smol::block_on(async {
        let mut builder = Node::builder(identity::load_or_create(&cli.identity)?)
            .runtime(Arc::new(AnyRuntime::smol()))
            .streams(["echo"])
            .handshake(Handshake::accept_all());
        if let Command::Echo { listen } = &cli.command {
            builder = builder.listen(listen.clone());
        }
        let node = builder.build().await?;
        let work = async {
            match cli.command {
                Command::Echo { .. } => echo(&node).await,
                Command::Ping { peer, count } => ping(&node, peer, count).await,
            }
        };
        let stop = async { Ok(interrupted.recv().await?) };
        let result = work.or(stop).await;
        node.shutdown().await;
        result
    })
}

async fn echo(node: &Node) -> Result<()> {
    let mut messages = node.messages().ok_or("messages were taken")?;
    for address in node.dial_addrs() {
        say(&format!("to ping: {address}"));
    }
    while let Some(message) = messages.recv().await {
        // A peer that does not read its echoes loses some, and holds no other peer up.
        if let Err(error) = node.try_send(message.peer, "echo", message.data) {
            say(&format!("not echoed: {error:#}"));
        }
    }
    Ok(())
}

async fn ping(node: &Node, address: Multiaddr, count: u32) -> Result<()> {
    let mut messages = node.messages().ok_or("messages were taken")?;
    let peer = node.dial(address).await?;
    node.wait_established(peer).await?;
    for number in 1..=count {
        let sent_at = Instant::now();
        node.send(peer, "echo", format!("ping {number}")).await?;
        let message = messages.recv().await.ok_or("the node has stopped")?;
        let text = String::from_utf8_lossy(&message.data);
        say(&format!("{text}: {:.1?}", sent_at.elapsed()));
    }
    Ok(())
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
