//! A small Glueberry peer over rust-libp2p and libp2p-stream, with none of Glueberry's own code.
//!
//! It greets, and echoes what it gets on `chat`. One JSON object per line goes out: what happened.
//!
//! ```text
//! libp2p-stream-peer --transport tcp|quic --profile v1|v1-go [--habit none] [--dial ADDRESS]
//! ```
#![expect(clippy::print_stdout, reason = "the lines are what it is for")]
#![expect(clippy::unwrap_used, reason = "a program for tests, which notice when it fails")]

mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use libp2p::futures::StreamExt;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use libp2p_stream::{Behaviour, Control};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use self::wire::{Framing, Key};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options: BTreeMap<&str, &str> =
        args.chunks(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    assert_eq!(options.get("--habit"), Some(&"none"), "it has none");
    let (framing, handshake) = match options["--profile"] {
        "v1" => (Framing::Fixed, StreamProtocol::new("/glueberry/handshake/1.0.0")),
        _ => (Framing::DoubleVarint, StreamProtocol::new("/glueberry/stream/handshake/1.0.0")),
    };
    let identity = ed25519::Keypair::generate();
    let mut swarm = swarm(identity.clone().into());
    let listen = match options["--transport"] {
        "tcp" => "/ip4/127.0.0.1/tcp/0",
        _ => "/ip4/127.0.0.1/udp/0/quic-v1",
    };
    swarm.listen_on(listen.parse().unwrap()).unwrap();
    let control = swarm.behaviour().new_control();
    let (key, _) = watch::channel(None);
    let application = Arc::new(Application { identity, framing, handshake, control, key });
    application.accept();
    let id = *swarm.local_peer_id();
    let mut to_dial = options.get("--dial").map(|text| text.parse::<Multiaddr>().unwrap());
    tokio::spawn(async move {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => {
                    tell(
                        &json!({ "event": "listening", "address": address, "id": id.to_string() }),
                    );
                    if let Some(address) = to_dial.take() {
                        let Some(Protocol::P2p(peer)) = address.iter().last() else {
                            panic!("whom?")
                        };
                        swarm.dial(address).unwrap();
                        tokio::spawn(application.clone().begin(peer));
                    }
                }
                SwarmEvent::ConnectionClosed { .. } => tell(&json!({ "event": "closed" })),
                _ => {}
            }
        }
    });
    // Ends with the process that has started it.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

fn swarm(identity: Keypair) -> Swarm<Behaviour> {
    SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| Behaviour::new())
        .unwrap()
        .build()
}

struct Application {
    identity: ed25519::Keypair,
    framing: Framing,
    handshake: StreamProtocol,
    control: Control,
    /// The key that is shared with the one peer there is, once it is known.
    key: watch::Sender<Option<Arc<Key>>>,
}

impl Application {
    /// Takes part in every handshake, and echoes on every stream.
    fn accept(self: &Arc<Self>) {
        let mut handshakes = self.control.clone().accept(self.handshake.clone()).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Some((peer, stream)) = handshakes.next().await {
                let this = this.clone();
                tokio::spawn(async move { this.greet(peer, stream).await.unwrap() });
            }
        });
        let mut chats = self.control.clone().accept(CHAT).unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Some((_, stream)) = chats.next().await {
                tokio::spawn(this.clone().echo(stream));
            }
        });
    }

    /// Opens the handshake, then the stream.
    async fn begin(self: Arc<Self>, peer: PeerId) {
        let mut control = self.control.clone();
        let stream = control.open_stream(peer, self.handshake.clone()).await.unwrap();
        let _handshake = self.greet(peer, stream).await.unwrap();
        let mut chat = control.open_stream(peer, CHAT).await.unwrap();
        let first = self.key().await.seal(nonce(), b"first");
        self.framing.write(&mut chat, &first).await.unwrap();
        self.echo(chat).await;
    }

    /// Says Hello, PubKey and Complete, and hears them.
    async fn greet(&self, peer: PeerId, mut stream: Stream) -> io::Result<Stream> {
        let mut heard = BTreeSet::new();
        self.framing.write(&mut stream, &[HELLO]).await?;
        while heard.len() < 3 {
            let message = self.framing.read(&mut stream).await?;
            let (&kind, rest) = message.split_first().unwrap();
            if !heard.insert(kind) {
                continue;
            }
            match kind {
                HELLO => {
                    let own = [&[PUB_KEY][..], &self.identity.public().to_bytes()].concat();
                    self.framing.write(&mut stream, &own).await?;
                }
                PUB_KEY => {
                    let theirs = ed25519::PublicKey::try_from_bytes(rest).unwrap();
                    let id = PeerId::from_public_key(&theirs.clone().into());
                    assert_eq!(id, peer, "wrong key");
                    let key = Key::agree(&self.identity, &theirs.to_bytes());
                    self.key.send_replace(Some(Arc::new(key)));
                    self.framing.write(&mut stream, &[COMPLETE]).await?;
                }
                _ => {}
            }
        }
        tell(&json!({ "event": "established" }));
        Ok(stream)
    }

    /// Sends back what comes on a named stream, until it ends.
    async fn echo(self: Arc<Self>, mut stream: Stream) {
        let key = self.key().await;
        while let Ok(record) = self.framing.read(&mut stream).await {
            let message = key.open(&record);
            tell(&json!({ "event": "message", "bytes": message.len() }));
            let sealed = key.seal(nonce(), &message);
            if self.framing.write(&mut stream, &sealed).await.is_err() {
                break;
            }
        }
    }

    async fn key(&self) -> Arc<Key> {
        let mut known = self.key.subscribe();
        let key = known.wait_for(Option::is_some).await.unwrap().clone();
        key.unwrap()
    }
}

fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).unwrap();
    nonce
}

fn tell(what: &Value) {
    println!("{what}");
}

const CHAT: StreamProtocol = StreamProtocol::new("/glueberry/stream/chat/1.0.0");
const HELLO: u8 = 1;
const PUB_KEY: u8 = 2;
const COMPLETE: u8 = 3;
