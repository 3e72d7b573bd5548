//! Glueberry beside gossipsub in one swarm. Two such swarms connect, gossip, and use the same
//! connection for a Glueberry session, whose end leaves it to the gossip.
//!
//! ```text
//! cargo run --release -p glueberry-libp2p --example compose
//! ```

use glueberry_libp2p::Behaviour;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ConnectionState, HANDSHAKE, Messages, Node, PublicKey};
use libp2p::futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, gossipsub, noise, tcp, yamux};
use std::io::{self, Write};
use tokio::sync::mpsc;

const STREAM: &str = "answers";
const TOPIC: &str = "news";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Any other behaviour could stand here, and more of them.
#[derive(NetworkBehaviour)]
struct Behaviours {
    gossip: gossipsub::Behaviour,
    glueberry: Behaviour,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (alice, bob) = (Party::new("alice").await?, Party::new("bob").await?);
    let (mut alice, mut bob) = (alice, bob);
    say("", "two swarms, each with gossipsub and Glueberry");

    say("alice", "dials bob: an affair of the swarm, of which Glueberry knows nothing");
    alice.orders.send(Order::Dial(bob.address.clone())).await?;
    alice.heard(|heard| matches!(heard, Heard::Subscribed(_))).await?;
    alice.orders.send(Order::Publish("who knows the time?")).await?;
    bob.heard(|heard| matches!(heard, Heard::Gossip(_))).await?;

    say("bob", "answers in private: `connect` takes the connection that is there");
    bob.node.add_peer(alice.id(), [alice.address.clone()]).await?;
    bob.node.connect(alice.id()).await?;
    shake_hands(&mut bob, &mut alice).await?;
    bob.node.send(alice.id(), STREAM, "a quarter past").await?;
    let answer = alice.messages.recv().await.ok_or("the node has stopped")?;
    say("alice", &format!("gets on `{}`: {}", answer.stream(), text(&answer.data)));
    say("alice", &format!("has {} connection", alice.connections().await?));

    say("bob", "ends the session; the connection belongs to the gossip too");
    bob.node.disconnect(alice.id()).await?;
    while bob.node.connection_state(alice.id()) != ConnectionState::Disconnected {
        tokio::task::yield_now().await;
    }
    alice.orders.send(Order::Publish("thank you")).await?;
    bob.heard(|heard| matches!(heard, Heard::Gossip(_))).await?;
    say("alice", &format!("has {} connection", alice.connections().await?));
    say("", "done");
    Ok(())
}

/// Hello with one's key each way, then both phases on both sides.
async fn shake_hands(a: &mut Party, b: &mut Party) -> Result<()> {
    a.node.send(b.id(), HANDSHAKE, a.node.public_key().as_bytes().to_vec()).await?;
    let hello = b.messages.recv().await.ok_or("the node has stopped")?;
    b.node.prepare_streams(a.id(), PublicKey::from_bytes(&hello.data)?, &[STREAM]).await?;
    b.node.send(a.id(), HANDSHAKE, b.node.public_key().as_bytes().to_vec()).await?;
    let hello = a.messages.recv().await.ok_or("the node has stopped")?;
    a.node.complete_handshake(b.id(), PublicKey::from_bytes(&hello.data)?, &[STREAM]).await?;
    b.node.finalize_handshake(a.id()).await?;
    say("", "both have checked the other's key: Established");
    Ok(())
}

/// A swarm in its task, and the node that lives in it.
struct Party {
    name: &'static str,
    node: Node,
    messages: Messages,
    address: Multiaddr,
    orders: mpsc::Sender<Order>,
    heard: mpsc::Receiver<Heard>,
}

/// What the swarm's task is told.
enum Order {
    Dial(Multiaddr),
    Publish(&'static str),
    Count(tokio::sync::oneshot::Sender<u32>),
}

/// What the swarm's task tells.
enum Heard {
    Subscribed(PeerId),
    Gossip(Vec<u8>),
}

impl Party {
    async fn new(name: &'static str) -> Result<Self> {
        let identity = Keypair::generate_ed25519();
        let (glueberry, node) = Behaviour::new(Node::builder(identity.clone()).streams([STREAM]))?;
        let gossip = gossipsub::Behaviour::new(
            gossipsub::MessageAuthenticity::Signed(identity.clone()),
            gossipsub::Config::default(),
        )?;
        let mut swarm = SwarmBuilder::with_existing_identity(identity)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_| Behaviours { gossip, glueberry })?
            .build();
        swarm.behaviour_mut().gossip.subscribe(&gossipsub::IdentTopic::new(TOPIC))?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (orders, from_orders) = mpsc::channel(1);
        let (to_heard, heard) = mpsc::channel(16);
        tokio::spawn(run(swarm, from_orders, to_heard));
        let messages = node.messages().ok_or("messages were taken")?;
        Ok(Self { name, node, messages, address, orders, heard })
    }

    fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    async fn heard(&mut self, is_wanted: impl Fn(&Heard) -> bool) -> Result<()> {
        loop {
            let heard = self.heard.recv().await.ok_or("the swarm has stopped")?;
            match &heard {
                Heard::Subscribed(peer) => say(self.name, &format!("learns by gossip of {peer}")),
                Heard::Gossip(data) => say(self.name, &format!("hears by gossip: {}", text(data))),
            }
            if is_wanted(&heard) {
                return Ok(());
            }
        }
    }

    async fn connections(&self) -> Result<u32> {
        let (count, counted) = tokio::sync::oneshot::channel();
        self.orders.send(Order::Count(count)).await?;
        Ok(counted.await?)
    }
}

async fn run(
    mut swarm: Swarm<Behaviours>,
    mut orders: mpsc::Receiver<Order>,
    heard: mpsc::Sender<Heard>,
) {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Dial(address)) => {
                    if let Err(error) = swarm.dial(address) {
                        say("", &format!("cannot dial: {error}"));
                    }
                }
                Some(Order::Publish(news)) => {
                    let topic = gossipsub::IdentTopic::new(TOPIC);
                    if let Err(error) = swarm.behaviour_mut().gossip.publish(topic, news) {
                        say("", &format!("cannot publish: {error}"));
                    }
                }
                Some(Order::Count(count)) => {
                    // A caller that has stopped waiting needs no answer.
                    count
                        .send(swarm.network_info().connection_counters().num_established())
                        .unwrap_or_default();
                }
            },
            event = swarm.select_next_some() => {
                let told = match event {
                    SwarmEvent::Behaviour(BehavioursEvent::Gossip(event)) => match event {
                        gossipsub::Event::Message { message, .. } => Heard::Gossip(message.data),
                        gossipsub::Event::Subscribed { peer_id, .. } => Heard::Subscribed(peer_id),
                        _ => continue,
                    },
                    _ => continue,
                };
                if heard.send(told).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn say(who: &str, what: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{who:>5}  {what}").is_err() {
        std::process::exit(0);
    }
}
