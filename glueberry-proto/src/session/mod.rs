//! The machine of one session: everything that touches bytes or keys.

mod action;
mod close;
mod commands;
mod event;
mod handshake;
mod lent;
mod negotiation;
mod nonces;
mod outputs;
mod probe;
mod profile;
mod receive;
mod records;
mod route;
mod send;
mod state;
mod stream;
mod streams;
mod substreams;
mod timers;
mod v1_go;

use bytes::{Bytes, BytesMut};

pub use self::action::{Action, Direction, Ingest, Naming, OpenError, ResetCode, SubstreamEnd};
pub use self::event::{Closed, Event};
use self::handshake::Handshake;
pub(crate) use self::handshake::MAX_HELD_MESSAGES;
pub(crate) use self::lent::SessionParams;
use self::lent::{Lent, LentKeys};
use self::outputs::Outputs;
use self::probe::Probe;
use self::send::WriteTo;
use self::state::State;
use self::streams::Streams;
use self::substreams::{Purpose, Stage, Substream, Substreams, WriteHalf};
pub use self::timers::Timer;
use crate::bug::Bug;
use crate::crypto::PublicKey;
use crate::error::{CloseReason, ConnectionLost, FinalizeError, PrepareError, SendError};
use crate::fault::Fault;
use crate::id::{SessionId, SubstreamId};
use crate::message::{FromNode, ToSession};
use crate::send_queue::MessageSource;
use crate::time::Instant;
use crate::wire::{Profile, ProtocolId, StreamName};

