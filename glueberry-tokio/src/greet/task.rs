//! The task that holds the greetings.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use glueberry_proto::greeting::{Greeting, Output};
use glueberry_proto::{ConnectionState, Direction, Instant, PublicKey};
use libp2p_identity::PeerId;
use tracing::{debug, warn};

use super::greetings::Greetings;
use super::policy::{Candidate, Handshake, Verdict};
use crate::command::HandshakeCommand;
use crate::error::{Error, ErrorCode};
use crate::event::{Event, StateChanged};
use crate::events::{EventFilter, Events};
use crate::inbox::InboxReader;
use crate::message::Message;
use crate::runtime::Timer;
use crate::shared::Shared;

/// Greets every peer that becomes Connected and is accepted, until the node stops.
pub(crate) struct Greeter {
    shared: Arc<Shared>,
    greetings: Arc<Greetings>,
    handshake: Handshake,
    own: PublicKey,
    events: Events,
    inbox: InboxReader,
    timer: Box<dyn Timer>,
    /// Those that are Connected. There are no more than sessions.
    peers: BTreeMap<PeerId, Greeted>,
    /// At most one of each peer: outputs are carried out in order.
    steps: FuturesUnordered<Step>,
}

/// The greeting of a peer's session.
struct Greeted {
    greeting: Greeting,
    /// When the peer became Connected, which distinguishes its sessions.
    at: SystemTime,
    /// Its outputs are carried out. Until then it only remembers what the peer has said.
    is_wanted: bool,
    /// A step is being carried out.
    is_busy: bool,
}

impl Greeted {
    /// Takes the next output to carry out, if it is time, and the session's time.
    fn next_step(&mut self) -> Option<(Output, SystemTime)> {
        if self.is_busy || !self.is_wanted {
            return None;
        }
        let output = self.greeting.poll_output()?;
        self.is_busy = true;
        Some((output, self.at))
    }
}

/// An output that is being carried out.
type Step = Pin<Box<dyn Future<Output = (PeerId, SystemTime)> + Send>>;

enum Next {
    Event(Event),
    Wanted(Vec<PeerId>),
    Done(PeerId, SystemTime),
    Message(Message),
    Timeout,
    Over,
}

impl Greeter {
    /// It gets all changes that are published from now on.
    pub(crate) fn new(
        shared: Arc<Shared>,
        greetings: Arc<Greetings>,
        handshake: Handshake,
        own: PublicKey,
    ) -> Self {
        use ConnectionState::{Connected, Cooldown, Disconnected, Established};
        let states = vec![Connected, Established, Disconnected, Cooldown];
        let events = shared.telemetry.events.subscribe(EventFilter { peers: Vec::new(), states });
        let inbox = InboxReader::new(greetings.inbox.clone());
        let timer = shared.runtime.timer();
        let (peers, steps) = (BTreeMap::new(), FuturesUnordered::new());
        Self { shared, greetings, handshake, own, events, inbox, timer, peers, steps }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let deadline = self.deadline().and_then(|at| self.shared.clock.until(at));
            self.timer.reset(deadline);
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Event(Event::State(changed)) => self.changed(&changed),
                Next::Event(Event::Snapshot(all)) => self.catch_up(&all),
                Next::Event(_) => {}
                Next::Wanted(peers) => peers.into_iter().for_each(|peer| self.want(peer)),
                Next::Done(peer, at) => self.done(peer, at),
                Next::Message(message) => self.message(&message),
                Next::Timeout => self.timeout(),
                Next::Over => return,
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        // Events first: the one that reports Connected is queued before the first message.
        match pin!(&mut self.events).poll_next(cx) {
            Poll::Ready(Some(event)) => return Poll::Ready(Next::Event(event)),
            Poll::Ready(None) => return Poll::Ready(Next::Over),
            Poll::Pending => {}
        }
        let wanted = self.greetings.wanted.take(cx);
        if !wanted.is_empty() {
            return Poll::Ready(Next::Wanted(wanted.into()));
        }
        if let Poll::Ready(Some((peer, at))) = pin!(&mut self.steps).poll_next(cx) {
            return Poll::Ready(Next::Done(peer, at));
        }
        if let Poll::Ready(Some(message)) = self.inbox.poll_message(cx) {
            return Poll::Ready(Next::Message(message));
        }
        self.timer.poll(cx).map(|()| Next::Timeout)
    }

    // ---- peers come and go --------------------------------------------------------------------

    fn changed(&mut self, changed: &StateChanged) {
        self.peers.remove(&changed.peer);
        if changed.state == ConnectionState::Connected {
            self.begin(changed);
        }
    }

    /// Events are missing: begins with those that are Connected in the meantime, and ends the
    /// greetings of sessions that are over.
    fn catch_up(&mut self, all: &[StateChanged]) {
        let connected: BTreeMap<PeerId, &StateChanged> = all
            .iter()
            .filter(|changed| changed.state == ConnectionState::Connected)
            .map(|changed| (changed.peer, changed))
            .collect();
        self.peers.retain(|peer, greeted| {
            connected.get(peer).is_some_and(|changed| changed.at == greeted.at)
        });
        for (peer, changed) in connected {
            if !self.peers.contains_key(&peer) {
                self.begin(changed);
            }
        }
    }

