//! Programs that are written against the core's handler trait.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{Either, select};
use glueberry_tokio::proto::handler::{Context, Handler, Notice};
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{ConnectionState, PublicKey, ReconnectPolicy, StreamName, run_handler};

use crate::cancel::tight;
use crate::support::{Party, STREAM, eventually, keypair, quick, run, somewhere};

/// Sends for as long as it can.
struct Flood {
    /// How often a full queue was reported to accept again.
    reopened: Arc<AtomicUsize>,
    /// A report was wrong.
    is_wrong: Arc<AtomicBool>,
}

impl Flood {
    /// Returns whether anything was accepted.
    fn send(context: &mut dyn Context, peer: PublicKey) -> bool {
        let stream = StreamName::new(STREAM).unwrap();
        let mut is_accepted = false;
        while context.send(peer, &stream, vec![0; 8 * 1024].into()).is_ok() {
            is_accepted = true;
        }
        is_accepted
    }
}

impl Handler for Flood {
    fn on_event(&mut self, context: &mut dyn Context, notice: Notice) {
        match notice {
            Notice::State { peer, state: ConnectionState::Established, .. } => {
                Self::send(context, peer);
            }
            Notice::Writable { peer, .. } => {
                self.reopened.fetch_add(1, Ordering::Relaxed);
                if !Self::send(context, peer) {
                    self.is_wrong.store(true, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, _: bytes::Bytes) {}

    fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
}

#[test]
fn a_program_is_told_that_a_queue_accepts_again_when_it_does_and_not_before() {
    run(async {
        let (reopened, is_wrong) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let flood = Flood { reopened: reopened.clone(), is_wrong: Arc::clone(&is_wrong) };
        let Party { node, messages, events } = Party::new(tight()).await;
        let mut b = Party::greeting(tight()).await;
        node.add_peer(b.id(), b.node.addrs()).await.unwrap();
        let program = tokio::spawn({
            let (node, runtime) = (node.clone(), Arc::new(TokioRuntime::current().unwrap()));
            let streams = [StreamName::new(STREAM).unwrap()];
            async move { run_handler(&node, events, messages, runtime, &streams, flood).await }
        });
        node.connect(b.id()).await.unwrap();
        b.until(ConnectionState::Established).await;
        // All of it is full in the end, and nobody reads.
        let mut before = usize::MAX;
        while before != reopened.load(Ordering::Relaxed) {
            before = reopened.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        for _ in 0..20 {
            b.message().await;
        }
        eventually("it accepts again", || reopened.load(Ordering::Relaxed) > before).await;
        // A queue that accepts again may be closed before its program looks.
        assert!(!is_wrong.load(Ordering::Relaxed), "told too early");
        node.shutdown().await;
        program.await.unwrap();
    });
}

/// Remembers the states that it has learnt of.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(PublicKey, ConnectionState)>>>);

impl Told {
    fn of(&self, peer: PublicKey) -> Vec<ConnectionState> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(of, _)| *of == peer).map(|(_, state)| *state).collect()
    }
}

impl Handler for Told {
    fn on_event(&mut self, _: &mut dyn Context, notice: Notice) {
        if let Notice::State { peer, state, .. } = notice {
            self.0.lock().unwrap().push((peer, state));
        }
    }

    fn on_message(&mut self, _: &mut dyn Context, _: PublicKey, _: &StreamName, _: bytes::Bytes) {}

    fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
}

#[test]
fn a_program_that_lags_learns_of_each_end_and_of_nothing_twice() {
    run(async {
        let mut config = quick();
        config.event_buffer = 1;
        config.core.reconnect = ReconnectPolicy::never();
        let Party { node, messages, events } = Party::new(config).await;
        let (mut b, told) = (Party::greeting(quick()).await, Told::default());
        let (runtime, streams) =
            (Arc::new(TokioRuntime::current().unwrap()), [StreamName::new(STREAM).unwrap()]);
        let program = run_handler(&node, events, messages, runtime, &streams, told.clone());
        let mut program = pin!(program);
        node.add_peer(b.id(), b.node.addrs()).await.unwrap();
        let established = async {
            node.connect(b.id()).await.unwrap();
            let knows = || told.of(b.node.public_key()).ends_with(&[ConnectionState::Established]);
            eventually("the program knows", knows).await;
            b.until(ConnectionState::Established).await;
        };
        let Either::Right(_) = select(&mut program, pin!(established)).await else { panic!() };
        // It does not look for a while: of more events than fit, the end of the session is one.
        let before = told.of(b.node.public_key()).len();
        let other = keypair(77).public().to_peer_id();
        node.add_peer(other, [somewhere()]).await.unwrap();
        let connecting = node.clone();
        tokio::spawn(async move { connecting.connect(other).await });
        eventually("it dials", || node.is_outbound(other).is_some()).await;
        b.node.shutdown().await;
        let is_over = || node.connection_state(b.id()) == ConnectionState::Disconnected;
        eventually("it is over", is_over).await;
        let knows = || told.of(b.node.public_key()).len() > before;
        let Either::Right(_) =
            select(&mut program, pin!(eventually("the program knows", knows))).await
        else {
            panic!()
        };
        let of_b = told.of(b.node.public_key());
        assert_eq!(of_b[before..], [ConnectionState::Disconnected]);
        node.shutdown().await;
        program.await;
    });
}
