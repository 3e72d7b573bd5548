//! How far a session is. Only the `move_to_*` methods change it.

use core::fmt;

use super::records::V1Records;
use crate::error::{CloseReason, HandshakeError, SendError};
use crate::prelude::*;
use crate::time::{Instant, earliest};
use crate::wire::Profile;

/// The phase of a session with what exists only in that phase. How it ends is boxed: that is for moments.
///
/// It only ever moves forward, except that a session that yields to another waits again.
#[derive(Debug)]
pub(super) struct State(Phase);

#[derive(Debug)]
enum Phase {
    /// Not granted by the node: handshake messages are neither sent nor delivered.
    Waiting,
    /// Handshake messages flow.
    Connected,
    /// Keys are derived; substreams of named streams are bound, and not read.
    Prepared(Keys),
    /// This side has consented, and the peer has not yet proven that it has the same keys: v2 only.
    Finalized(Keys),
    /// Named streams carry messages.
    Established(Keys),
    /// What was queued is still sent; nothing new is accepted.
    Draining(Keys, Box<Drain>),
    /// The peer has ended the session, and what it sent before is still received: v2 only.
    Answering(Keys, Box<Drain>),
    /// The last that is said is on its way to the peer: v2 only.
    Closing(Box<Closing>),
    /// Over.
    Closed,
}

/// What named streams need to carry messages.
pub(super) struct Keys {
    pub(super) profile: Profile,
    /// In v2 each stream has its own.
    pub(super) v1: Option<Box<V1Keys>>,
}

/// The keys of v1 and v1-go.
pub(super) struct V1Keys {
    pub(super) records: V1Records,
    /// Records of the peer that did not open.
    pub(super) rejected: u32,
}

/// How a session waits for its end.
#[derive(Debug)]
struct Closing {
    reason: CloseReason,
    deadline: Instant,
    awaits: Awaited,
}

/// What a session that has said the last thing waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The peer's last frame, with its counts.
    Answer,
    /// The peer has said the last thing, too. It is to have this side's before the connection is closed.
    Acknowledgement,
    /// The end of the connection, which is the peer's to close; or the transport, for what is said only.
    Close,
}

/// Why and how long a session drains.
#[derive(Debug)]
struct Drain {
    /// What was asked for when draining began.
    reason: CloseReason,
    /// When it is given up.
    deadline: Instant,
    /// All is sent, and the ends of the peer's substreams are awaited. It is given up then, unless
    /// something comes.
    goodbye_until: Option<Instant>,
}

