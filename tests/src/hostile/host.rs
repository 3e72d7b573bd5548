//! Nodes on a runtime of their own: the victim, and honest peers that talk with it all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::{ConnectionState, HANDSHAKE, Messages, Node, PublicKey};
use tokio::runtime::Runtime;

use super::within;
use crate::fabric::Fabric;

/// The stream on which honest peers talk.
pub(super) const STREAM: &str = "chat";
/// All that the victim has.
pub(super) const STREAMS: [&str; 2] = [STREAM, "bulk"];

/// A node in its default configuration, with a thread of its own.
#[derive(Debug)]
struct Host {
    node: Node,
    runtime: Option<Runtime>,
}

impl Host {
    async fn start(fabric: Fabric, keys: Keypair) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let builder = Node::builder(keys).listen(fabric.listen()).streams(STREAMS);
        let built = runtime.spawn(fabric.build(builder)).await.expect("no panic");
        Self { node: built.expect("built"), runtime: Some(runtime) }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            drop(runtime.spawn(task));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The node that is attacked. Its application completes the handshake with whoever says its own
/// key, answers friends with what they send, and notes what others send.
#[derive(Debug)]
pub(super) struct Victim {
    host: Host,
    pub(super) keys: Keypair,
    heard: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    friends: Mutex<BTreeSet<PeerId>>,
    others: Mutex<BTreeMap<PeerId, Vec<Bytes>>>,
}

impl Victim {
    pub(super) async fn start(fabric: Fabric) -> Self {
        let keys = Keypair::generate_ed25519();
        let host = Host::start(fabric, keys.clone()).await;
        let messages = host.node.messages().expect("first");
        let heard = Arc::new(Heard::default());
        host.spawn(serve(host.node.clone(), messages, heard.clone()));
        Self { host, keys, heard }
    }

    pub(super) const fn node(&self) -> &Node {
        &self.host.node
    }

    /// Returns what a peer that is no friend has sent on named streams, up to the first thousand.
    pub(super) fn heard(&self, peer: PeerId) -> Vec<Bytes> {
        lock(&self.heard.others).get(&peer).cloned().unwrap_or_default()
    }

