//! Messages: none is lost or repeated, and all are accounted for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, StreamExt};
use glueberry_tokio::ConnectionState::{Connected, Connecting, Disconnected, Established};
use glueberry_tokio::identity::PeerId;
use glueberry_tokio::{Event, Node, StreamHandle};
use tokio::time::timeout;

use super::{Polls, each};
use crate::cancel::tight;
use crate::support::{Party, STREAM, STREAMS, pair, quick, run};

const LONG: Duration = Duration::from_secs(60);

fn numbered(number: u64) -> Bytes {
    let mut message = number.to_be_bytes().to_vec();
    message.resize(8 * 1024, 0);
    message.into()
}

fn number(message: &Bytes) -> u64 {
    u64::from_be_bytes(message[..8].try_into().unwrap())
}

/// What sends on one stream, and what it knows to be accepted.
struct Sender {
    node: Node,
    to: PeerId,
    next: u64,
    accepted: Vec<u64>,
}

impl Sender {
    fn of(a: &Party, b: &Party) -> Self {
        Self { node: a.node.clone(), to: b.id(), next: 0, accepted: Vec::new() }
    }

    fn message(&mut self) -> (u64, Bytes) {
        self.next += 1;
        (self.next, numbered(self.next))
    }

    fn batch(&mut self) -> VecDeque<Bytes> {
        (0..6).map(|_| self.message().1).collect()
    }

    /// What is no longer in a batch was accepted.
    fn note(&mut self, batch: &VecDeque<Bytes>) {
        let left = batch.front().map_or(self.next + 1, number);
        self.accepted.extend((self.next - 5)..left);
    }

    async fn send(&mut self, polls: Polls) -> bool {
        let (number, message) = self.message();
        let sent = polls.of(self.node.send(self.to, STREAM, message)).await;
        self.accepted.extend(sent.is_some().then_some(number));
        sent.transpose().unwrap().is_some()
    }

    async fn send_many(&mut self, polls: Polls) -> bool {
        let mut batch = self.batch();
        let sent = polls.of(self.node.send_many(self.to, STREAM, &mut batch)).await;
        self.note(&batch);
        sent.transpose().unwrap().is_some()
    }

    async fn send_by(&mut self, handle: &mut StreamHandle, polls: Polls) -> bool {
        let (number, message) = self.message();
        let sent = polls.of(handle.send(message)).await;
        self.accepted.extend(sent.is_some().then_some(number));
        sent.transpose().unwrap().is_some()
    }

    async fn send_many_by(&mut self, handle: &mut StreamHandle, polls: Polls) -> bool {
        let mut batch = self.batch();
        let sent = polls.of(handle.send_many(&mut batch)).await;
        self.note(&batch);
        sent.transpose().unwrap().is_some()
    }

    /// What a sink has taken is accepted, whether it was flushed or not.
    async fn feed(&mut self, handle: &mut StreamHandle, polls: Polls) -> bool {
        let ready = polls.of(poll_fn(|cx| Pin::new(&mut *handle).poll_ready(cx))).await;
        if ready.transpose().unwrap().is_none() {
            return false;
        }
        let (number, message) = self.message();
        Pin::new(&mut *handle).start_send(message).unwrap();
        self.accepted.push(number);
        polls.of(SinkExt::flush(handle)).await.transpose().unwrap().is_some()
    }
}

/// Reads until a message says that it is the last.
async fn read(mut b: Party) -> (Vec<u64>, Party) {
    let mut heard = Vec::new();
    loop {
        let message = timeout(LONG, b.messages.recv()).await.expect("it stands still").unwrap();
        match number(&message.data) {
            u64::MAX => return (heard, b),
            number => heard.push(number),
        }
    }
}

/// While the reader reads, so all are ready in the end; and before, while the queue is full.
#[test]
fn senders_that_are_dropped_send_whole_messages_or_none() {
    run(async {
        let (a, b) = pair(tight()).await;
        let mut sender = Sender::of(&a, &b);
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        while sender.send(Polls(3)).await {}
        for polls in (0..4).map(Polls) {
            assert!(!sender.send(polls).await);
            assert!(!sender.send_many(polls).await);
            assert!(!sender.send_by(&mut handle, polls).await);
            assert!(!sender.send_many_by(&mut handle, polls).await);
            assert!(!sender.feed(&mut handle, polls).await);
        }
        let reading = tokio::spawn(read(b));
        each("send", async |polls| sender.send(polls).await).await;
        each("send_many", async |polls| sender.send_many(polls).await).await;
        each("handle.send", async |polls| sender.send_by(&mut handle, polls).await).await;
        each("handle.send_many", async |polls| sender.send_many_by(&mut handle, polls).await).await;
        each("sink", async |polls| sender.feed(&mut handle, polls).await).await;
        each("close", async |polls| {
            let closed = poll_fn(|cx| Pin::new(&mut handle).poll_close(cx));
            polls.of(closed).await.transpose().unwrap().is_some()
        })
        .await;
        handle.send(numbered(u64::MAX)).await.unwrap();
        let (heard, _b) = reading.await.unwrap();
        assert_eq!(heard, sender.accepted);
    });
}

