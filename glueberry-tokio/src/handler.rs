//! Running a program that was written against the core's handler trait.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant as StdInstant, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{Address, ConnectionState, Instant, PublicKey, SendError, StreamName};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::clock::Clock;
use crate::entropy::random;
use crate::error::{Error, ErrorCode};
use crate::event::{Event, StateChanged};
use crate::events::Events;
use crate::inbox::Messages;
use crate::message::Message;
use crate::node::Node;
use crate::runtime::Runtime;

/// Runs a program on a node until that is shut down, and returns it.
///
/// The same program runs unchanged in `glueberry-sim`. The runner completes the handshake with
/// every peer as soon as it is Connected, for `streams`, unless the node
/// [does so itself](crate::Builder::handshake). `events` and `messages` are the node's
/// [`events`](Node::events) and [`messages`](Node::messages); subscribe before any peer knows where
/// the node listens, or peers that came earlier are missed.
///
/// `examples/counter` of `glueberry-sim` is such a program, run in both places.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use glueberry_tokio::proto::handler::{Context, Handler, Notice};
/// use glueberry_tokio::runtime::TokioRuntime;
/// use glueberry_tokio::{PublicKey, StreamName, run_handler};
///
/// /// Counts what it receives, and answers.
/// #[derive(Default)]
/// struct Echo(u32);
///
/// impl Handler for Echo {
///     fn on_event(&mut self, _: &mut dyn Context, _: Notice) {}
///
///     fn on_message(
///         &mut self,
///         context: &mut dyn Context,
///         from: PublicKey,
///         stream: &StreamName,
///         message: bytes::Bytes,
///     ) {
///         self.0 += 1;
///         context.send(from, stream, message).ok();
///     }
///
///     fn on_timer(&mut self, _: &mut dyn Context, _: u64) {}
/// }
///
/// let (alice, bob) = pair().await?;
/// let mut inbox = alice.messages().expect("the first call gets them");
/// let (events, messages) = (bob.events(), bob.messages().expect("the first call gets them"));
/// let runtime = Arc::new(TokioRuntime::current().expect("it runs on tokio"));
/// let streams = [StreamName::new("chat")?];
/// let program = run_handler(&bob, events, messages, runtime, &streams, Echo::default());
/// let rest = async {
///     alice.send(bob.peer_id(), "chat", "hello").await?;
///     assert_eq!(inbox.recv().await.expect("it runs").data, "hello");
///     bob.shutdown().await;
///     Ok::<(), glueberry_tokio::Error>(())
/// };
/// let (program, rest) = tokio::join!(program, rest);
/// rest?;
/// assert_eq!(program.0, 1);
/// # Ok(())
/// # }
/// ```
pub async fn run_handler<H: Handler>(
    node: &Node,
    events: Events,
    messages: Messages,
    runtime: Arc<dyn Runtime>,
    streams: &[StreamName],
    handler: H,
) -> H {
    let clock = Clock::starting_at(runtime.now());
    let hand = Hand {
        node: node.clone(),
        runtime,
        clock,
        streams: streams.iter().map(|stream| stream.as_str().to_owned()).collect(),
        timers: BTreeMap::new(),
        next: 0,
        tasks: FuturesUnordered::new(),
        full: BTreeSet::new(),
        notices: VecDeque::new(),
        reported: BTreeMap::new(),
    };
    let mut runner = Runner { hand, events, messages, handler };
    runner.handler.on_start(&mut runner.hand);
    while runner.turn().await {}
    runner.handler
}

/// What the runner does next.
enum Next {
    Event(Event),
    Message(Message),
    Notice(Notice),
    Timer(u64),
    /// A request succeeded.
    Nothing,
    Over,
}

struct Runner<H> {
    hand: Hand,
    events: Events,
    messages: Messages,
    handler: H,
}

/// Something that is done in the background.
type Request = Pin<Box<dyn Future<Output = Done> + Send>>;

/// What came of a request.
enum Done {
    /// Nothing that the program must know.
    Silently,
    Failed {
        peer: PublicKey,
        why: String,
    },
    /// A queue was full. It accepts messages again, or its session has ended, which the peer's
    /// state reports.
    Waited {
        peer: PublicKey,
        stream: StreamName,
        is_writable: bool,
    },
}

