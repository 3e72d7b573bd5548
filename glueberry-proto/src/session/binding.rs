//! Puts a substream to its purpose, once both sides have agreed on its protocol.

use super::Session;
use super::action::{Direction, Naming, OpenError, ResetCode};
use super::substreams::{Purpose, Stage};
use crate::error::CloseReason;
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::wire::{Profile, ProtocolId, StreamName};

impl Session {
    // ---- substreams of our own ----------------------------------------------------------------

    /// Opens the handshake substream, proposing every profile that is configured.
    pub(super) fn open_handshake(&mut self) {
        let profiles = self.handshake.profiles(&self.params.offer).to_vec();
        let proposals = profiles.into_iter().map(Profile::handshake_id).collect();
        let (_, _, mut lent) = self.parts();
        lent.open(Purpose::Handshake, proposals);
    }

    /// A substream of ours could not be opened, or not be agreed.
    pub(super) fn open_failed(&mut self, id: SubstreamId, error: OpenError) {
        let is_early = self.substreams.get(id).is_some_and(|it| it.is_early);
        let purpose = self.substreams.give_up(id, &mut self.out);
        let (handshake, streams, mut lent) = self.parts();
        match purpose {
            Some(Purpose::Stream(name)) => {
                // A peer whose handshake is not over may yet prepare the stream, as it may after a
                // refusal that comes from before.
                let is_refused = error == OpenError::Refused && !is_early;
                let is_final = is_refused && handshake.is_over_there();
                streams.not_opened(id, &name, is_final, &mut lent);
                // Its messages may have been the last.
                self.finish_if_drained();
            }
            Some(Purpose::Handshake) => {
                if let Some(reason) = handshake.not_opened(error, &lent.params.offer) {
                    self.finish_close(reason);
                }
            }
            // That the peer refuses is the answer that a probe is for.
            Some(Purpose::Probe) if error == OpenError::Refused => {
                self.peer_answered();
                self.out.forward(FromSession::ProbeAnswered);
            }
            // The adapter reports it twice, or after it was given up.
            Some(Purpose::Probe) | None => {}
        }
    }

    pub(super) fn bind_opened(&mut self, id: SubstreamId, purpose: Purpose, protocol: &ProtocolId) {
        if self.ends_downgrade(protocol) {
            return; // it was proposed before the peer was held to v2
        }
        self.substreams.move_to(id, Stage::Bound(purpose.clone()));
        let (handshake, streams, mut lent) = self.parts();
        match (purpose, protocol) {
            (Purpose::Handshake, ProtocolId::Handshake(profile)) => {
                if let Err(how) = handshake.opened(id, *profile, &mut lent) {
                    self.misbehaved(how);
                }
            }
            (Purpose::Stream(name), _) => {
                if let Some(stream) = streams.get_mut(&name) {
                    stream.opened(id, &mut lent);
                }
            }
            (Purpose::Handshake, _) => {
                debug_assert!(false, "{protocol} is proposed for no handshake");
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
            }
            (Purpose::Probe, _) => {
                self.substreams.reset(id, ResetCode::Refused, &mut self.out);
                self.probe_accepted();
            }
        }
    }

    // ---- substreams of the peer ---------------------------------------------------------------

    /// Puts a substream of the peer to its purpose. Returns whether it has one.
    pub(super) fn bind_accepted(&mut self, id: SubstreamId, protocol: &ProtocolId) -> bool {
        if self.ends_downgrade(protocol) {
            return false;
        }
        match protocol {
            ProtocolId::Handshake(profile) => {
                let (handshake, _, mut lent) = self.parts();
                handshake.accepted(id, *profile, &mut lent).unwrap_or_else(|how| {
                    self.misbehaved(how);
                    false
                })
            }
            ProtocolId::Stream { name, .. } => {
                let profiles = self.handshake.profiles(&self.params.offer);
                let is_spoken = Profile::stream_ids(profiles, name).contains(protocol);
                let is_instance = self.profile().is_some_and(Profile::has_instances);
                let is_wanted = is_spoken
                    && self.is_wanted(name)
                    && self.may_park(name)
                    && (!is_instance || self.may_wait(name));
                if is_wanted {
                    self.open_missing_handshake();
                    let (_, streams, mut lent) = self.parts();
                    streams.accepted(id, name, &mut lent);
                }
                is_wanted
            }
            // A probe, or a protocol of a later version: a refusal answers both.
            _ => false,
        }
    }

    /// Ends the session if it would get a profile that the peer is above. Returns whether it did.
    fn ends_downgrade(&mut self, protocol: &ProtocolId) -> bool {
        let ProtocolId::Handshake(profile) = *protocol else {
            return false;
        };
        let is_downgrade = self.profile().is_none() && self.params.offer.is_withheld(profile);
        if is_downgrade {
            self.finish_close(CloseReason::Downgrade { offered: Some(profile) });
        }
        is_downgrade
    }

    /// True if a substream of the peer may carry this stream, now or once it is prepared.
    pub(super) fn is_wanted(&self, name: &StreamName) -> bool {
        let is_allowed = self.profile().is_none_or(|profile| profile.allows(name));
        let is_configured = self.params.config.streams.contains(name);
        let may_wait = !self.state.handshake_is_over() && is_configured;
        // Once everything is sent, what the peer begins would not be read to its end.
        is_allowed && (may_wait || self.streams.contains(name)) && !self.state.says_goodbye()
    }

    /// True if another substream may wait for its stream to be prepared.
    pub(super) fn has_room_to_park(&self) -> bool {
        self.substreams.count_parked() < self.params.config.max_parked
    }

    /// True if a substream of a stream need not wait to be prepared, or may.
    fn may_park(&self, name: &StreamName) -> bool {
        let most = match self.params.naming {
            Naming::Preamble => self.params.config.max_parked,
            // The transport has agreed on it already, perhaps on several at a time.
            Naming::Negotiated => self.params.config.max_parked.saturating_mul(2),
        };
        self.streams.contains(name) || self.substreams.count_parked() < most
    }

    /// A Go node whose application sends at once opens a named substream and no handshake: then we
    /// open it, though the peer has dialled.
    fn open_missing_handshake(&mut self) {
        let is_being_opened = |stage: &Stage| {
            matches!(
                stage,
                Stage::Opening { purpose: Purpose::Handshake, .. }
                    | Stage::Proposing { purpose: Purpose::Handshake, .. }
            )
        };
        let is_missing = self.params.direction == Direction::Inbound
            && self.state.is_waiting()
            && self.profile().is_none()
            && !self.substreams.iter().any(|(_, substream)| is_being_opened(&substream.stage));
        if is_missing {
            self.open_handshake();
        }
    }
}
