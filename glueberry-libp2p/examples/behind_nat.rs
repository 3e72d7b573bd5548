//! Two nodes behind routers that let nobody in, and a relay that both can reach: they meet over the
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

#![expect(clippy::print_stdout, reason = "an example talks to a person, and to a script")]

use std::time::Duration;

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
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["relay", listen] => relay(listen.parse()?).await,
        ["answer", relay, listen] => answer(relay.parse()?, listen.parse()?).await,
        ["ask", relay, listen, peer, rest @ ..] => {
            let makes_holes = rest != ["stay"];
            ask(relay.parse()?, listen.parse()?, peer.parse()?, makes_holes).await
        }
        _ => Err("see the first lines of this program".into()),
    }
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
            println!("{}", address.with_p2p(*swarm.local_peer_id()).map_err(|_| "an address")?);
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

async fn answer(relay: Multiaddr, listen: Multiaddr) -> Result<()> {
    let node = node([listen, over(&relay)], true).await?;
    let mut messages = node.messages().ok_or("taken")?;
    println!("{}", node.peer_id());
    while let Some(message) = messages.recv().await {
        if message.is_handshake() {
            let key = PublicKey::from_bytes(&message.data)?;
            node.complete_handshake(message.peer, key, &[STREAM]).await?;
        } else if let Err(error) = node.send(message.peer, STREAM, message.data).await {
            println!("not sent back: {error}");
        }
    }
    Ok(())
}

async fn ask(relay: Multiaddr, listen: Multiaddr, peer: PeerId, makes_holes: bool) -> Result<()> {
    let node = node([listen], makes_holes).await?;
    let mut messages = node.messages().ok_or("taken")?;
    node.add_peer(peer, [over(&relay)]).await?;
    node.connect(peer).await?;
    node.send(peer, HANDSHAKE, node.public_key().as_bytes().to_vec()).await?;
    node.complete_handshake(peer, PublicKey::try_from(&peer)?, &[STREAM]).await?;
    exchange(&node, peer, &mut messages, 0..EACH_HALF).await?;
    println!("halfway");
    let read = || std::io::stdin().read_line(&mut String::new());
    if tokio::task::spawn_blocking(read).await?? == 0 {
        return Err("the input has ended".into());
    }
    exchange(&node, peer, &mut messages, EACH_HALF..2 * EACH_HALF).await?;
    println!("{} messages there and back, in order, none missing", 2 * EACH_HALF);
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
