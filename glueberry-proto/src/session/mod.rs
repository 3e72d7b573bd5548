//! The machine of one session: everything that touches bytes or keys.

mod action;
mod asked;
mod batch;
mod binding;
mod close;
mod commands;
mod event;
mod handshake;
mod handshake_queue;
mod inbox;
mod ingest;
mod inputs;
mod lent;
mod negotiation;
mod nonces;
mod offer;
mod outputs;
mod owed;
mod probe;
mod profile;
mod receive;
mod records;
mod sealer;
mod send;
mod short_queue;
mod small_map;
mod state;
mod stream;
mod streams;
mod substreams;
mod timeouts;
mod timers;
mod v1_go;
mod v2;

use alloc::collections::VecDeque;

use bytes::{Bytes, BytesMut};

pub use self::action::{Action, Direction, Ingest, Naming, OpenError, ResetCode, SubstreamEnd};
use self::asked::Debts;
use self::batch::WriteTo;
pub use self::event::{Closed, Event};
use self::handshake::Handshake;
pub(crate) use self::handshake_queue::MAX_HELD_MESSAGES;
pub(crate) use self::lent::SessionParams;
use self::lent::{Lent, LentKeys};
pub(crate) use self::offer::Offer;
use self::outputs::Outputs;
use self::probe::Probe;
use self::state::State;
use self::streams::Streams;
use self::substreams::{Purpose, Stage, Substream, Substreams, WriteHalf};
pub use self::timers::Timer;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectionLost};
use crate::id::{SessionId, SubstreamId};
use crate::message::{FromNode, ToSession};
use crate::prelude::*;
use crate::send_queue::MessageSource;
use crate::time::Instant;
use crate::wire::{Profile, ProtocolId, StreamName};

/// One attempt to talk to one peer over one connection: handshake, keys, named streams, until its
/// end.
///
/// [`Node`](crate::Node) makes it, and the adapter moves it into the task that owns the
/// connection, so that cryptography runs in parallel and without a lock. It does no I/O itself:
///
/// - **inputs** (`handle_*`) report what happened; they never fail;
/// - **commands** (plain verbs) return an error or are accepted;
/// - **outputs** (`poll_*`) are what it wants: actions at once, bytes when the transport can take
///   them, events and messages when the application gets to it, and when to call
///   [`handle_timeout`](Self::handle_timeout).
///
/// The crate's documentation has the rules C1 to C12 and a loop that runs.
///
/// ```
/// # use glueberry_proto::*;
/// # let mut config = Config::default();
/// # config.streams = vec![StreamName::new("chat")?];
/// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
/// # let mut node = Node::new(Instant::ZERO, identity, config, seed)?;
/// # let peer = Identity::from_seed(&[3; 32]).public_key();
/// # let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
/// # let Admission::Accept(session) = node.handle_connection(Instant::ZERO, connection) else { panic!() };
/// let (mut session, now) = (*session, Instant::ZERO);
/// // The peer opens a substream, on which its transport negotiated the handshake.
/// let handshake = session.handle_accepted(now, Some(Profile::V1.handshake_id()));
/// // Its message goes to the node, and the node's answer back: the session is Connected.
/// while let Some(action) = session.poll_action() {
///     if let Action::Forward(message) = action {
///         node.handle_session_message(now, session.id(), message);
///     }
/// }
/// while let Some(NodeAction::Forward { message, .. }) = node.poll_action() {
///     session.handle_node_message(now, message);
/// }
/// // What the peer sends there: a frame of three bytes.
/// let mut bytes = bytes::BytesMut::from(&b"\0\0\0\x03hey"[..]);
/// _ = session.handle_data(now, handshake, &mut bytes);
/// assert_eq!(session.poll_handshake_message().unwrap(), "hey");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Session {
    params: SessionParams,
    now: Instant,
    state: State,
    substreams: Substreams,
    handshake: Handshake,
    streams: Streams,
    probe: Probe,
    /// How often the peer has proposed protocols without end.
    endless_negotiations: u32,
    out: Outputs,
    debts: Debts,
}

impl Session {
    pub(crate) fn new(now: Instant, params: SessionParams) -> Self {
        let mut session = Self {
            params,
            now,
            state: State::waiting(),
            substreams: Substreams::default(),
            handshake: Handshake::default(),
            streams: Streams::default(),
            probe: Probe::default(),
            endless_negotiations: 0,
            out: Outputs::default(),
            debts: Debts::new(now),
        };
        if session.params.direction == Direction::Outbound {
            session.open_handshake();
        }
        session
    }

    /// Returns the peer's key, which the transport has authenticated.
    pub const fn peer(&self) -> PublicKey {
        self.params.peer
    }

