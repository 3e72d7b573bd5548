//! What is known of each peer outside of the core: one view per peer, in one table.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use glueberry_proto::book::Ban;
use glueberry_proto::{
    CloseCode, CloseReason, ConnectionLost, ConnectionState, DialError, Direction, Instant, Node,
    PublicKey, StateReason, WallTime,
};
use libp2p_identity::PeerId;
use tracing::Span;

use crate::event::StateChanged;
use crate::session_handle::SessionHandle;

/// The views of all peers. The node's task alone writes them; all others read.
#[derive(Debug, Default)]
pub(crate) struct PeerViews {
    table: RwLock<BTreeMap<PeerId, PeerView>>,
}

/// How far a peer is. No other place outside of the core holds any of this.
#[derive(Debug)]
pub(crate) struct PeerView {
    /// What the peer's id contains, once the core has named the peer by it.
    key: Option<PublicKey>,
    /// The state that the last event reported.
    entered: Entered,
    /// Who dialled the connection that the peer has or last had.
    direction: Option<Direction>,
    /// Why the last handshake failed, until the next one begins.
    handshake_failure: Option<StateReason>,
    /// The session that is current: handshake commands and messages go to it.
    session: Option<Arc<SessionHandle>>,
    /// Until when the peer is refused if it dials.
    refused_until: Option<Instant>,
    ban: Option<Ban>,
}

/// A state, and how the peer came into it.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) changed: StateChanged,
    /// When, on the core's clock, which never jumps.
    pub(crate) since: Instant,
    /// What the attempt and its sessions are in a trace, while there is one.
    pub(crate) connection: Span,
    /// What the state is in that; it ends when this is dropped.
    pub(crate) _span: Span,
}

/// What metrics must know of the state that a peer leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Previous {
    pub(crate) state: ConnectionState,
    pub(crate) direction: Option<Direction>,
    pub(crate) since: Instant,
}

impl PeerViews {
    // ---- reading ------------------------------------------------------------------------------

    /// Returns the peer's state.
    pub(crate) fn state(&self, peer: &PeerId) -> ConnectionState {
        let table = self.read();
        table.get(peer).map_or(ConnectionState::Disconnected, |view| view.entered.changed.state)
    }

    /// Returns who dialled the connection that the peer has or last had.
    pub(crate) fn direction(&self, peer: &PeerId) -> Option<Direction> {
        self.read().get(peer)?.direction
    }

    /// Returns the key that a peer's id contains, if the peer is known by it. The core checks each key
    /// once, which takes as long as a key agreement.
    pub(crate) fn key(&self, peer: &PeerId) -> Option<PublicKey> {
        self.read().get(peer)?.key
    }

    /// Returns why the last handshake with a peer failed that this side had dialled, unless another
    /// has begun.
    pub(crate) fn handshake_failure(&self, peer: &PeerId) -> Option<StateReason> {
        let table = self.read();
        let view = table.get(peer).filter(|view| view.direction == Some(Direction::Outbound))?;
        view.handshake_failure.clone()
    }

    /// Returns the session that is current.
    pub(crate) fn session(&self, peer: &PeerId) -> Option<Arc<SessionHandle>> {
        self.read().get(peer)?.session.clone()
    }

    /// Returns every peer that has a session, and that session.
    pub(crate) fn sessions(&self) -> Vec<(StateChanged, Arc<SessionHandle>)> {
        use ConnectionState::{Connected, Established};
        let table = self.read();
        let with_session = table.values().filter_map(|view| {
            let changed = &view.entered.changed;
            let is_live = matches!(changed.state, Connected | Established);
            Some((changed.clone(), view.session.clone().filter(|_| is_live)?))
        });
        with_session.collect()
    }

    /// Returns whether the peer is banned.
    pub(crate) fn is_banned(&self, peer: PublicKey, wall: WallTime) -> bool {
        let ban = self.read().get(&peer.into()).and_then(|view| view.ban);
        ban.is_some_and(|ban| ban.holds_at(wall))
    }

    /// Returns whether the peer would be refused if it dialled now. The core decides; this is for
    /// transports that must know it before they agree on a protocol.
    pub(crate) fn is_refused(&self, peer: PublicKey, now: Instant, wall: WallTime) -> bool {
        let until = self.read().get(&peer.into()).and_then(|view| view.refused_until);
        until.is_some_and(|until| now < until) || self.is_banned(peer, wall)
    }

    /// Calls `read` with the last change of each peer that is not Disconnected. No change is
    /// published meanwhile.
    pub(crate) fn snapshot<T>(
        &self,
        read: impl FnOnce(&mut dyn Iterator<Item = &StateChanged>) -> T,
    ) -> T {
        let table = self.read();
        let changes = table.values().map(|view| &view.entered.changed);
        read(&mut changes.filter(|changed| changed.state != ConnectionState::Disconnected))
    }

    // ---- for the node's task ------------------------------------------------------------------

    /// Returns the state that a peer is about to leave.
    pub(crate) fn previous(&self, peer: &PeerId) -> Previous {
        let unknown = Previous {
            state: ConnectionState::Disconnected,
            direction: None,
            since: Instant::ZERO,
        };
        self.read().get(peer).map_or(unknown, |view| Previous {
            state: view.entered.changed.state,
            direction: view.entered.changed.direction,
            since: view.entered.since,
        })
    }

