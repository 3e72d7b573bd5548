//! Nodes, runtimes and waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use glueberry_tokio::identity::{Keypair, PeerId};
use glueberry_tokio::runtime::{AnyRuntime, Runtime, TokioRuntime};
use glueberry_tokio::{
    Config, ConnectionState, Event, Events, HANDSHAKE, Messages, Metrics, NoMetrics, Node,
};

pub(crate) const STREAM: &str = "chat";

pub(crate) type Test = fn(Arc<dyn Runtime>) -> Pin<Box<dyn Future<Output = ()>>>;

/// Runs a test on tokio, smol and async-std, and on threads that block.
pub(crate) fn on_every_runtime(test: Test) {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async {
        let runtime = Arc::new(TokioRuntime::current().unwrap());
        in_time(&TokioRuntime::current().unwrap(), test(runtime)).await;
    });
    smol::block_on(without_tokio(AnyRuntime::smol(), test));
    async_std::task::block_on(without_tokio(AnyRuntime::async_std(), test));
    let threads = AnyRuntime::new("threads", |task| {
        std::thread::spawn(|| smol::block_on(task));
    });
    smol::block_on(without_tokio(threads, test));
}

async fn without_tokio(runtime: AnyRuntime, test: Test) {
    assert!(tokio::runtime::Handle::try_current().is_err(), "a tokio runtime is near");
    let runtime = Arc::new(runtime);
    in_time(&*runtime.clone(), test(runtime)).await;
}

/// Fails rather than hangs.
async fn in_time<T>(runtime: &dyn Runtime, future: impl Future<Output = T>) -> T {
    let sleep = runtime.sleep_until(runtime.now() + Duration::from_secs(60));
    match select(Box::pin(future), sleep).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("took longer than a minute"),
    }
}

pub(crate) async fn sleep(runtime: &dyn Runtime, time: Duration) {
    runtime.sleep_until(runtime.now() + time).await;
}

/// A node and what its application reads.
pub(crate) struct Party {
    runtime: Arc<dyn Runtime>,
    pub(crate) node: Node,
    pub(crate) messages: Messages,
    pub(crate) events: Events,
}

impl Party {
    pub(crate) async fn new(runtime: &Arc<dyn Runtime>) -> Self {
        Self::with(runtime, Config::default(), &[STREAM]).await
    }

    pub(crate) async fn with(runtime: &Arc<dyn Runtime>, config: Config, streams: &[&str]) -> Self {
        Self::of(runtime, Arc::new(NoMetrics::default()), config, streams).await
    }

    pub(crate) async fn counted(runtime: &Arc<dyn Runtime>, metrics: Arc<dyn Metrics>) -> Self {
        Self::of(runtime, metrics, Config::default(), &[STREAM]).await
    }

    async fn of(
        runtime: &Arc<dyn Runtime>,
        metrics: Arc<dyn Metrics>,
        config: Config,
        streams: &[&str],
    ) -> Self {
        let node = Node::builder(Keypair::generate_ed25519())
            .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap())
            .streams(streams.iter().copied())
            .config(config)
            .runtime(runtime.clone())
            .metrics(metrics)
            .build()
            .await
            .unwrap();
        let messages = node.messages().unwrap();
        let events = node.events();
        Self { runtime: runtime.clone(), node, messages, events }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.node.peer_id()
    }

    pub(crate) async fn dial(&self, other: &Self) {
        self.node.add_peer(other.id(), other.node.addrs()).await.unwrap();
        self.node.connect(other.id()).await.unwrap();
        // The other side learns of it a moment later.
        while other.node.connection_state(self.id()) != ConnectionState::Connected {
            sleep(&*self.runtime, Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn complete(&self, other: &Self, streams: &[&str]) {
        let key = other.node.public_key();
        self.node.complete_handshake(other.id(), key, streams).await.unwrap();
    }

    pub(crate) async fn until(&mut self, state: ConnectionState) {
        while let Some(event) = self.events.recv().await {
            if event.state().is_some_and(|(_, now)| now == state) {
                return;
            }
        }
        panic!("the node stopped before {state}");
    }

    /// Waits for an event that `pick` picks something from.
    pub(crate) async fn event<T>(&mut self, pick: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv().await.expect("the node stopped");
            if let Some(picked) = pick(event) {
                return picked;
            }
        }
    }
}

/// Connects two parties and takes them through the handshake.
#[expect(clippy::needless_pass_by_ref_mut, reason = "both sides look alike where it is called")]
pub(crate) async fn establish(a: &mut Party, b: &mut Party, streams: &[&str]) {
    a.dial(b).await;
    let hello = a.node.public_key().as_bytes().to_vec();
    a.node.send(b.id(), HANDSHAKE, hello.clone()).await.unwrap();
    let heard = b.messages.recv().await.unwrap();
    assert!(heard.is_handshake());
    assert_eq!((heard.peer, &heard.data[..]), (a.id(), &hello[..]));
    b.complete(a, streams).await;
    a.complete(b, streams).await;
}

pub(crate) async fn pair(runtime: &Arc<dyn Runtime>) -> (Party, Party) {
    let (mut a, mut b) = (Party::new(runtime).await, Party::new(runtime).await);
    establish(&mut a, &mut b, &[STREAM]).await;
    (a, b)
}