    /// Returns the id under which the node knows this session.
    pub const fn id(&self) -> SessionId {
        self.params.id
    }

    /// Returns which side dialled the connection.
    pub const fn direction(&self) -> Direction {
        self.params.direction
    }

    /// Returns the wire profile, once a handshake substream is agreed.
    pub const fn profile(&self) -> Option<Profile> {
        self.handshake.profile()
    }

    /// Returns the streams that are prepared, by this session or by one that it has taken over from.
    pub fn streams(&self) -> impl Iterator<Item = &StreamName> {
        self.streams.names()
    }

    /// True if named streams carry messages.
    pub fn is_established(&self) -> bool {
        self.state.is_established()
    }

    /// True if the session is over. What was received can still be taken.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// True once the node has chosen this session among those of the peer. Until then nothing that
    /// the peer sends is read.
    pub const fn is_granted(&self) -> bool {
        !self.state.is_waiting()
    }

    /// True if no more handshake messages are sent or delivered.
    pub fn handshake_is_over(&self) -> bool {
        self.state.handshake_is_over()
    }

    /// True if a handshake substream that the peer opens now on the same connection is the first of
    /// its next session, because it cannot be part of this one: the peer's side of this one is over
    /// then. Only where connections outlive sessions can that happen.
    pub fn is_succeeded_by(&self, profile: Profile) -> bool {
        self.state.handshake_is_over()
            || self.handshake.is_spent(profile, |id| self.substreams.is_writable(id))
    }