    /// Waits until a peer that is no friend has been heard to say something.
    pub(super) async fn hears(&self, peer: PeerId, text: &[u8]) {
        within("what was said is heard", async {
            while !self.heard(peer).iter().any(|heard| heard == text) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
}

async fn serve(node: Node, mut messages: Messages, heard: Arc<Heard>) {
    while let Some(message) = messages.recv().await {
        let peer = message.peer;
        if message.is_handshake() {
            // A key is dear to check, and much else may be said.
            let is_hello = message.data.len() == 32;
            let key = is_hello.then(|| PublicKey::try_from(&peer).ok()).flatten();
            if let Some(key) = key.filter(|key| message.data == key.as_bytes()[..]) {
                let node = node.clone();
                tokio::spawn(async move {
                    // The session may be over by then.
                    drop(node.complete_handshake(peer, key, &STREAMS).await);
                });
            }
        } else if lock(&heard.friends).contains(&peer) {
            drop(node.send(peer, STREAM, message.data).await);
        } else {
            let mut others = lock(&heard.others);
            let of_peer = others.entry(peer).or_default();
            if of_peer.len() < 1000 {
                of_peer.push(message.data);
            }
        }
    }
}

/// A peer that sends numbers at a fixed pace, and gets each back from the victim.
#[derive(Debug)]
pub(super) struct Honest {
    host: Host,
    victim: PeerId,
    talk: Arc<Talk>,
}

#[derive(Debug)]
struct Talk {
    sent: AtomicU64,
    echoed: AtomicU64,
    is_over: AtomicBool,
    fault: Mutex<Option<String>>,
    latest: Mutex<Instant>,
    /// Microseconds without an echo.
    longest_silence: AtomicU64,
}

impl Honest {
    /// Connects, and begins to talk. Returns also how long it took until the first echo.
    pub(super) async fn connect(fabric: Fabric, victim: &Victim) -> (Self, Duration) {
        let keys = Keypair::generate_ed25519();
        let host = Host::start(fabric, keys).await;
        let (node, to) = (&host.node, victim.node());
        lock(&victim.heard.friends).insert(node.peer_id());
        let talk = Arc::new(Talk {
            sent: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            fault: Mutex::new(None),
            latest: Mutex::new(Instant::now()),
            longest_silence: AtomicU64::new(0),
        });
        let this = Self { victim: to.peer_id(), talk, host };
        let began = Instant::now();
        within("an honest peer connects", this.establish(to)).await;
        let messages = this.host.node.messages().expect("first");
        this.host.spawn(listen(messages, this.talk.clone()));
        this.host.spawn(talk_on(this.host.node.clone(), this.victim, this.talk.clone()));
        within("an honest peer is answered", async {
            while this.echoed() == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        (this, began.elapsed())
    }

    async fn establish(&self, to: &Node) {
        let node = &self.host.node;
        node.add_peer(self.victim, to.addrs()).await.expect("peer added");
        node.connect(self.victim).await.expect("an honest peer connects");
        let hello = node.public_key().as_bytes().to_vec();
        node.send(self.victim, HANDSHAKE, hello).await.expect("said");
        let completed = node.complete_handshake(self.victim, to.public_key(), &STREAMS).await;
        completed.expect("completed");
    }

    pub(super) fn echoed(&self) -> u64 {
        self.talk.echoed.load(Ordering::Relaxed)
    }

    /// Returns the longest time without an echo since the last call.
    pub(super) fn longest_silence(&self) -> Duration {
        Duration::from_micros(self.talk.longest_silence.swap(0, Ordering::Relaxed))
    }

    /// Stops talking, and checks that nothing was lost, repeated or out of order, and that it was
    /// one session all the time.
    pub(super) async fn finish(&self) {
        self.talk.is_over.store(true, Ordering::Release);
        within("every message is answered", async {
            while self.talk.sent.load(Ordering::Acquire) != self.echoed() {
                assert_eq!(*lock(&self.talk.fault), None, "at an honest peer");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(*lock(&self.talk.fault), None, "at an honest peer");
        let state = self.host.node.connection_state(self.victim);
        assert_eq!(state, ConnectionState::Established, "of an honest peer");
    }

    /// Finishes, and takes its leave: of one that only vanished, the victim would hold the windows until
    /// it is missed.
    pub(super) async fn leave(self) {
        self.finish().await;
        self.host.node.shutdown().await;
    }
}

async fn talk_on(node: Node, victim: PeerId, talk: Arc<Talk>) {
    // What it is late with it makes up for, so the pace is kept on a busy machine, too.
    let mut pace = tokio::time::interval(PACE);
    for number in 0_u64.. {
        pace.tick().await;
        if talk.is_over.load(Ordering::Acquire) {
            return;
        }
        talk.sent.fetch_add(1, Ordering::AcqRel);
        let text = number.to_be_bytes().to_vec();
        if let Err(error) = node.send(victim, STREAM, text).await {
            *lock(&talk.fault) = Some(format!("message {number} was not sent: {error}"));
            return;
        }
    }
}

async fn listen(mut messages: Messages, talk: Arc<Talk>) {
    let mut expected = 0_u64;
    while let Some(message) = messages.recv().await {
        if message.is_handshake() {
            continue;
        }
        if message.data != expected.to_be_bytes()[..] {
            let fault = format!("{:?} came back in place of {expected}", message.data);
            lock(&talk.fault).get_or_insert(fault);
            return;
        }
        expected += 1;
        let silence = std::mem::replace(&mut *lock(&talk.latest), Instant::now()).elapsed();
        let silence = u64::try_from(silence.as_micros()).unwrap_or(u64::MAX);
        talk.longest_silence.fetch_max(silence, Ordering::Relaxed);
        talk.echoed.fetch_add(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// Time between two messages of an honest peer: far less than a node can carry, so that it is the
/// attack that is measured and not the machine.
const PACE: Duration = Duration::from_millis(5);
