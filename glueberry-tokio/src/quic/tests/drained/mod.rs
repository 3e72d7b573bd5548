//! What reaches quinn behind the end of a connection, in an order that is fixed here: quinn's tasks
//! are polled by hand.

mod attacker;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Waker};

use futures_util::FutureExt;
use quinn::ConnectionError;

use self::attacker::Attacker;
use super::*;
use crate::quic::tls::Tls;
use crate::runtime::{Task, Timer, TokioRuntime};

fn new_attacker() -> Attacker {
    let tls = Tls::new(&Keypair::generate_ed25519()).unwrap();
    Attacker::new(tls.rustls_client(None).unwrap().0.try_into().unwrap())
}

/// A runtime whose tasks run when a test says so.
#[derive(Debug)]
struct ByHand {
    runtime: TokioRuntime,
    tasks: Tasks,
}

#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<Option<Task>>>>);

impl ByHand {
    fn new() -> Arc<Self> {
        let runtime = TokioRuntime::current().unwrap();
        Arc::new(Self { runtime, tasks: Tasks::default() })
    }
}

impl Tasks {
    fn push(&self, task: Task) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Some(task));
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Polls the tasks from one on, in the order in which they were spawned.
    fn poll_from(&self, first: usize) {
        for index in first..self.count() {
            self.poll(index);
        }
    }

    fn poll(&self, index: usize) {
        let take = |task: Option<Task>| {
            let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut tasks[index], task)
        };
        if let Some(mut task) = take(None) {
            let mut cx = Context::from_waker(Waker::noop());
            if task.as_mut().poll(&mut cx).is_pending() {
                take(Some(task));
            }
        }
    }

    /// Polls all, until what was sent has arrived everywhere.
    async fn settle(&self) {
        for _ in 0..30 {
            self.poll_from(0);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Runtime for ByHand {
    fn spawn(&self, task: Task) {
        self.tasks.push(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.runtime.timer()
    }

    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        let quinn = self.runtime.quinn()?;
        Some(Arc::new(QuinnByHand { quinn, tasks: self.tasks.clone() }))
    }
}

#[derive(Debug)]
struct QuinnByHand {
    quinn: Arc<dyn quinn::Runtime>,
    tasks: Tasks,
}

impl quinn::Runtime for QuinnByHand {
    fn new_timer(&self, deadline: std::time::Instant) -> std::pin::Pin<Box<dyn quinn::AsyncTimer>> {
        self.quinn.new_timer(deadline)
    }

    fn spawn(&self, task: Task) {
        self.tasks.push(task);
    }

    fn wrap_udp_socket(
        &self,
        socket: std::net::UdpSocket,
    ) -> std::io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        self.quinn.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        self.quinn.now()
    }
}

/// A node whose tasks run by hand: the first is that of its socket.
struct Victim {
    runtime: Arc<ByHand>,
    node: Node,
}

impl Victim {
    fn new() -> Self {
        let runtime = ByHand::new();
        let by_hand: Arc<dyn Runtime> = runtime.clone();
        let node = Node::listening(&by_hand);
        assert_eq!(runtime.tasks.count(), 1);
        Self { runtime, node }
    }

    /// Lets an attacker connect. Returns both ends.
    async fn accept(&self, attacker: &Attacker) -> (quinn::Connection, quinn::Connection) {
        let dial = attacker.dial(self.node.address());
        let (mut dial, mut accept) = (Box::pin(dial), Box::pin(self.node.accept()));
        let (mut dialled, mut accepted) = (None, None);
        while dialled.is_none() || accepted.is_none() {
            dialled = dialled.or_else(|| dial.as_mut().now_or_never());
            accepted = accepted.or_else(|| accept.as_mut().now_or_never());
            self.runtime.tasks.poll_from(0);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.runtime.tasks.settle().await;
        (dialled.unwrap(), accepted.unwrap().unwrap().0)
    }

    /// Has the socket read what was sent to it, and no connection look at it.
    async fn receive(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.runtime.tasks.poll(0);
    }
}

/// A peer that has forgotten a connection answers its close by a reset.
#[tokio::test]
async fn a_reset_that_comes_while_the_sockets_are_freed_does_no_harm() {
    let (victim, attacker) = (Victim::new(), new_attacker());
    let (_dialled, accepted) = victim.accept(&attacker).await;
    attacker.reset(victim.node.address());
    victim.receive().await;
    let runtime: Arc<dyn Runtime> = victim.runtime.clone();
    let mut shut_down = Box::pin(victim.node.endpoint.shut_down(&*runtime));
    let mut cx = Context::from_waker(Waker::noop());
    while shut_down.as_mut().poll(&mut cx).is_pending() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    victim.runtime.tasks.settle().await;
    assert!(matches!(
        accepted.close_reason(),
        Some(ConnectionError::Reset | ConnectionError::LocallyClosed)
    ));
}

/// The place of a connection that was reset belongs to the next one.
#[tokio::test]
async fn an_illegal_packet_behind_a_reset_ends_no_other_connection() {
    let (victim, attacker) = (Victim::new(), new_attacker());
    let (dialled, accepted) = victim.accept(&attacker).await;
    attacker.reset(victim.node.address());
    attacker.be_illegal(true);
    let (mut send, _recv) = dialled.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    victim.receive().await;
    attacker.be_illegal(false);
    victim.runtime.tasks.settle().await;
    assert_eq!(accepted.close_reason(), Some(ConnectionError::Reset));
    let friend = new_attacker();
    let (theirs, other) = victim.accept(&friend).await;
    drop(accepted);
    victim.runtime.tasks.settle().await;
    let (mut send, _recv) = theirs.open_bi().await.unwrap();
    send.write_all(b"x").await.unwrap();
    victim.runtime.tasks.settle().await;
    assert_eq!(other.close_reason(), None);
    assert!(other.accept_bi().now_or_never().is_some(), "it does not live");
}