    /// Returns the protocols that a substream of the peer may be agreed on now: the handshake's
    /// until it is over, and those of the named streams that are prepared or, until it is over,
    /// configured.
    pub fn protocols(&self) -> Vec<ProtocolId> {
        let mut protocols = Vec::new();
        if self.state.is_ending() {
            return protocols;
        }
        let profiles = self.handshake.profiles(&self.params.offer);
        if !self.state.handshake_is_over() {
            protocols.extend(profiles.iter().map(|profile| profile.handshake_id()));
        }
        if self.profile().is_none() {
            // They are agreed to only so that the session learns of it, and ends.
            let withheld = self.params.offer.withheld().iter();
            protocols.extend(withheld.map(|profile| profile.handshake_id()));
        }
        // One more would wait, too: it is proposed again.
        let has_room = self.has_room_to_park();
        let configured = self
            .params
            .config
            .streams
            .iter()
            .filter(|name| has_room || self.streams.contains(name));
        let others = self.streams.names().filter(|it| !self.params.config.streams.contains(it));
        for name in configured.chain(others).filter(|name| self.is_wanted(name)) {
            protocols.extend(Profile::stream_ids(profiles, name));
        }
        protocols
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes note that the connection is gone, and ends the session.
    pub fn handle_connection_lost(&mut self, now: Instant, why: ConnectionLost) {
        self.handle_timeout(now);
        self.connection_lost(why);
    }

    /// Takes a message from the node.
    pub fn handle_node_message(&mut self, now: Instant, message: ToSession) {
        self.handle_timeout(now);
        if self.state.is_closed() {
            return;
        }
        match message.0 {
            FromNode::Grant(carry) => self.grant(carry),
            FromNode::Yield => self.yield_to_another(),
            FromNode::Pin => self.hold_to_v2(),
            FromNode::Probe if !self.state.is_ending() && self.probe.start() => {
                let (_, _, mut lent) = self.parts();
                lent.open(Purpose::Probe, vec![ProtocolId::Probe]);
            }
            // One is on its way, or the session ends anyway.
            FromNode::Probe => {}
            // The node has not learned yet that it is over.
            FromNode::Close { reason: CloseReason::HandshakeTimeout, .. }
                if self.state.handshake_is_over() => {}
            FromNode::Close { reason, drain } => self.begin_close(reason, drain),
        }
    }

    /// Takes note that a lent queue has messages for a stream, to be taken by
    /// [`poll_write_from`](Self::poll_write_from). Only the first since it ran empty needs to be
    /// reported; more reports are harmless.
    ///
    /// Does nothing before [`Event::Established`], and nothing once the session drains or is over.
    /// A session that drains still takes what was reported before. What it has not taken by
    /// [`Event::Closed`] or [`Event::StreamRefused`] was never sent: it is in neither event's
    /// count of unsent messages, but the owner's of the queue to add.
    pub fn handle_queued(&mut self, now: Instant, stream: &StreamName) {
        self.handle_timeout(now);
        // Before Established nothing is carried; once the session drains, nothing new is accepted.
        if self.state.is_established() {
            let (_, streams, mut lent) = self.parts();
            streams.note_lent(stream, &mut lent);
        }
    }

    /// Takes note that the peer has accepted a probe, the session's own or one of an adapter that
    /// looks for silence: its connection lives, and carries no session on its side.
    pub fn handle_probe_accepted(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.probe_accepted();
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do at once.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.out.poll_action();
        self.note_asked(action.as_ref());
        action
    }

    /// Appends the next bytes to write on a substream, and returns how many. Stops at the first
    /// message that reaches `budget` bytes, so one message may exceed it.
    ///
    /// The bytes are committed: write them in order, or reset the substream (rule C9). Zero means
    /// nothing to write until [`Action::WantWrite`].
    pub fn poll_write(
        &mut self,
        substream: SubstreamId,
        out: &mut BytesMut,
        budget: usize,
    ) -> usize {
        self.poll_write_from(substream, out, budget, &mut ())
    }

    /// As [`poll_write`](Self::poll_write), with a lent queue: behind what was given to
    /// [`send`](Self::send), messages of `source` are written, if
    /// [`handle_queued`](Self::handle_queued) has reported any for the stream of the substream.
    ///
    /// All that is taken from `source` is written by this call. Bytes that were not asked for are
    /// few: only what frames and records add to the last messages, beyond the usual.
    pub fn poll_write_from(
        &mut self,
        substream: SubstreamId,
        out: &mut BytesMut,
        budget: usize,
        source: &mut dyn MessageSource,
    ) -> usize {
        let before = out.len();
        self.substreams.note_written(substream);
        let is_unfinished = |it: &&mut Substream| it.write != WriteHalf::Finished;
        let Some(found) = self.substreams.get_mut(substream).filter(is_unfinished) else {
            // Reset, or its end was handed out, and the adapter has not come to it yet.
            return 0;
        };
        found.write_preamble(out);
        let stage = found.stage.clone();
        let full = out.len().saturating_add(budget);
        if let Stage::Bound(Purpose::Stream(name)) = stage {
            // There are keys, because only streams that are prepared have bound substreams.
            if let Some((streams, mut lent)) = self.lend_keys() {
                streams.write(substream, &name, &mut lent, &mut WriteTo { out, full, source });
            }
        } else {
            self.handshake.write(substream, out, full, self.now, &self.state);
        }
        let written = out.len() - before;
        if written == 0 && budget > 0 {
            self.substreams.written_out(substream);
        }
        written
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.poll_event()
    }

    /// Returns the next handshake message of the peer.
    pub fn poll_handshake_message(&mut self) -> Option<Bytes> {
        let (handshake, _, mut lent) = self.parts();
        handshake.take_message(&mut lent)
    }

    /// Returns the next message that was received on a stream.
    pub fn poll_message(&mut self, stream: &StreamName) -> Option<Bytes> {
        let (_, streams, mut lent) = self.parts();
        streams.get_mut(stream)?.take_message(&mut lent)
    }

    /// Moves messages that were received on a stream to the end of `out`, in their order and `limit`
    /// at most; returns how many. It does what as many calls of [`poll_message`](Self::poll_message)
    /// do, and looks the stream up once.
    pub fn poll_messages(
        &mut self,
        stream: &StreamName,
        limit: usize,
        out: &mut VecDeque<Bytes>,
    ) -> usize {
        let (_, streams, mut lent) = self.parts();
        streams.get_mut(stream).map_or(0, |stream| stream.take_messages(limit, out, &mut lent))
    }

    /// Returns how many bytes of received messages wait for the application. A message that is a view
    /// of its buffer counts with the buffer's size.
    pub fn received_bytes(&self) -> usize {
        self.handshake.received_bytes() + self.streams.received_bytes()
    }

    /// Returns how many messages, and bytes of them, the stream holds that the transport has not
    /// taken yet. What waits in a lent queue is not among them.
    pub fn queued(&self, stream: &StreamName) -> (usize, usize) {
        self.streams.queued(stream)
    }

    // ---- parts --------------------------------------------------------------------------------

    /// Returns the parts that have work to do, and what they are lent for it.
    fn parts(&mut self) -> (&mut Handshake, &mut Streams, Lent<'_>) {
        let lent = Lent {
            params: &self.params,
            now: self.now,
            state: &self.state,
            substreams: &mut self.substreams,
            out: &mut self.out,
        };
        (&mut self.handshake, &mut self.streams, lent)
    }

    /// Returns the streams and what they are lent to read or write, once there are keys.
    fn lend_keys(&mut self) -> Option<(&mut Streams, LentKeys<'_>)> {
        let is_draining = self.state.is_draining();
        let lent = LentKeys {
            params: &self.params,
            now: self.now,
            is_draining,
            keys: self.state.keys_mut()?,
            substreams: &self.substreams,
            out: &mut self.out,
        };
        Some((&mut self.streams, lent))
    }
}
