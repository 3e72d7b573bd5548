//! Programs that are written against the core's handler trait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use glueberry_tokio::proto::handler::{Context, Handler, Notice};
use glueberry_tokio::runtime::TokioRuntime;
use glueberry_tokio::{ConnectionState, PublicKey, StreamName, run_handler};

use crate::cancel::tight;
use crate::support::{Party, STREAM, eventually, run};

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
