//! Where a session stands. Only the `move_to_*` methods change it.

/// The phase of a session; it only ever moves forward, but for a yielded one, which waits again.
#[derive(Debug)]
pub(super) struct State(Phase);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Not granted by the node: handshake messages are neither sent nor delivered.
    Waiting,
    /// Handshake messages flow.
    Connected,
    /// Keys are derived; records can be received.
    Prepared,
    /// Named streams carry messages.
    Established,
    /// What was queued is still sent; nothing new is accepted.
    Draining,
    /// Over.
    Closed,
}

impl State {
    pub(super) const fn waiting() -> Self {
        Self(Phase::Waiting)
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.0 == Phase::Waiting
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0 == Phase::Connected
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.0 == Phase::Prepared
    }

    pub(super) fn is_established(&self) -> bool {
        self.0 == Phase::Established
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0 == Phase::Draining
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0 == Phase::Closed
    }

    /// Returns whether handshake messages may be said and heard.
    pub(super) fn in_handshake(&self) -> bool {
        self.is_connected() || self.is_prepared()
    }

    pub(super) fn handshake_is_over(&self) -> bool {
        self.0 >= Phase::Established
    }

    pub(super) fn move_to_connected(&mut self) {
        debug_assert!(self.is_waiting());
        self.0 = Phase::Connected;
    }

    pub(super) fn move_to_prepared(&mut self) {
        debug_assert!(self.in_handshake());
        self.0 = Phase::Prepared;
    }

    pub(super) fn move_to_established(&mut self) {
        debug_assert!(self.is_prepared());
        self.0 = Phase::Established;
    }

    pub(super) fn move_to_draining(&mut self) {
        debug_assert!(self.is_established());
        self.0 = Phase::Draining;
    }

    pub(super) fn move_to_closed(&mut self) {
        debug_assert!(!self.is_closed());
        self.0 = Phase::Closed;
    }

    /// The node keeps another session; this one waits for its end, or to be granted after all.
    pub(super) fn move_to_waiting(&mut self) {
        debug_assert!(self.in_handshake());
        self.0 = Phase::Waiting;
    }
}