impl State {
    pub(super) const fn waiting() -> Self {
        Self(Phase::Waiting)
    }

    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.0, Phase::Waiting)
    }

    pub(super) const fn is_connected(&self) -> bool {
        matches!(self.0, Phase::Connected)
    }

    pub(super) const fn is_prepared(&self) -> bool {
        matches!(self.0, Phase::Prepared(_))
    }

    pub(super) const fn is_established(&self) -> bool {
        matches!(self.0, Phase::Established(_))
    }

    pub(super) const fn is_draining(&self) -> bool {
        matches!(self.0, Phase::Draining(..))
    }

    pub(super) const fn is_finalized(&self) -> bool {
        matches!(self.0, Phase::Finalized(_))
    }

    pub(super) const fn is_answering(&self) -> bool {
        matches!(self.0, Phase::Answering(..))
    }

    pub(super) const fn is_closing(&self) -> bool {
        matches!(self.0, Phase::Closing(_))
    }

    /// True if nothing but the end follows.
    pub(super) const fn is_ending(&self) -> bool {
        matches!(self.0, Phase::Closing(_) | Phase::Closed)
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.0, Phase::Closed)
    }

    /// True if handshake messages are sent and delivered.
    pub(super) const fn in_handshake(&self) -> bool {
        self.is_connected() || self.is_prepared()
    }

    /// True if this side's application has no more use for handshake messages.
    pub(super) const fn has_finalized(&self) -> bool {
        !matches!(self.0, Phase::Waiting | Phase::Connected | Phase::Prepared(_))
    }

    pub(super) const fn handshake_is_over(&self) -> bool {
        self.has_finalized() && !self.is_finalized()
    }

    /// Returns the profile if named streams carry messages, be it for the last time.
    pub(super) const fn carrying(&self) -> Option<Profile> {
        match &self.0 {
            Phase::Established(keys) | Phase::Draining(keys, _) => Some(keys.profile),
            _ => None,
        }
    }

    /// Returns the profile if messages of named streams are received, be they the last.
    pub(super) const fn receiving(&self) -> Option<Profile> {
        match &self.0 {
            Phase::Answering(keys, _) => Some(keys.profile),
            _ => self.carrying(),
        }
    }

    /// Returns the keys, from Prepared on, for as long as messages are sent.
    pub(super) const fn keys_mut(&mut self) -> Option<&mut Keys> {
        match &mut self.0 {
            Phase::Prepared(keys) | Phase::Established(keys) | Phase::Draining(keys, _) => {
                Some(keys)
            }
            _ => None,
        }
    }

    /// True if the session has sent everything, and only awaits the ends of the peer's substreams.
    pub(super) fn says_goodbye(&self) -> bool {
        matches!(&self.0, Phase::Draining(_, drain) if drain.goodbye_until.is_some())
    }

    /// Returns when draining, answering or closing is given up.
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        match &self.0 {
            Phase::Draining(_, drain) | Phase::Answering(_, drain) => {
                earliest(Some(drain.deadline), drain.goodbye_until)
            }
            Phase::Closing(closing) => Some(closing.deadline),
            _ => None,
        }
    }

    /// Returns why the session drains, answers or closes, if it does.
    pub(super) fn drain_reason(&self) -> Option<&CloseReason> {
        match &self.0 {
            Phase::Draining(_, drain) | Phase::Answering(_, drain) => Some(&drain.reason),
            Phase::Closing(closing) => Some(&closing.reason),
            _ => None,
        }
    }

    // ---- what commands are allowed ------------------------------------------------------------

    /// Returns why no handshake message may be sent.
    pub(super) const fn check_send_handshake(&self) -> Result<(), SendError> {
        match self.0 {
            Phase::Waiting => Err(SendError::NotEstablished),
            Phase::Connected | Phase::Prepared(_) => Ok(()),
            Phase::Finalized(_) | Phase::Established(_) => Err(SendError::HandshakeOver),
            _ => Err(SendError::Closed),
        }
    }

    /// Returns why no streams may be prepared.
    pub(super) const fn check_prepare(&self) -> Result<(), HandshakeError> {
        match self.0 {
            Phase::Waiting => Err(HandshakeError::NotConnected),
            Phase::Connected | Phase::Prepared(_) => Ok(()),
            Phase::Finalized(_) | Phase::Established(_) => Err(HandshakeError::AlreadyFinalized),
            _ => Err(HandshakeError::Closed),
        }
    }

    /// Returns why the handshake may not be finalized.
    pub(super) const fn check_finalize(&self) -> Result<(), HandshakeError> {
        match self.0 {
            Phase::Waiting => Err(HandshakeError::NotConnected),
            Phase::Connected => Err(HandshakeError::NotPrepared),
            Phase::Prepared(_) => Ok(()),
            Phase::Finalized(_) | Phase::Established(_) => Err(HandshakeError::AlreadyFinalized),
            _ => Err(HandshakeError::Closed),
        }
    }

    /// Returns why no message may be sent on a named stream.
    pub(super) const fn check_send(&self) -> Result<(), SendError> {
        match self.0 {
            Phase::Waiting | Phase::Connected | Phase::Prepared(_) | Phase::Finalized(_) => {
                Err(SendError::NotEstablished)
            }
            Phase::Established(_) => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    // ---- transitions --------------------------------------------------------------------------

    pub(super) fn move_to_connected(&mut self) {
        debug_assert!(self.is_waiting());
        self.0 = Phase::Connected;
    }

    pub(super) fn move_to_prepared(&mut self, keys: Keys) {
        debug_assert!(self.is_connected());
        self.0 = Phase::Prepared(keys);
    }

    pub(super) fn move_to_finalized(&mut self) {
        debug_assert!(self.is_prepared());
        self.change(|phase| match phase {
            Phase::Prepared(keys) => Phase::Finalized(keys),
            other => other,
        });
    }

    pub(super) fn move_to_established(&mut self) {
        debug_assert!(self.is_prepared() || self.is_finalized());
        self.change(|phase| match phase {
            Phase::Prepared(keys) | Phase::Finalized(keys) => Phase::Established(keys),
            other => other,
        });
    }

    pub(super) fn move_to_draining(&mut self, reason: CloseReason, deadline: Instant) {
        debug_assert!(self.is_established());
        self.change(|phase| match phase {
            Phase::Established(keys) => {
                let drain = Drain { reason, deadline, goodbye_until: None };
                Phase::Draining(keys, Box::new(drain))
            }
            other => other,
        });
    }

    /// The session that drains has sent everything: it awaits the ends of the peer's substreams
    /// until then.
    pub(super) fn await_goodbye(&mut self, until: Instant) {
        if let Phase::Draining(_, drain) = &mut self.0 {
            drain.goodbye_until = Some(until);
        }
    }

    /// The peer has ended the session. If this side was about to, its reason stays.
    pub(super) fn move_to_answering(&mut self, reason: CloseReason, deadline: Instant) {
        debug_assert!(self.carrying().is_some());
        self.change(|phase| match phase {
            Phase::Established(keys) => {
                let drain = Drain { reason, deadline, goodbye_until: None };
                Phase::Answering(keys, Box::new(drain))
            }
            Phase::Draining(keys, mut drain) => {
                drain.deadline = deadline;
                Phase::Answering(keys, drain)
            }
            other => other,
        });
    }

    pub(super) fn move_to_closing(
        &mut self,
        reason: CloseReason,
        deadline: Instant,
        awaits: Awaited,
    ) {
        debug_assert!(!self.is_ending());
        self.0 = Phase::Closing(Box::new(Closing { reason, deadline, awaits }));
    }

    /// Returns what a session that has said the last thing waits for.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        match &self.0 {
            Phase::Closing(closing) => Some(closing.awaits),
            _ => None,
        }
    }

    /// What remains to be waited for is another thing, and shorter.
    pub(super) fn close_until(&mut self, at: Instant, awaits: Awaited) {
        if let Phase::Closing(closing) = &mut self.0 {
            closing.deadline = closing.deadline.min(at);
            closing.awaits = awaits;
        }
    }

    pub(super) fn move_to_closed(&mut self) {
        debug_assert!(!self.is_closed());
        self.0 = Phase::Closed;
    }

    /// The node keeps another session. This one waits for its end, or to be granted after all: its
    /// keys are derived again then, and have sealed nothing before.
    pub(super) fn move_to_waiting(&mut self) {
        debug_assert!(self.in_handshake() || self.is_finalized());
        self.0 = Phase::Waiting;
    }

    fn change(&mut self, next: impl FnOnce(Phase) -> Phase) {
        let phase = core::mem::replace(&mut self.0, Phase::Closed);
        self.0 = next(phase);
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}
