//! Lines typed in one terminal appear in the other.
//!
//! ```text
//! cargo run --release -p glueberry-tokio --example chat -- --listen /ip4/127.0.0.1/udp/4001/quic-v1
//! cargo run --release -p glueberry-tokio --example chat -- --dial MULTIADDR
//! ```
//!
//! The first prints the multiaddr that the second wants. Ctrl-C or the end of input ends either.

use std::process::ExitCode;

use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ConnectionState, Event, HANDSHAKE, Message, Multiaddr, Node, PublicKey};
use multiaddr::Protocol;
use tokio::io::{AsyncBufReadExt, BufReader};

const STREAM: &str = "chat";
const USAGE: &str = "usage: chat --listen MULTIADDR | chat --dial MULTIADDR/p2p/PEER";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let result = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(run());
        // A thread waits for a line, and would be waited for.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--listen", address] => listen(address).await,
        ["--dial", address] => dial(address).await,
        _ => Err(USAGE.into()),
    }
}

async fn listen(address: &str) -> Result<()> {
    let address: Multiaddr =
        address.parse().map_err(|error| format!("`{address}` is no multiaddr: {error}"))?;
    let node = build(Some(address)).await?;
    for address in node.addrs() {
        let address = address.with(Protocol::P2p(node.peer_id()));
        say(&format!("listening; in another terminal: --dial {address}"));
    }
    chat(&node, None).await
}

async fn dial(address: &str) -> Result<()> {
    let address: Multiaddr =
        address.parse().map_err(|error| format!("`{address}` is no multiaddr: {error}"))?;
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        return Err("the address must end in /p2p/PEER: the key is how a peer is known".into());
    };
    let node = build(None).await?;
    node.add_peer(peer, [address]).await?;
    if let Err(error) = node.connect(peer).await {
        return Err(format!("{error:#}\n({})", error.hint()).into());
    }
    chat(&node, Some(peer)).await
}

async fn build(listen: Option<Multiaddr>) -> Result<Node> {
    let mut builder = Node::builder(Keypair::generate_ed25519()).streams([STREAM]);
    if let Some(address) = listen {
        builder = builder.listen(address);
    }
    Ok(builder.build().await?)
}

/// Talks with one peer until input, or the peer, or the person ends it.
async fn chat(node: &Node, mut peer: Option<PeerId>) -> Result<()> {
    let mut messages = node.messages().ok_or("messages were taken")?;
    let mut events = node.events();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    if let Some(peer) = peer {
        hello(node, peer).await?;
    }
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => {
                    peer = Some(message.peer);
                    hear(node, message).await?;
                }
                None => break,
            },
            event = events.recv() => match event {
                Some(event) if is_over(&event, peer) => break,
                Some(_) => {}
                None => break,
            },
            line = lines.next_line() => match (line?, peer) {
                (Some(line), Some(peer)) => {
                    if let Err(error) = node.send(peer, STREAM, line).await {
                        complain(&format!("not sent: {error:#}"));
                    }
                }
                (Some(_), None) => complain("nobody is here yet"),
                (None, _) => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    say("bye");
    node.shutdown().await;
    Ok(())
}

async fn hello(node: &Node, peer: PeerId) -> Result<()> {
    Ok(node.send(peer, HANDSHAKE, node.public_key().as_bytes().to_vec()).await?)
}

/// The dialler says its key, the listener answers with its own; then both are done.
async fn hear(node: &Node, message: Message) -> Result<()> {
    let peer = message.peer;
    if !message.is_handshake() {
        say(&format!("{}> {}", short(peer), String::from_utf8_lossy(&message.data)));
        return Ok(());
    }
    let key = PublicKey::from_bytes(&message.data)?;
    node.prepare_streams(peer, key, &[STREAM]).await?;
    if node.is_outbound(peer) == Some(false) {
        hello(node, peer).await?;
    }
    node.finalize_handshake(peer).await?;
    say(&format!("{} is here", short(peer)));
    Ok(())
}

fn is_over(event: &Event, peer: Option<PeerId>) -> bool {
    let Event::State(changed) = event else {
        return false;
    };
    let is_gone =
        matches!(changed.state, ConnectionState::Disconnected | ConnectionState::Cooldown);
    if is_gone && Some(changed.peer) == peer {
        let why = changed.reason.as_ref().map_or_else(String::new, ToString::to_string);
        say(&format!("{} is gone: {why}", short(changed.peer)));
        return true;
    }
    false
}

fn short(peer: PeerId) -> String {
    let text = peer.to_string();
    text.chars().skip(text.len().saturating_sub(6)).collect()
}

#[expect(clippy::print_stdout, reason = "a chat talks to a person")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a chat talks to a person")]
fn complain(text: &str) {
    eprintln!("{text}");
}
