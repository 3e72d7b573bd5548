//! Lines typed in one terminal appear in the other.
//!
//! ```text
//! cargo run --release -p glueberry-tokio --example chat -- --listen /ip4/127.0.0.1/udp/4001/quic-v1
//! cargo run --release -p glueberry-tokio --example chat -- --dial MULTIADDR
//! ```
//!
//! The first prints the multiaddr that the second wants. Ctrl-C, SIGTERM or the end of input ends
//! either.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Parser};
use glueberry_tokio::identity::{self, Keypair, PeerId};
use glueberry_tokio::{ConnectionState, Event, Handshake, Multiaddr, Node};
use tokio::io::{AsyncBufReadExt, BufReader};

const STREAM: &str = "chat";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Talks with a peer: one side listens, the other dials.
#[derive(Parser)]
#[command(group = ArgGroup::new("way").args(["listen", "dial"]).required(true).multiple(true))]
struct Cli {
    /// Where to listen, such as /ip4/127.0.0.1/udp/4001/quic-v1.
    #[arg(long)]
    listen: Option<Multiaddr>,
    /// The peer to dial, as the other side prints it: it ends in /p2p/PEER.
    #[arg(long)]
    dial: Option<Multiaddr>,
    /// A file for the identity, created if it is missing; without one, each run has another.
    #[arg(long)]
    identity: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(run(cli));
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

async fn run(cli: Cli) -> Result<()> {
    let stopped = stopped()?;
    let identity = match cli.identity {
        Some(path) => identity::load_or_create(path)?,
        None => Keypair::generate_ed25519(),
    };
    let builder = Node::builder(identity).streams([STREAM]).handshake(Handshake::accept_all());
    let node = match cli.listen {
        Some(address) => builder.listen(address).build().await?,
        None => builder.build().await?,
    };
    for address in node.dial_addrs() {
        say(&format!("listening; in another terminal: --dial {address}"));
    }
    // Around all of it, so that it ends whatever it waits for.
    let result = tokio::select! {
        result = chat(&node, cli.dial) => result,
        () = stopped => Ok(()),
    };
    if result.is_ok() {
        say("bye");
    }
    node.shutdown().await;
    result
}

/// Talks with one peer until input or the peer ends it.
async fn chat(node: &Node, address: Option<Multiaddr>) -> Result<()> {
    let mut peer = match address {
        Some(address) => match node.dial(address).await {
            Ok(peer) => Some(peer),
            Err(error) => return Err(format!("{error:#}\n({})", error.hint()).into()),
        },
        None => None,
    };
    let mut messages = node.messages().ok_or("messages were taken")?;
    let mut events = node.events();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    if let Some(peer) = peer {
        node.wait_established(peer).await?;
        say(&format!("{} is here", short(peer)));
    }
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event) if is_over(&event, peer) => break,
                Some(event) => match event.state() {
                    Some((who, ConnectionState::Established)) if peer.is_none() => {
                        say(&format!("{} is here", short(who)));
                        peer = Some(who);
                    }
                    _ => {}
                },
                None => break,
            },
            message = messages.recv() => match message {
                Some(it) => say(&format!("{}> {}", short(it.peer), String::from_utf8_lossy(&it.data))),
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
        }
    }
    Ok(())
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

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

#[expect(clippy::print_stderr, reason = "a chat talks to a person")]
fn complain(text: &str) {
    eprintln!("{text}");
}
