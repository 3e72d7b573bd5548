//! Two nodes behind routers that admit no peer, and a relay that both can reach: they meet over the
//! relay, make holes in both routers at the same time, and talk directly from then on. Each role is
//! a process of its own; `.ci/nat` runs them in network namespaces.
//!
//! ```text
//! behind_nat relay LISTEN               prints its address
//! behind_nat answer RELAY LISTEN        prints its peer id; sends every message back
//! behind_nat ask RELAY LISTEN PEER      sends numbered messages; waits for a line on its input
//!                                       halfway, so that the relay can be ended meanwhile
//! ```
//!
//! With `stay` behind it, `ask` makes no holes and stays on the relay.

use std::io::{self, Write};
use std::time::Duration;

use clap::Parser;
use glueberry_libp2p::Libp2p;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{HANDSHAKE, Messages, Node, PublicKey};
use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, SwarmBuilder, identify, noise, relay, tcp, yamux};

const STREAM: &str = "numbers";
const EACH_HALF: u32 = 100;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse() {
        Cli::Relay { listen } => {
            let stopped = stopped()?;
            tokio::select! {
                result = relay(listen) => result,
                () = stopped => Ok(()),
            }
        }
        Cli::Answer { relay, listen } => answer(relay, listen, stopped()?).await,
        Cli::Ask { relay, listen, peer, stay } => ask(relay, listen, peer, stay.is_none()).await,
    }
}

/// Meets a peer behind another router over a relay, then talks to it directly.
#[derive(Parser)]
enum Cli {
    /// Relays, until Ctrl-C or SIGTERM.
    Relay {
        /// Where to listen.
        listen: Multiaddr,
    },
    /// Sends every message back, until Ctrl-C or SIGTERM.
    Answer {
        /// The address that the relay has printed.
        relay: Multiaddr,
        /// Where to listen.
        listen: Multiaddr,
    },
    /// Sends numbered messages, and waits for a line on its input halfway.
    Ask {
        /// The address that the relay has printed.
        relay: Multiaddr,
        /// Where to listen.
        listen: Multiaddr,
        /// The peer id that `answer` has printed.
        peer: PeerId,
        /// Makes no holes, and stays on the relay.
        #[arg(value_parser = ["stay"])]
        stay: Option<String>,
    },
}

#[derive(NetworkBehaviour)]
struct Relay {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

async fn relay(listen: Multiaddr) -> Result<()> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(|key| Relay {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/relay/1.0.0".to_owned(),
                key.public(),
            )),
        })?
        .build();
    swarm.listen_on(listen)?;
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            swarm.add_external_address(address.clone());
            say(format_args!(
                "{}",
                address.with_p2p(*swarm.local_peer_id()).map_err(|_| "an address")?
            ));
        }
    }
}

async fn node(listen: impl IntoIterator<Item = Multiaddr>, makes_holes: bool) -> Result<Node> {
    let mut over = Libp2p::default();
    over.upnp = false;
    over.dns = false;
    over.hole_punching = makes_holes;
    over.hole_punch_wait = Duration::from_secs(20);
    let mut builder = Node::builder(Keypair::generate_ed25519()).streams([STREAM]);
    for address in listen {
        builder = builder.listen(address);
    }
    Ok(builder.build_over(over).await?)
}

fn over(relay: &Multiaddr) -> Multiaddr {
    relay.clone().with(libp2p::multiaddr::Protocol::P2pCircuit)
}

async fn answer(
    relay: Multiaddr,
    listen: Multiaddr,
    stopped: impl Future<Output = ()>,
) -> Result<()> {
    let node = node([listen, over(&relay)], true).await?;
    let mut messages = node.messages().ok_or("taken")?;
    say(format_args!("{}", node.peer_id()));
    let answering = async {
        while let Some(message) = messages.recv().await {
            if message.is_handshake() {
                let key = PublicKey::from_bytes(&message.data)?;
                node.complete_handshake(message.peer, key, &[STREAM]).await?;
            } else if let Err(error) = node.send(message.peer, STREAM, message.data).await {
                say(format_args!("not sent back: {error}"));
            }
        }
        Ok(())
    };
    let result = tokio::select! {
        result = answering => result,
        () = stopped => Ok(()),
    };
    node.shutdown().await;
    result
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

async fn ask(relay: Multiaddr, listen: Multiaddr, peer: PeerId, makes_holes: bool) -> Result<()> {
    let node = node([listen], makes_holes).await?;
    let mut messages = node.messages().ok_or("taken")?;
    node.add_peer(peer, [over(&relay)]).await?;
    node.connect(peer).await?;
    node.send(peer, HANDSHAKE, node.public_key().as_bytes().to_vec()).await?;
    node.complete_handshake(peer, PublicKey::try_from(&peer)?, &[STREAM]).await?;
    exchange(&node, peer, &mut messages, 0..EACH_HALF).await?;
    say("halfway");
    let read = || io::stdin().read_line(&mut String::new());
    if tokio::task::spawn_blocking(read).await?? == 0 {
        return Err("the input has ended".into());
    }
    exchange(&node, peer, &mut messages, EACH_HALF..2 * EACH_HALF).await?;
    say(format_args!("{} messages there and back, in order, none missing", 2 * EACH_HALF));
    node.shutdown().await;
    Ok(())
}

async fn exchange(
    node: &Node,
    peer: PeerId,
    messages: &mut Messages,
    numbers: std::ops::Range<u32>,
) -> Result<()> {
    for number in numbers {
        node.send(peer, STREAM, number.to_be_bytes().to_vec()).await?;
        let back = tokio::time::timeout(Duration::from_secs(10), messages.recv()).await;
        let back = back.map_err(|_| format!("number {number} did not come back"))?;
        let back = back.ok_or("the node has stopped")?;
        if back.data[..] != number.to_be_bytes() {
            return Err(format!("{:?} came instead of {number}", back.data).into());
        }
    }
    Ok(())
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
