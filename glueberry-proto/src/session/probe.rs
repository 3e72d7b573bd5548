//! Finding out whether the peer is still there.

use super::Session;
use super::action::Action;
use super::substreams::{Purpose, Stage};
use crate::error::ConnectionLost;
use crate::id::SubstreamId;
use crate::message::{FromSession, ToNode};
use crate::time::Instant;
use crate::wire::ProtocolId;

impl Session {
    /// Proposes a substream that every peer with a session refuses. Its refusal, like anything else
    /// that is heard from now on, proves that it lives.
    pub(super) fn probe(&mut self) {
        if !self.is_probing {
            self.is_probing = true;
            self.open(Purpose::Probe, vec![ProtocolId::Probe]);
        }
    }

    /// Something came from the peer.
    pub(super) fn heard(&mut self) {
        if self.is_probing && !self.state.is_closed() {
            self.is_probing = false;
            self.out.act(Action::Forward(ToNode(FromSession::Alive)));
        }
    }

    /// Returns whether a substream is the probe, on which it is the answer that counts.
    pub(super) fn is_probe(&self, id: SubstreamId) -> bool {
        self.is_probing
            && self.substreams.get(id).is_some_and(|substream| {
                matches!(substream.stage, Stage::Proposing { purpose: Purpose::Probe, .. })
            })
    }

    /// Takes note that the peer has accepted a probe, the session's own or one of an adapter that
    /// looks for silence: its connection lives, and carries no session on its side.
    pub fn handle_probe_accepted(&mut self, now: Instant) {
        self.handle_timeout(now);
        self.probe_accepted();
    }

    pub(super) fn probe_accepted(&mut self) {
        if self.handshake.agreed {
            self.connection_lost(ConnectionLost::ClosedByPeer { code: 0 });
        } else {
            // It may not know of the session yet.
            self.heard();
        }
    }
}