/// One attempt to talk to one peer over one connection: handshake, keys, named streams, until its
/// end.
///
/// [`Node`](crate::Node) makes it, and the adapter moves it into the task that owns the
/// connection, so that cryptography runs in parallel and without a lock. It does no I/O itself:
///
/// - **inputs** (`handle_*`) tell it what happened; they never fail;
/// - **commands** (plain verbs) return an error or are accepted;
/// - **outputs** (`poll_*`) say what it wants: actions at once, bytes when the transport can take
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
/// // Its word goes to the node, and the node's answer back: the session is Connected.
/// while let Some(action) = session.poll_action() {
///     if let Action::Forward(message) = action {
///         node.handle_session_message(now, session.id(), message);
///     }
/// }
/// while let Some(NodeAction::Forward { message, .. }) = node.poll_action() {
///     session.handle_node_message(now, message);
/// }
/// // What the peer says there: a frame of three bytes.
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
    out: Outputs,
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
            out: Outputs::default(),
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

    /// Returns whether named streams carry messages.
    pub fn is_established(&self) -> bool {
        self.state.is_established()
    }

    /// Returns whether the session is over. What was received can still be taken.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// Returns whether nothing more is said in the handshake.
    pub fn handshake_is_over(&self) -> bool {
        self.state.handshake_is_over()
    }

    /// Returns whether a handshake substream that the peer opens now on the same connection is the
    /// first of its next session, because it cannot be part of this one: the peer's side of this one
    /// is over then. Only where connections outlive sessions can that happen.
    pub fn is_succeeded_by(&self, profile: Profile) -> bool {
        self.state.handshake_is_over()
            || self.handshake.is_spent(profile, |id| self.substreams.is_writable(id))
    }

    /// Returns the protocols that a substream of the peer may be agreed on now: the handshake's
    /// until it is over, and those of the named streams that are prepared or, until it is over,
    /// configured.
    pub fn protocols(&self) -> Vec<ProtocolId> {
        let mut protocols = Vec::new();
        if self.state.is_closed() {
            return protocols;
        }
        let profiles = self.profiles();
        if !self.state.handshake_is_over() {
            protocols.extend(profiles.iter().map(|profile| profile.handshake_id()));
        }
        let configured = self.params.config.streams.iter();
        let others = self.streams.names().filter(|it| !self.params.config.streams.contains(it));
        for name in configured.chain(others).filter(|name| self.is_wanted(name)) {
            protocols.extend(Profile::stream_ids(profiles, name));
        }
        protocols
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes note that a substream of [`Action::OpenSubstream`] is open, on the given one of the
    /// proposed protocols if the transport negotiates names.
    pub fn handle_opened(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        protocol: Option<ProtocolId>,
    ) {
        self.handle_timeout(now);
        self.opened(substream, protocol);
    }

    /// Takes note that a substream of [`Action::OpenSubstream`] could not be opened.
    pub fn handle_open_failed(&mut self, now: Instant, substream: SubstreamId, error: OpenError) {
        self.handle_timeout(now);
        self.open_failed(substream, error);
    }

    /// Takes note that the peer has opened a substream, agreed on the given one of
    /// [`protocols`](Self::protocols) if the transport negotiates names, and names it.
    ///
    /// A substream that is not wanted is answered with [`Action::Reset`].
    #[must_use = "the substream is known by this name from now on"]
    pub fn handle_accepted(&mut self, now: Instant, protocol: Option<ProtocolId>) -> SubstreamId {
        self.handle_timeout(now);
        self.peer_answered();
        self.accepted(protocol)
    }

    /// Takes bytes that arrived on a substream from the front of `buf`, opening records where
    /// they lie. What is not taken stays in `buf` and must be handed in again with what follows.
    pub fn handle_data(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        buf: &mut BytesMut,
    ) -> Ingest {
        self.handle_timeout(now);
        if !self.probe.is_on(substream, &self.substreams) {
            self.peer_answered();
        }
        self.ingest(substream, buf)
    }

    /// Takes note that a half of a substream has ended; `unread` is what
    /// [`handle_data`](Self::handle_data) has left in the buffer.
    ///
    /// While the substream is paused, [`SubstreamEnd::Finished`] must wait until it is resumed and
    /// the buffer was handed in.
    pub fn handle_substream_end(
        &mut self,
        now: Instant,
        substream: SubstreamId,
        end: SubstreamEnd,
        unread: &[u8],
    ) {
        self.handle_timeout(now);
        self.substream_ended(substream, end, unread);
    }

    /// Takes note that the peer's transport has all that was written on a substream, and its end,
    /// after [`Action::Finish`]. An adapter that can't know says so once it was flushed.
    pub fn handle_acknowledged(&mut self, now: Instant, substream: SubstreamId) {
        self.handle_timeout(now);
        self.acknowledged(substream);
    }

    /// Takes note that the connection is gone, and ends the session.
    pub fn handle_connection_lost(&mut self, now: Instant, why: ConnectionLost) {
        self.handle_timeout(now);
        self.connection_lost(why);
    }

    /// Takes a word from the node.
    pub fn handle_node_message(&mut self, now: Instant, message: ToSession) {
        self.handle_timeout(now);
        if self.state.is_closed() {
            return;
        }
        match message.0 {
            FromNode::Grant(carry) => self.grant(carry),
            FromNode::Yield => self.yield_to_another(),
            FromNode::Probe => self.start_probe(),
            // The node has not heard yet that it is over.
            FromNode::Close { reason: CloseReason::HandshakeTimeout, .. }
                if self.state.handshake_is_over() && !self.params.config.has(Bug::TimerRunsOn) => {}
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

    /// Does what is due. Early and spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now <= self.now && !self.params.config.breaks(Fault::C7) {
            // Whatever waits, waits for a later time (rule C8).
            return;
        }
        self.now = now;
        if self.state.is_closed() {
            return;
        }
        self.fire_timers();
    }

    /// Takes note that the peer has accepted a probe, the session's own or one of an adapter that
    /// looks for silence: its connection lives, and carries no session on its side.
    pub fn handle_probe_accepted(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.probe_accepted();
    }

    // ---- commands -----------------------------------------------------------------------------

    /// Says something in the handshake.
    ///
    /// # Errors
    ///
    /// [`SendError::NotEstablished`] before the session is Connected,
    /// [`SendError::HandshakeOver`] after [`finalize_handshake`](Self::finalize_handshake), and
    /// [`SendError::Backpressure`] while more than
    /// [`max_handshake_size`](Config::max_handshake_size) bytes are unanswered.
    pub fn send_handshake(&mut self, now: Instant, message: Bytes) -> Result<(), SendError> {
        self.handle_timeout(now);
        self.state.check_send_handshake()?;
        let (handshake, _, mut lent) = self.parts();
        handshake.send(message, &mut lent)
    }

    /// Derives the keys, after checking that `key` is the peer's, and gets ready to receive on the
    /// named streams. More streams may be named by another call.
    ///
    /// # Errors
    ///
    /// See [`PrepareError`]; the session is then as it was.
    pub fn prepare_streams(
        &mut self,
        now: Instant,
        key: PublicKey,
        names: &[StreamName],
    ) -> Result<(), PrepareError> {
        self.handle_timeout(now);
        self.prepare(key, names)
    }

    /// Records this side's consent: the session is Established as soon as the profile allows, in
    /// v1 at once, and told so by [`Event::Established`].
    ///
    /// # Errors
    ///
    /// See [`FinalizeError`]; the session is then as it was.
    pub fn finalize_handshake(&mut self, now: Instant) -> Result<(), FinalizeError> {
        self.handle_timeout(now);
        self.finalize()
    }

    /// Ends the session because the application does not want this peer; the node leaves the peer
    /// alone for a while. Does nothing once the handshake is over.
    pub fn reject_handshake(&mut self, now: Instant, reason: &str) {
        self.handle_timeout(now);
        if self.state.in_handshake() {
            self.finish_close(CloseReason::Rejected(reason.to_owned()));
        }
    }

    /// Queues a message on a named stream. Only a reference to `message` is kept; it is sealed
    /// when the transport can take it.
    ///
    /// # Errors
    ///
    /// See [`SendError`]; nothing of the message is then kept.
    pub fn send(
        &mut self,
        now: Instant,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError> {
        self.handle_timeout(now);
        self.state.check_send()?;
        let (_, streams, mut lent) = self.parts();
        streams.send(stream, message, &mut lent)
    }

    /// Ends the session: what was queued is still sent, for at most
    /// [`drain_timeout`](Config::drain_timeout), and nothing new is accepted.
    pub fn close(&mut self, now: Instant) {
        self.handle_timeout(now);
        if !self.state.is_closed() {
            self.begin_close(CloseReason::Disconnected, true);
        }
    }

    /// Removes and returns the messages of a stream that were never handed to the transport. Use
    /// it after [`Event::StreamRefused`] or [`Event::Closed`]; before, there are none. A second
    /// refusal of the same stream replaces those of the first.
    pub fn take_unsent(&mut self, stream: &StreamName) -> Vec<Bytes> {
        self.streams.take_unsent(stream)
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Returns the next thing to do at once.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.poll_action()
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
        let is_unfinished = |it: &&Substream| it.write != WriteHalf::Finished;
        let Some(found) = self.substreams.get(substream).filter(is_unfinished) else {
            return 0;
        };
        let stage = found.stage.clone();
        self.substreams.write_preamble(substream, out);
        if let Stage::Bound(Purpose::Stream(name)) = stage {
            // There are keys, because only streams that are prepared have bound substreams.
            if let Some((streams, mut lent)) = self.lend_keys() {
                let full = out.len().saturating_add(budget);
                streams.write(substream, &name, &mut lent, &mut WriteTo { out, full, source });
            }
        } else {
            let (handshake, _, lent) = self.parts();
            handshake.write(substream, out, budget, &lent);
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

    /// Returns how many messages, and bytes of them, the stream holds that the transport has not
    /// taken yet. What waits in a lent queue is not among them.
    pub fn queued(&self, stream: &StreamName) -> (usize, usize) {
        self.streams.queued(stream)
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout): strictly later than the
    /// latest `now`, or never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timer().map(|(at, _)| at)
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
