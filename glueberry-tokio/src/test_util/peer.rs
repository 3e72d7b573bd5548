//! A peer that does what a test tells it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::StreamExt;
use libp2p_identity::{Keypair, PeerId};
use multiaddr::Multiaddr;

use super::MemoryNetwork;
use crate::config::Config;
use crate::error::{Error, ErrorCode};
use crate::message::Message;
use crate::node::Node;
use glueberry_proto::{ConnectionState, PublicKey};

/// A peer in a [`MemoryNetwork`] that completes every handshake by itself, remembers what it receives,
/// and answers by a script.
///
/// It is a real [`Node`] with an application that is made of rules: what the node under test sees
/// is what it would see of any peer. It stops when it is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::test_util::{MemoryNetwork, ScriptedPeer};
///
/// let network = MemoryNetwork::new();
/// let (peer, other) =
///     (ScriptedPeer::new(&network, ["chat"]).await?, ScriptedPeer::new(&network, ["chat"]).await?);
/// peer.answer("chat", "ping", "pong");
/// # let mut established = peer.node().events_for_states([glueberry_tokio::ConnectionState::Established]);
/// other.node().add_peer(peer.id(), [peer.addr()]).await?;
/// other.node().connect(peer.id()).await?;
/// # established.recv().await;
/// peer.say(other.id(), "chat", "hello").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ScriptedPeer {
    node: Node,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    /// What to answer, by stream and message.
    answers: BTreeMap<(String, Bytes), Vec<Bytes>>,
    heard: Vec<Message>,
    refuses: bool,
}

impl ScriptedPeer {
    /// Starts a peer that accepts these streams.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::build`](crate::Builder::build).
    pub async fn new<S: Into<String>>(
        network: &MemoryNetwork,
        streams: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let streams: Vec<String> = streams.into_iter().map(Into::into).collect();
        let node = Node::builder(Keypair::generate_ed25519())
            .config(Config::for_tests())
            .streams(streams.clone())
            .build_over(network)
            .await?;
        let peer = Self { node, script: Arc::default() };
        peer.run(streams)?;
        Ok(peer)
    }

    /// Returns the peer's id.
    pub fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Returns the peer's key.
    pub fn key(&self) -> PublicKey {
        self.node.public_key()
    }

    /// Returns the address to reach it by.
    pub fn addr(&self) -> Multiaddr {
        self.node.addrs().into_iter().next().unwrap_or_else(Multiaddr::empty)
    }

    /// Returns the node that it runs on, to do with as with any other.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Whenever it receives `message` on the stream, it sends `answer` there. On
    /// [`HANDSHAKE`](crate::HANDSHAKE) too. Of several answers to one message each is said.
    pub fn answer(&self, stream: &str, message: impl Into<Bytes>, answer: impl Into<Bytes>) {
        let mut script = self.lock();
        let answers = script.answers.entry((stream.to_owned(), message.into())).or_default();
        answers.push(answer.into());
    }

    /// From now on it rejects handshakes.
    pub fn refuse_handshakes(&self) {
        self.lock().refuses = true;
    }

    /// Says something without being asked.
    ///
    /// # Errors
    ///
    /// Those of [`Node::send`].
    pub async fn say(
        &self,
        to: PeerId,
        stream: &str,
        message: impl Into<Bytes>,
    ) -> Result<(), Error> {
        self.node.send(to, stream, message).await
    }

    /// Returns what it has heard on a stream, in order.
    pub fn heard(&self, stream: &str) -> Vec<Bytes> {
        let script = self.lock();
        let on_stream = script.heard.iter().filter(|message| message.stream() == stream);
        on_stream.map(|message| message.data.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        crate::mailbox::lock(&self.script)
    }

    fn run(&self, streams: Vec<String>) -> Result<(), Error> {
        let internal = || Error::new(ErrorCode::Internal);
        let mut messages = self.node.messages().ok_or_else(internal)?;
        let mut connected = self.node.events_for_states([ConnectionState::Connected]);
        let runtime = self.node.shared().runtime.clone();
        // Weak hands: the peer stops when the test drops it.
        let node = self.node.downgrade();
        let script = self.script.clone();
        runtime.spawn(Box::pin(async move {
            while let Some(message) = messages.next().await {
                let key = (message.stream().to_owned(), message.data.clone());
                let (peer, answers) = {
                    let mut script = crate::mailbox::lock(&script);
                    let peer = message.peer;
                    script.heard.push(message);
                    (peer, script.answers.get(&key).cloned().unwrap_or_default())
                };
                for answer in answers {
                    let Some(node) = node.upgrade() else { return };
                    // The peer may be gone by now; then the answer is not awaited.
                    drop(node.send(peer, &key.0, answer).await);
                }
            }
        }));
        let (node, script) = (self.node.downgrade(), self.script.clone());
        runtime.spawn(Box::pin(async move {
            while let Some(event) = connected.next().await {
                let (Some((peer, _)), Some(node)) = (event.state(), node.upgrade()) else { return };
                if crate::mailbox::lock(&script).refuses {
                    drop(node.reject_handshake(peer, "the script says so"));
                } else if let Ok(key) = PublicKey::try_from(&peer) {
                    // The session may be over again by now.
                    drop(node.complete_handshake(peer, key, &streams).await);
                }
            }
        }));
        Ok(())
    }
}