    /// Returns the span of what the peer is in the middle of.
    pub(crate) fn connection_span(&self, peer: &PeerId) -> Option<Span> {
        let table = self.read();
        let span = &table.get(peer)?.entered.connection;
        (!span.is_none()).then(|| span.clone())
    }

    /// Publishes a change of state; returns the state before. `queue` appends the change to the
    /// subscribers' queues under the table's lock, so that a [snapshot](Self::snapshot) holds a
    /// change if and only if its event is queued.
    pub(crate) fn change<T>(&self, entered: Entered, queue: impl FnOnce() -> T) -> (Entered, T) {
        let peer = entered.changed.peer;
        let mut table = self.write();
        let mut view = table.remove(&peer).unwrap_or_else(|| PeerView::unknown(peer));
        view.direction = entered.changed.direction;
        view.note_handshake(&entered.changed);
        let before = std::mem::replace(&mut view.entered, entered);
        if view.is_worth_keeping() {
            table.insert(peer, view);
        }
        (before, queue())
    }

    /// Brings what changes without an event in line with the core. Returns until when the peer is
    /// refused: then it is to be looked at again.
    pub(crate) fn refresh(
        &self,
        node: &Node,
        key: PublicKey,
        session: Option<Arc<SessionHandle>>,
    ) -> Option<Instant> {
        let peer = PeerId::from(key);
        let status = node.peer_status(key);
        let mut table = self.write();
        let mut view = table.remove(&peer).unwrap_or_else(|| PeerView::unknown(peer));
        view.key = Some(key);
        // Of two sessions that compete, the one that is kept may be of the other direction.
        view.direction = status.as_ref().and_then(|status| status.direction);
        view.refused_until = status.and_then(|status| {
            let is_cooling = status.state == ConnectionState::Cooldown;
            status.refused_until.max(status.cooldown_until.filter(|_| is_cooling))
        });
        let replaced = std::mem::replace(&mut view.session, session);
        let refused_until = view.refused_until;
        if view.is_worth_keeping() {
            table.insert(peer, view);
        }
        drop(table);
        // This may be the last reference to a session, which is freed without the lock.
        drop(replaced);
        refused_until
    }

    /// Brings the bans in line with the core's book; returns the peers that were not banned before.
    pub(crate) fn refresh_bans(&self, node: &Node, now: WallTime) -> Vec<PublicKey> {
        let banned = node.book().iter().filter_map(|(key, entry)| Some((key, entry.ban()?)));
        let mut table = self.write();
        let (mut kept, mut new) = (HashSet::new(), Vec::new());
        for (key, ban) in banned {
            let peer = PeerId::from(key);
            let view = table.entry(peer).or_insert_with(|| PeerView::unknown(peer));
            view.key = Some(key);
            // One that is over stays in the book for a while.
            let was_banned = view.ban.replace(ban).is_some_and(|before| before.holds_at(now));
            if ban.holds_at(now) && !was_banned {
                new.push(key);
            }
            kept.insert(peer);
        }
        table.retain(|peer, view| {
            if !kept.contains(peer) {
                view.ban = None;
            }
            view.is_worth_keeping()
        });
        new
    }

    /// Forgets the peers that the core has forgotten, but for their bans.
    pub(crate) fn clean(&self, node: &Node) {
        let known: HashSet<PeerId> = node.peers().map(PeerId::from).collect();
        self.write().retain(|peer, view| known.contains(peer) || view.ban.is_some());
    }

    /// Forgets everything: the node has stopped.
    pub(crate) fn clear(&self) {
        let views = std::mem::take(&mut *self.write());
        drop(views);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PeerId, PeerView>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PeerId, PeerView>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerView {
    fn unknown(peer: PeerId) -> Self {
        let changed = StateChanged {
            peer,
            state: ConnectionState::Disconnected,
            direction: None,
            session: None,
            reason: None,
            at: SystemTime::UNIX_EPOCH,
        };
        let (connection, _span) = (Span::none(), Span::none());
        let entered = Entered { changed, since: Instant::ZERO, connection, _span };
        Self {
            key: None,
            entered,
            direction: None,
            handshake_failure: None,
            session: None,
            refused_until: None,
            ban: None,
        }
    }

    /// Takes note of whether a handshake begins or fails with a change of state.
    fn note_handshake(&mut self, next: &StateChanged) {
        use ConnectionState::{Connected, Connecting, Cooldown, Disconnected};
        let reason = next.reason.as_ref();
        match (self.entered.changed.state, next.state) {
            (_, Connected) => self.handshake_failure = None,
            (Connected, Disconnected | Cooldown) => self.handshake_failure = reason.cloned(),
            // The peer was Connected first, and has rejected this node before that was known here.
            (Connecting, Disconnected) if reason.is_some_and(is_rejection) => {
                self.handshake_failure = reason.cloned();
            }
            _ => {}
        }
    }

    /// Returns whether anything here differs from what is assumed of an unknown peer.
    const fn is_worth_keeping(&self) -> bool {
        !matches!(self.entered.changed.state, ConnectionState::Disconnected)
            || self.direction.is_some()
            || self.session.is_some()
            || self.refused_until.is_some()
            || self.ban.is_some()
    }
}

/// Returns whether a dial failed because the peer's application does not want this node.
fn is_rejection(reason: &StateReason) -> bool {
    let StateReason::DialFailed(DialError::Session(CloseReason::ConnectionLost(lost))) = reason
    else {
        return false;
    };
    matches!(lost, ConnectionLost::ClosedByPeer { code } if CloseCode::from(*code) == CloseCode::Rejected)
}
