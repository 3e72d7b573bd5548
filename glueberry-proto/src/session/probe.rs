//! Finding out whether the peer is still there.

use super::Session;
use super::action::Action;
use super::substreams::Purpose;
use crate::message::{FromSession, ToNode};
use crate::wire::ProtocolId;

impl Session {
    /// Proposes a substream that every peer refuses. Its refusal, like anything else that is heard
    /// from now on, proves that it lives.
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
}
