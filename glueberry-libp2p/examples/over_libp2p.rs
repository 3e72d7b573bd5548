//! Two nodes in one process over 127.0.0.1 and libp2p, TCP or QUIC: from dial through the two-phase
//! handshake to encrypted messages. Prints each step as it happens and ends by itself.
//!
//! ```text
//! cargo run --release -p glueberry-libp2p --example over_libp2p -- [tcp|quic]
//! ```

use std::io::{self, Write};
use std::time::Instant;

use clap::Parser;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{Event, Events, HANDSHAKE, Message, Messages, Node, PublicKey};

const STREAM: &str = "greetings";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Dials, holds the handshake and sends messages between two nodes of this process.
#[derive(Parser)]
struct Cli {
    /// What connects them.
    #[arg(default_value = "tcp", value_parser = ["tcp", "quic"])]
    transport: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let say = Narrator { start: Instant::now() };
    let Cli { transport } = Cli::parse();
    let listen = match transport.as_str() {
        "quic" => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    };
    say.line("", &format!("two nodes over libp2p, {transport} on 127.0.0.1"));
    let alice = node(listen).await?;
    let bob = node(listen).await?;
    say.line("alice", &format!("is {}", alice.peer_id()));
    say.line("bob", &format!("is {}, listens on {}", bob.peer_id(), bob.addrs()[0]));
    let (mut to_alice, mut to_bob) =
        (alice.messages().ok_or("messages were taken")?, bob.messages().ok_or("taken")?);
    let (alice_events, bob_events) = (alice.events(), bob.events());

    alice.add_peer(bob.peer_id(), bob.addrs()).await?;
    say.line("alice", "dials bob");
    alice.connect(bob.peer_id()).await?;

    say.line("", "the handshake: what is said in it is the application's");
    shake_hands(&say, ("alice", &alice, &mut to_alice), ("bob", &bob, &mut to_bob)).await?;

    say.line("", "encrypted messages, both ways");
    for size in [12, 1_000, 100_000] {
        exchange(&say, size, ("alice", &alice), ("bob", &bob, &mut to_bob)).await?;
        exchange(&say, size, ("bob", &bob), ("alice", &alice, &mut to_alice)).await?;
    }

    say.line("alice", "shuts down");
    alice.shutdown().await;
    bob.shutdown().await;
    say.line("", "what each was told, in order");
    history(&say, "alice", alice_events).await;
    history(&say, "bob", bob_events).await;
    say.line("", "done");
    Ok(())
}

async fn node(listen: &str) -> Result<Node> {
    let mut over = Libp2p::default();
    // On this machine there is no router to ask, and nobody to be found by.
    over.upnp = false;
    Ok(Node::builder(Keypair::generate_ed25519())
        .listen(listen.parse()?)
        .streams([STREAM])
        .build_over(over)
        .await?)
}

type Party<'a> = (&'a str, &'a Node, &'a mut Messages);

/// Hello with one's key, each way; then both phases on both sides.
async fn shake_hands(say: &Narrator, a: Party<'_>, b: Party<'_>) -> Result<()> {
    let (a_name, a_node, to_a) = a;
    let (b_name, b_node, to_b) = b;
    hello(a_node, b_node.peer_id()).await?;
    let key = hear(say, b_name, to_b).await?;
    b_node.prepare_streams(a_node.peer_id(), key, &[STREAM]).await?;
    say.line(b_name, "has checked the key and prepared the stream");
    hello(b_node, a_node.peer_id()).await?;
    let key = hear(say, a_name, to_a).await?;
    a_node.complete_handshake(b_node.peer_id(), key, &[STREAM]).await?;
    say.line(a_name, "has prepared and finalized: Established");
    b_node.finalize_handshake(a_node.peer_id()).await?;
    say.line(b_name, "has finalized: Established");
    Ok(())
}

async fn hello(from: &Node, to: PeerId) -> Result<()> {
    let mut hello = b"hello, my key is ".to_vec();
    hello.extend_from_slice(from.public_key().as_bytes());
    Ok(from.send(to, HANDSHAKE, hello).await?)
}

async fn hear(say: &Narrator, name: &str, messages: &mut Messages) -> Result<PublicKey> {
    let message = messages.recv().await.ok_or("the node has stopped")?;
    let (text, key) = message.data.split_at(message.data.len().saturating_sub(32));
    say.line(name, &format!("hears on `{}`: {}…", message.stream(), String::from_utf8_lossy(text)));
    Ok(PublicKey::from_bytes(key)?)
}

async fn exchange(
    say: &Narrator,
    size: usize,
    from: (&str, &Node),
    to: (&str, &Node, &mut Messages),
) -> Result<()> {
    let sent_at = Instant::now();
    from.1.send(to.1.peer_id(), STREAM, vec![b'x'; size]).await?;
    let Message { data, .. } = to.2.recv().await.ok_or("the node has stopped")?;
    let took = sent_at.elapsed();
    let name = to.0;
    say.line(name, &format!("got {} bytes from {} after {took:.0?}", data.len(), from.0));
    Ok(())
}

async fn history(say: &Narrator, name: &str, mut events: Events) {
    while let Some(event) = events.recv().await {
        match event {
            Event::State(changed) => match changed.reason {
                Some(reason) => say.line(name, &format!("{} ({reason})", changed.state)),
                None => say.line(name, &changed.state.to_string()),
            },
            Event::SessionClosed { closed, .. } => say.line(
                name,
                &format!("session over: {} unsent, {} in doubt", closed.unsent, closed.in_doubt),
            ),
            other => say.line(name, &other.to_string()),
        }
    }
}

struct Narrator {
    start: Instant,
}

impl Narrator {
    fn line(&self, who: &str, what: &str) {
        let at = self.start.elapsed().as_secs_f64() * 1000.0;
        // Who reads it may have enough, such as `head`.
        if writeln!(io::stdout(), "{at:8.2} ms  {who:>5}  {what}").is_err() {
            std::process::exit(0);
        }
    }
}
