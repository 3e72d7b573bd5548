//! Messages that are passed on in their sender's turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use glueberry_tokio::Config;
use glueberry_tokio::runtime::{Runtime, Task, Timer, TokioRuntime};

use crate::support::{Party, STREAM, keypair, pair};

/// Nothing else runs between the calls: there is one thread, and no await.
#[test]
fn a_message_goes_out_in_its_senders_turn_and_those_behind_it_share_the_tasks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, mut b) = pair(Config::default()).await;
        let to = b.id();
        let sent = || a.node.peer_statistics(to).unwrap().streams[STREAM].messages_sent;
        // This one opens the substream, which takes the task.
        a.node.send(to, STREAM, "0").await.unwrap();
        assert_eq!(b.message().await.data, "0");
        for round in 0..3_u64 {
            let before = 1 + 3 * round;
            assert_eq!(sent(), before);
            for number in ["1", "2", "3"] {
                a.node.try_send(to, STREAM, number).unwrap();
                assert_eq!(sent(), before + 1, "message {number}");
            }
            for number in ["1", "2", "3"] {
                assert_eq!(b.message().await.data, number);
            }
        }
    });
}

/// Tokio's runtime, with a count of how often its timers were polled.
#[derive(Debug, Clone)]
struct Counted {
    inner: TokioRuntime,
    polls: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct CountedTimer {
    inner: Box<dyn Timer>,
    polls: Arc<AtomicUsize>,
}

impl Runtime for Counted {
    fn spawn(&self, task: Task) {
        self.inner.spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(CountedTimer { inner: self.inner.timer(), polls: self.polls.clone() })
    }

    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        self.inner.quinn()
    }
}

impl Timer for CountedTimer {
    fn reset(&mut self, deadline: Option<Instant>) {
        self.inner.reset(deadline);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.inner.poll(cx)
    }
}

/// A timer of tokio's panics in whoever polls it while its runtime shuts down, so a sender, who may be
/// on another runtime, must not.
#[test]
fn a_senders_turn_polls_no_timer_of_the_nodes_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut a, mut b, counted) = runtime.block_on(async {
        let inner = TokioRuntime::current().unwrap();
        let counted = Counted { inner, polls: Arc::default() };
        let on = Arc::new(counted.clone());
        let a = Party::of(keypair(1), Config::default(), |builder| builder.runtime(on)).await;
        let mut b = Party::greeting(Config::default()).await;
        a.greet();
        a.dial(&b).await;
        a.node.wait_established(b.id()).await.unwrap();
        a.node.send(b.id(), STREAM, "opens the substream").await.unwrap();
        b.message().await;
        (a, b, counted)
    });
    for number in ["1", "2", "3"] {
        let polls = || counted.polls.load(Ordering::Relaxed);
        let sent = || a.node.peer_statistics(b.id()).unwrap().streams[STREAM].messages_sent;
        let before = (polls(), sent());
        a.node.try_send(b.id(), STREAM, number).unwrap();
        assert_eq!((polls(), sent()), (before.0, before.1 + 1), "message {number}");
        // The answer has the task run, after which there is another sender's turn.
        runtime.block_on(async {
            assert_eq!(b.message().await.data, number);
            b.node.send(a.id(), STREAM, number).await.unwrap();
            assert_eq!(a.message().await.data, number);
        });
    }
}