/// The session ends while the queue is full: what was accepted is delivered, unsent or in doubt.
#[test]
fn what_was_accepted_of_dropped_senders_is_accounted_for() {
    run(async {
        let (mut a, mut b) = pair(tight()).await;
        let mut sender = Sender::of(&a, &b);
        let mut handle = a.node.stream(b.id(), STREAM).unwrap();
        while sender.send(Polls(3)).await {}
        for polls in (0..3).map(Polls) {
            sender.send(polls).await;
            sender.send_many(polls).await;
            sender.send_by(&mut handle, polls).await;
            sender.send_many_by(&mut handle, polls).await;
            sender.feed(&mut handle, polls).await;
        }
        b.node.disconnect(a.id()).await.unwrap();
        let closed = a
            .event(|event| match event {
                Event::SessionClosed { closed, .. } => Some(closed),
                _ => None,
            })
            .await;
        a.node.shutdown().await;
        b.node.shutdown().await;
        let mut delivered = 0;
        while let Some(message) = timeout(LONG, b.messages.recv()).await.unwrap() {
            if message.is_handshake() {
                continue;
            }
            assert_eq!(Some(&number(&message.data)), sender.accepted.get(delivered));
            delivered += 1;
        }
        let known = delivered + closed.unsent + usize::try_from(closed.not_received).unwrap();
        let in_doubt = usize::try_from(closed.in_doubt).unwrap();
        let accepted = sender.accepted.len();
        assert!(closed.unsent > 0);
        assert!(
            (known..=known + in_doubt).contains(&accepted),
            "{accepted} {delivered} {closed:?}"
        );
    });
}

/// Each way to read, dropped after each number of polls, in turn.
#[test]
fn readers_that_are_dropped_lose_nothing() {
    run(async {
        let (a, mut b) = pair(tight()).await;
        let mut handle = b.node.stream(a.id(), STREAMS[1]).unwrap();
        for stream in STREAMS {
            let (node, to) = (a.node.clone(), b.id());
            tokio::spawn(async move {
                for number in 0..300 {
                    node.send(to, stream, numbered(number)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        let (mut heard, mut other) = (Vec::new(), Vec::new());
        let mut round = 0;
        while heard.len() < 300 || other.len() < 300 {
            let (polls, way) = (Polls(round % 4), round / 4 % 3);
            round += 1;
            assert!(round < 100_000, "{} and {}", heard.len(), other.len());
            let mut batch = Vec::new();
            if heard.len() < 300 {
                let one = match way {
                    0 => polls.of(b.messages.recv()).await,
                    1 => polls.of(b.messages.next()).await,
                    _ => polls.of(b.messages.recv_many(&mut batch, 7)).await.and(None),
                };
                batch.extend(one.flatten());
                heard.extend(batch.iter().map(|message| number(&message.data)));
            }
            let mut batch = Vec::new();
            if other.len() < 300 {
                let one = match way {
                    0 => polls.of(handle.recv()).await,
                    1 => polls.of(handle.next()).await,
                    _ => polls.of(handle.recv_many(&mut batch, 7)).await.and(None),
                };
                batch.extend(one.flatten());
                other.extend(batch.iter().map(number));
            }
        }
        let all: Vec<u64> = (0..300).collect();
        assert!(heard == all && other == all, "{heard:?} {other:?}");
    });
}

#[test]
fn events_that_are_not_awaited_stay() {
    run(async {
        let (mut a, mut b) = (Party::greeting(quick()).await, Party::greeting(quick()).await);
        let mut all = a.node.events();
        a.dial(&b).await;
        b.until(Established).await;
        a.until(Established).await;
        a.node.shutdown().await;
        let mut whole = a.node.events_for_peer(b.id());
        assert!(whole.recv().await.is_none());
        let mut seen = Vec::new();
        for round in 0.. {
            let event = match round % 2 {
                0 => Polls(round % 3).of(all.recv()).await,
                _ => Polls(round % 3).of(all.next()).await,
            };
            match event {
                Some(Some(Event::State(changed))) => seen.push(changed.state),
                Some(None) => break,
                _ => {}
            }
        }
        assert_eq!(seen, [Connecting, Connected, Established, Disconnected]);
    });
}