    fn begin(&mut self, changed: &StateChanged) {
        let peer = changed.peer;
        let Some((key, greeting)) = self.greeting(peer) else {
            debug_assert!(
                false,
                "only Ed25519 peers reach the core; the configuration was checked"
            );
            return self.reject(peer, "it cannot be greeted".to_owned());
        };
        let direction = changed.direction.unwrap_or(Direction::Inbound);
        let is_wanted = match self.handshake.judge(&Candidate { peer, key, direction }) {
            Verdict::Accept => true,
            Verdict::Later => false,
            Verdict::Reject(reason) => return self.reject(peer, reason),
        };
        let greeted = Greeted { greeting, at: changed.at, is_wanted, is_busy: false };
        self.peers.insert(peer, greeted);
        self.advance(peer);
    }

    fn greeting(&self, peer: PeerId) -> Option<(PublicKey, Greeting)> {
        let key = self.shared.key_of(peer).ok()?;
        let greeting = Greeting::new(self.shared.now(), self.own, key, self.handshake.greeting);
        Some((key, greeting.ok()?))
    }

    fn want(&mut self, peer: PeerId) {
        if let Some(greeted) = self.peers.get_mut(&peer) {
            greeted.is_wanted = true;
            self.advance(peer);
        }
    }

    fn reject(&self, peer: PeerId, reason: String) {
        debug!(%peer, reason, "handshake rejected");
        // It fails only if the node has stopped.
        self.shared.handshake_command(peer, HandshakeCommand::Reject(reason)).ok();
    }

    // ---- greetings go on ----------------------------------------------------------------------

    fn message(&mut self, message: &Message) {
        let now = self.shared.now();
        // After Established there is none: a late message is no error.
        if let Some(greeted) = self.peers.get_mut(&message.peer) {
            greeted.greeting.handle_message(now, &message.data);
            self.advance(message.peer);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let wanted = self.peers.values().filter(|greeted| greeted.is_wanted);
        wanted.filter_map(|greeted| greeted.greeting.poll_timeout()).min()
    }

    fn timeout(&mut self) {
        let now = self.shared.now();
        let is_due = |greeted: &Greeted| {
            greeted.is_wanted && greeted.greeting.poll_timeout().is_some_and(|at| at <= now)
        };
        let due = self.peers.iter().filter(|(_, greeted)| is_due(greeted));
        let due: Vec<PeerId> = due.map(|(peer, _)| *peer).collect();
        for peer in due {
            if let Some(greeted) = self.peers.get_mut(&peer) {
                greeted.greeting.handle_timeout(now);
                self.advance(peer);
            }
        }
    }

    fn done(&mut self, peer: PeerId, at: SystemTime) {
        // Else it was a step of a session that is over.
        if let Some(greeted) = self.peers.get_mut(&peer).filter(|greeted| greeted.at == at) {
            greeted.is_busy = false;
            self.advance(peer);
        }
    }

    /// Starts the next step of a peer's greeting.
    fn advance(&mut self, peer: PeerId) {
        let greeted = self.peers.get_mut(&peer);
        if let Some((output, at)) = greeted.and_then(Greeted::next_step) {
            let shared = self.shared.clone();
            self.steps.push(Box::pin(async move {
                carry_out(&shared, peer, output).await;
                (peer, at)
            }));
        }
    }
}

/// Does what a greeting wants. What fails because the session is over needs nothing: the peer's
/// state reports that. A message that is refused now is repeated later.
async fn carry_out(shared: &Shared, peer: PeerId, output: Output) {
    let result = match output {
        Output::Send(message) => {
            let sent = |answer| HandshakeCommand::Send(message, answer);
            if let Err(error) = shared.in_handshake(peer, sent).await {
                debug!(%peer, %error, "greeting not sent");
            }
            Ok(())
        }
        Output::Prepare(key) => {
            let streams = shared.config.core.streams.clone();
            shared
                .in_handshake(peer, |answer| HandshakeCommand::Prepare(key, streams, answer))
                .await
        }
        Output::Finalize => shared.in_handshake(peer, HandshakeCommand::Finalize).await,
        Output::Done { .. } => Ok(()),
        Output::Reject(reason) => Err(Error::from(reason)),
        other => {
            warn!(%peer, ?other, "greeting wants what this version does not know");
            Ok(())
        }
    };
    let is_over = |error: &Error| {
        let code = error.code();
        matches!(code, ErrorCode::NotConnected | ErrorCode::StreamClosed | ErrorCode::NodeStopped)
    };
    if let Err(error) = result
        && !is_over(&error)
    {
        debug!(%peer, %error, "greeting failed");
        let reason = format!("{error:#}");
        shared.handshake_command(peer, HandshakeCommand::Reject(reason)).ok();
    }
}
