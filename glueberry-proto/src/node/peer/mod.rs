//! One peer: its state, its sessions, and what is due for it.

mod competition;
mod dial;
mod ending;
mod progress;
mod reconnect;
mod sessions;
mod state;
mod transitions;

use core::time::Duration;

use self::sessions::{OtherSessions, SessionRecord, Stage};
pub(super) use self::state::Current;
use self::state::{Retry, State};
use super::context::Context;
use super::dials::Dial;
use super::event::ConnectionState;
use super::timer::PeerTimer;
use crate::config::{Config, ReconnectPolicy};
use crate::crypto::PublicKey;
use crate::error::CloseReason;
use crate::id::SessionId;
use crate::owed::{Owed, Waiting};
use crate::session::Direction;
use crate::session_info::SessionInfo;
use crate::time::{Instant, earliest};

/// What a node knows of one peer.
#[derive(Debug)]
pub(super) struct Peer {
    key: PublicKey,
    state: State,
    /// When it came into its state.
    since: Instant,
    /// The sessions besides the current one, which is in the state.
    others: OtherSessions,
    /// Attempts to reconnect since the last session that lasted.
    attempts: u32,
    /// Until when the peer's own connections are refused.
    refused_until: Option<Instant>,
    /// In place of the configured one.
    pub(super) policy: Option<ReconnectPolicy>,
    /// Never pruned.
    pub(super) is_protected: bool,
}