struct Hand {
    node: Node,
    runtime: Arc<dyn Runtime>,
    clock: Clock,
    streams: Vec<String>,
    /// By when they are due, and in which order they were set.
    timers: BTreeMap<(StdInstant, u64), u64>,
    next: u64,
    tasks: FuturesUnordered<Request>,
    /// Streams whose queues have refused a message and are waited for.
    full: BTreeSet<(PublicKey, StreamName)>,
    notices: VecDeque<Notice>,
    /// The state that was last reported of each peer that is not Disconnected, and since when it is so.
    reported: BTreeMap<PeerId, (ConnectionState, SystemTime)>,
}

impl<H: Handler> Runner<H> {
    /// Waits for the next thing and passes it to the program; returns whether the node goes on.
    async fn turn(&mut self) -> bool {
        let deadline = self.hand.timers.first_key_value().map(|((at, _), _)| *at);
        let mut alarm = self.hand.runtime.timer();
        alarm.reset(deadline);
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = self.poll(cx) {
                return Poll::Ready(next);
            }
            match alarm.poll(cx) {
                Poll::Ready(()) => Poll::Ready(self.hand.due()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let (handler, hand) = (&mut self.handler, &mut self.hand);
        match next {
            Next::Event(event) => {
                for notice in hand.notices_of(event) {
                    handler.on_event(hand, notice);
                }
            }
            Next::Message(message) => {
                let from = hand.node.shared().key_of(message.peer);
                if let (Ok(from), Some(stream)) = (from, message.stream_name()) {
                    handler.on_message(hand, from, &stream.clone(), message.data);
                }
            }
            Next::Notice(notice) => handler.on_event(hand, notice),
            Next::Timer(timer) => handler.on_timer(hand, timer),
            Next::Nothing => {}
            Next::Over => return false,
        }
        true
    }

    fn poll(&mut self, cx: &mut Waking<'_>) -> Poll<Next> {
        if let Some(notice) = self.hand.notices.pop_front() {
            return Poll::Ready(Next::Notice(notice));
        }
        // Events first: the program gets a peer's Established before its messages.
        match pin!(&mut self.events).poll_next(cx) {
            Poll::Ready(Some(event)) => return Poll::Ready(Next::Event(event)),
            Poll::Ready(None) => return Poll::Ready(Next::Over),
            Poll::Pending => {}
        }
        if let Poll::Ready(Some(done)) = pin!(&mut self.hand.tasks).poll_next(cx) {
            return Poll::Ready(self.hand.done(done));
        }
        match pin!(&mut self.messages).poll_next(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Next::Message(message)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Hand {
    /// Removes and returns what is due first.
    fn due(&mut self) -> Next {
        match self.timers.pop_first() {
            Some((_, timer)) => Next::Timer(timer),
            None => Next::Nothing,
        }
    }

    /// Returns the notices of an event, and completes the handshake with a peer that connects.
    fn notices_of(&mut self, event: Event) -> Vec<Notice> {
        let shared = self.node.shared().clone();
        let key = |peer: &PeerId| shared.key_of(*peer).ok();
        match event {
            Event::State(changed) => self.changed(changed).into_iter().collect(),
            Event::Snapshot(all) => self.caught_up(all),
            Event::StreamInterrupted { peer, stream, in_doubt } => {
                let notice = key(&peer).map(|peer| Notice::Interrupted { peer, stream, in_doubt });
                notice.into_iter().collect()
            }
            Event::SessionClosed { peer, closed } => {
                key(&peer).map(|peer| Notice::Closed { peer, closed }).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Events were missed: returns the notices that bring the program from what was reported to how peers
    /// are.
    fn caught_up(&mut self, all: Vec<StateChanged>) -> Vec<Notice> {
        let all: BTreeMap<PeerId, StateChanged> =
            all.into_iter().map(|changed| (changed.peer, changed)).collect();
        // From Established it only goes on by way of Disconnected.
        let is_over = |peer: &PeerId, &(state, at): &(ConnectionState, SystemTime)| {
            let now = all.get(peer).map(|changed| changed.at);
            now.is_none() || (state == ConnectionState::Established && now != Some(at))
        };
        let over = self.reported.iter().filter(|(peer, last)| is_over(peer, last));
        let over: Vec<PeerId> = over.map(|(peer, _)| *peer).collect();
        let mut notices = Vec::new();
        for peer in over {
            self.reported.remove(&peer);
            let state = ConnectionState::Disconnected;
            let key = self.node.shared().key_of(peer).ok();
            notices.extend(key.map(|peer| Notice::State {
                peer,
                state,
                direction: None,
                reason: None,
            }));
        }
        for (peer, changed) in all {
            if self.reported.get(&peer) != Some(&(changed.state, changed.at)) {
                notices.extend(self.changed(changed));
            }
        }
        notices
    }

    fn changed(&mut self, changed: StateChanged) -> Option<Notice> {
        let StateChanged { peer, state, direction, reason, at, .. } = changed;
        let key = self.node.shared().key_of(peer).ok()?;
        match state {
            ConnectionState::Disconnected => self.reported.remove(&peer),
            _ => self.reported.insert(peer, (state, at)),
        };
        // Unless the node does it itself.
        if state == ConnectionState::Connected && self.node.shared().greetings.is_none() {
            let (node, streams) = (self.node.clone(), self.streams.clone());
            self.tasks.push(Box::pin(async move {
                // The peer's state tells the outcome.
                node.complete_handshake(peer, key, &streams).await.ok();
                Done::Silently
            }));
        }
        Some(Notice::State { peer: key, state, direction, reason })
    }

    /// Returns what follows from a request that is done.
    fn done(&mut self, done: Done) -> Next {
        match done {
            Done::Silently => Next::Nothing,
            Done::Failed { peer, why } => Next::Notice(Notice::Failed { peer, why }),
            Done::Waited { peer, stream, is_writable } => {
                self.full.remove(&(peer, stream.clone()));
                match is_writable {
                    true => Next::Notice(Notice::Writable { peer, stream }),
                    false => Next::Nothing,
                }
            }
        }
    }

    /// Does something in the background, and gives notice if it fails.
    fn request(
        &self,
        peer: PublicKey,
        request: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) {
        self.tasks.push(Box::pin(async move {
            match request.await {
                Ok(()) => Done::Silently,
                Err(error) => Done::Failed { peer, why: error.to_string() },
            }
        }));
    }

    /// Gives notice once the stream's queue accepts messages again. Several refused messages have
    /// one notice, as in the core.
    fn notify_writable(&mut self, peer: PublicKey, stream: &StreamName) {
        if !self.full.insert((peer, stream.clone())) {
            return;
        }
        let (node, stream) = (self.node.clone(), stream.clone());
        self.tasks.push(Box::pin(async move {
            let is_writable = node.writable(peer.into(), stream.as_str()).await.is_ok();
            Done::Waited { peer, stream, is_writable }
        }));
    }
}

impl Context for Hand {
    fn now(&self) -> Instant {
        self.clock.at(self.runtime.now())
    }

    fn own_key(&self) -> PublicKey {
        self.node.public_key()
    }

    fn random(&mut self) -> u64 {
        random(&*self.node.shared().runtime)
    }

    fn state(&self, peer: PublicKey) -> ConnectionState {
        self.node.connection_state(peer.into())
    }

    fn add_peer(&mut self, peer: PublicKey, addresses: &[Address]) {
        let parsed: Result<Vec<Multiaddr>, _> =
            addresses.iter().map(|address| address.as_str().parse()).collect();
        match parsed {
            Ok(addresses) => {
                let node = self.node.clone();
                self.request(peer, async move { node.add_peer(peer.into(), addresses).await });
            }
            Err(error) => {
                self.notices.push_back(Notice::Failed { peer, why: error.to_string() });
            }
        }
    }

    fn connect(&mut self, peer: PublicKey) {
        let node = self.node.clone();
        self.request(peer, async move { node.connect(peer.into()).await });
    }

    fn disconnect(&mut self, peer: PublicKey) {
        let node = self.node.clone();
        self.tasks.push(Box::pin(async move {
            // It fails only if there was nothing to end.
            node.disconnect(peer.into()).await.ok();
            Done::Silently
        }));
    }

    fn send(
        &mut self,
        peer: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError> {
        let size = message.len();
        let sent = self.node.try_send(peer.into(), stream.as_str(), message);
        sent.map_err(|error| match error.code() {
            ErrorCode::Backpressure => {
                self.notify_writable(peer, stream);
                SendError::Backpressure
            }
            // How far below the limit lies, the node's configuration says.
            ErrorCode::MessageTooLarge => {
                SendError::TooLarge { size, limit: size.saturating_sub(1) }
            }
            ErrorCode::StreamNotFound | ErrorCode::InvalidStreamName => SendError::UnknownStream,
            ErrorCode::HandshakeNotComplete => SendError::NotEstablished,
            _ => SendError::Closed,
        })
    }

    fn set_timer(&mut self, timer: u64, after: Duration) {
        // What is beyond the end of time is never due.
        if let Some(at) = self.runtime.now().checked_add(after) {
            self.next += 1;
            self.timers.insert((at, self.next), timer);
        }
    }
}
