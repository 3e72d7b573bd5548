//! A transport that connects to no peer: the test sees what the node wants of it, and answers.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use glueberry_tokio::adapter::{Fabric, Parts, Shared, Transport};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::proto::{Address, DialError, DialId};
use glueberry_tokio::{Builder, Config, Error, Node, PublicKey, ReconnectPolicy};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// What the node wants of its transport.
#[derive(Debug)]
enum Wanted {
    Dial(DialId),
    Banned(PeerId),
}

/// A node, and what it wants of its transport.
struct Bare {
    node: Node,
    shared: Arc<Shared>,
    wanted: Receiver<Wanted>,
}

impl Bare {
    async fn new(change: impl FnOnce(Builder) -> Builder) -> Self {
        let mut config = Config::default();
        config.core.reconnect = ReconnectPolicy::never();
        let builder = Node::builder(Keypair::generate_ed25519()).config(config);
        let (tell, wanted) = channel(100);
        let shared = Arc::new(OnceLock::new());
        let fabric = BareFabric { tell, shared: shared.clone() };
        let node = change(builder).build_over(fabric).await.unwrap();
        Self { node, shared: shared.get().unwrap().clone(), wanted }
    }

    async fn next(&mut self) -> Wanted {
        timeout(Duration::from_secs(20), self.wanted.recv()).await.unwrap().unwrap()
    }

    async fn dial(&mut self) -> DialId {
        match self.next().await {
            Wanted::Dial(dial) => dial,
            other => panic!("{other:?}"),
        }
    }

    async fn banned(&mut self) -> PeerId {
        match self.next().await {
            Wanted::Banned(peer) => peer,
            other => panic!("{other:?}"),
        }
    }
}

struct BareFabric {
    tell: Sender<Wanted>,
    shared: Arc<OnceLock<Arc<Shared>>>,
}

impl Fabric for BareFabric {
    async fn start(self, parts: Parts) -> Result<Node, Error> {
        parts.start(Vec::new(), |shared| {
            self.shared.get_or_init(|| shared.clone());
            BareTransport(self.tell)
        })
    }
}

struct BareTransport(Sender<Wanted>);

impl Transport for BareTransport {
    fn dial(&mut self, dial: DialId, _: PeerId, _: Vec<Address>) {
        self.0.try_send(Wanted::Dial(dial)).unwrap();
    }

    fn cancel(&mut self, _: DialId) {}

    fn banned(&mut self, peer: PeerId) {
        self.0.try_send(Wanted::Banned(peer)).unwrap();
    }

    fn is_listening(&self) -> bool {
        true
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}

fn stranger() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

fn somewhere() -> glueberry_tokio::Multiaddr {
    "/ip4/192.0.2.1/tcp/1".parse().unwrap()
}

#[tokio::test]
async fn a_connect_behind_a_dial_that_has_failed_is_answered_by_its_own() {
    let mut bare = Bare::new(|builder| builder).await;
    let peer = stranger();
    bare.node.add_peer(peer, [somewhere()]).await.unwrap();
    let node = bare.node.clone();
    let first = tokio::spawn(async move { node.connect(peer).await });
    let dial = bare.dial().await;
    // The node gets both at one time.
    bare.shared.dial_failed(dial, DialError::TimedOut);
    let node = bare.node.clone();
    let mut second = Box::pin(async move { node.connect(peer).await });
    let polled = second.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    let error = first.await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains(&DialError::TimedOut.to_string()), "{error:#}");
    let dial = bare.dial().await;
    bare.shared.dial_failed(dial, DialError::Transport("the second".to_owned()));
    let error = timeout(Duration::from_secs(20), second).await.unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("the second"), "{error:#}");
}

#[tokio::test]
async fn a_transport_learns_of_every_ban_also_of_one_that_was_read() {
    let folder = std::env::temp_dir().join(format!("glueberry-bare-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    let book = folder.join("book.json");
    let peer = stranger();
    let before = Bare::new(|builder| builder.address_book(&book)).await;
    before.node.add_peer(peer, [somewhere()]).await.unwrap();
    before.node.shutdown().await;

    let mut bare = Bare::new(|builder| builder.address_book(&book)).await;
    let text = std::fs::read_to_string(&book).unwrap();
    let banning = text.replace(r#""blacklisted": false"#, r#""blacklisted": true"#);
    assert_ne!(text, banning);
    std::fs::write(&book, banning).unwrap();
    bare.node.reload_address_book().await.unwrap();
    assert_eq!(bare.banned().await, peer);
    assert!(bare.shared.is_banned(PublicKey::try_from(&peer).unwrap()));
    bare.node.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_transport_learns_of_a_ban_behind_one_that_is_over() {
    let mut bare = Bare::new(|builder| builder).await;
    let peer = stranger();
    let soon = SystemTime::now() + Duration::from_millis(20);
    bare.node.blacklist_peer(peer, Some(soon)).await.unwrap();
    assert_eq!(bare.banned().await, peer);
    while bare.node.is_blacklisted(peer).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bare.node.blacklist_peer(peer, None).await.unwrap();
    assert_eq!(bare.banned().await, peer);
}