impl Peer {
    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            state: State::Disconnected { last_direction: None },
            since: Instant::ZERO,
            others: OtherSessions::default(),
            attempts: 0,
            refused_until: None,
            policy: None,
            is_protected: false,
        }
    }

    // ---- getters ------------------------------------------------------------------------------

    pub(super) const fn state(&self) -> ConnectionState {
        self.state.kind()
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    /// Returns who dialled the connection that there is, or last was, or is to be.
    pub(super) const fn direction(&self) -> Option<Direction> {
        self.state.direction()
    }

    pub(super) const fn session_info(&self) -> Option<SessionInfo> {
        self.state.session_info()
    }

    /// Returns the current session, which a peer has while it is Connected or Established.
    pub(super) const fn current(&self) -> Option<&Current> {
        self.state.current()
    }

    /// Returns the number of sessions, with those that are ending.
    pub(super) fn session_count(&self) -> usize {
        self.others.len() + usize::from(self.current().is_some())
    }

    /// True if a dial is queued or under way.
    pub(super) const fn is_dialling(&self) -> bool {
        self.state.dial().is_some()
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) const fn refused_until(&self) -> Option<Instant> {
        self.refused_until
    }

    /// True if a session is still sending what was queued when it was asked to end. Until it has,
    /// the peer takes it for alive, and would refuse another.
    pub(super) fn is_draining(&self) -> bool {
        self.others.iter().any(SessionRecord::is_ending)
    }

    /// True if there is anything that a ban would end.
    pub(super) fn has_anything_to_end(&self) -> bool {
        let is_asked = |other: &SessionRecord| other.is_ending() && !other.is_draining();
        self.state() != ConnectionState::Disconnected || !self.others.iter().all(is_asked)
    }

    /// Returns a session's direction, and whether it was asked to end.
    pub(super) fn session(&self, id: SessionId) -> Option<(Direction, bool)> {
        let current = self.current().filter(|current| current.id == id);
        let other = || self.others.iter().find(|record| record.id == id);
        current
            .map(|current| (current.direction, false))
            .or_else(|| other().map(|record| (record.direction, record.is_ending())))
    }

    /// True if all that is left is why the peer is refused.
    pub(super) fn is_only_refused(&self) -> bool {
        matches!(self.state, State::Cooldown { .. } | State::Disconnected { .. })
            && self.others.is_empty()
            && self.policy.is_none()
            && !self.is_protected
    }

    /// True if there is nothing to remember.
    pub(super) fn is_forgettable(&self) -> bool {
        self.state() == ConnectionState::Disconnected
            && self.others.is_empty()
            && self.refused_until.is_none()
            && self.policy.is_none()
            && !self.is_protected
    }

    /// Calls `each` with what the driver has not answered.
    pub(super) fn owed(&self, config: &Config, each: &mut dyn FnMut(Owed)) {
        if let Some(Dial::UnderWay { deadline, .. }) = self.state.dial() {
            each(Owed::new(Waiting::Dial, deadline.earlier_by(config.dial_timeout)));
        }
        for (id, direction, deadline) in self.others.negotiating() {
            let since = deadline.earlier_by(Self::patience(direction, config));
            each(Owed::new(Waiting::Unheard(id), since));
        }
    }

    // ---- timers -------------------------------------------------------------------------------

    /// Returns when a timer fires, if it is set.
    pub(super) fn deadline(&self, timer: PeerTimer) -> Option<Instant> {
        match (timer, &self.state) {
            (
                PeerTimer::Dial,
                State::Connecting { dial: Some(Dial::UnderWay { deadline, .. }) },
            ) => Some(*deadline),
            (PeerTimer::Session, _) => self.others.next_deadline(),
            (PeerTimer::Hold, _) => self.others.hold,
            (PeerTimer::Handshake, State::Connected { deadline, .. }) => *deadline,
            (PeerTimer::Probe, state) => state.current().and_then(|current| current.probe),
            (PeerTimer::Refusal, _) => self.refused_until,
            (PeerTimer::Cooldown, State::Cooldown { until, .. }) => Some(*until),
            (PeerTimer::Retry, State::Reconnecting { retry: Retry::At(at) }) => Some(*at),
            _ => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        PeerTimer::ALL.into_iter().map(|timer| self.deadline(timer)).fold(None, earliest)
    }

    /// Returns the timer that fires first.
    pub(super) fn next_timer(&self) -> Option<PeerTimer> {
        let set = PeerTimer::ALL.into_iter().filter(|timer| self.deadline(*timer).is_some());
        set.min_by_key(|timer| self.deadline(*timer))
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        for timer in PeerTimer::ALL {
            if self.deadline(timer).is_some_and(|deadline| deadline <= cx.env.now) {
                self.fire(timer, cx);
            }
        }
    }

    fn fire(&mut self, timer: PeerTimer, cx: &mut Context<'_>) {
        match timer {
            PeerTimer::Dial => self.dial_timed_out(cx),
            PeerTimer::Session => self.end_overdue_sessions(cx),
            PeerTimer::Hold => {
                self.promote(cx);
                self.others.hold = None;
            }
            PeerTimer::Handshake => self.handshake_timed_out(cx),
            PeerTimer::Probe => self.probe_timed_out(cx),
            PeerTimer::Refusal => self.refused_until = None,
            PeerTimer::Cooldown => self.cooldown_over(cx),
            PeerTimer::Retry => self.retry(cx),
        }
    }

    // ---- sessions -----------------------------------------------------------------------------

    /// Adds a session that was made for a connection with this peer.
    pub(super) fn add_session(
        &mut self,
        id: SessionId,
        direction: Direction,
        cx: &mut Context<'_>,
    ) {
        let patience = Self::patience(direction, &cx.env.config);
        let stage = Stage::Negotiating { deadline: cx.env.now + patience };
        let (profile, is_handshake_lost) = (None, false);
        let follows = self.state.confirmed_session();
        let record = SessionRecord { id, direction, stage, profile, is_handshake_lost, follows };
        self.others.insert(record);
        self.settle_soon(cx);
    }

    /// Returns how long a session may take to agree on a handshake substream.
    fn patience(direction: Direction, config: &Config) -> Duration {
        match direction {
            Direction::Outbound => config.handshake_timeout,
            // Who dials has something to say.
            Direction::Inbound => config.negotiation_timeout.min(config.handshake_timeout),
        }
    }

    /// Has a session end that is not the current one.
    fn end_other(&mut self, id: SessionId, reason: CloseReason, cx: &mut Context<'_>) {
        match self.others.end(id) {
            true => cx.out.close(id, reason),
            false => cx.out.internal_error("a session that is to end is not the peer's"),
        }
    }
}
