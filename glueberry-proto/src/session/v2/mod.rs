//! What a session of v2 does: the handshake substream stays as its control channel, streams carry
//! numbered instances, and the end is said.

mod channel;
mod end;
pub(super) mod incoming;
mod kept;
pub(super) mod outgoing;
#[cfg(test)]
#[expect(clippy::unwrap_in_result, reason = "what can't be run is none, what is wrong panics")]
mod tests;

use bytes::BytesMut;

use self::incoming::Incoming;
use self::outgoing::Outgoing;
use super::Session;
use super::action::{Ingest, ResetCode};
use super::substreams::{Opener, Stage, Substream, WriteHalf};
use crate::crypto::SharedKey;
use crate::error::{CloseReason, ConnectionLost, PeerMisbehaved};
use crate::id::SubstreamId;
use crate::message::FromSession;
use crate::prelude::*;
use crate::session_info::SessionInfo;
use crate::v2::Violation;
use crate::v2::agreement::Binding;
use crate::v2::gate::{Gate, Messages, Step};
use crate::wire::{Profile, StreamName};

impl Session {
    /// Gives the session what its transport has that ties it to the connection: 32 bytes of the TLS
    /// exporter with the label `EXPORTER-glueberry-2` and an empty context. Both sides of a v2 session
    /// must have it for it to count.
    ///
    /// To be called as soon as the node has made the session; has no effect once the session has
    /// written something.
    pub const fn set_channel_binding(&mut self, exporter: [u8; 32]) {
        self.params.binding = Binding::Exporter(exporter);
    }

    /// Returns what the session gives, as soon as both sides have said what they offer, so that an
    /// application may decide by it whether to finalize; `None` before, and after the end.
    ///
    /// In v2 that is certain once the session is Established: what an attacker may have altered
    /// before then is not confirmed.
    pub fn info(&self) -> Option<SessionInfo> {
        let profile = self.profile().filter(|_| !self.state.is_closed())?;
        let terms = self.handshake.gate().and_then(|gate| gate.terms());
        if profile == Profile::V2 && terms.is_none() {
            return None; // the peer's keys have not arrived
        }
        Some(SessionInfo {
            profile,
            suite: terms.map(|terms| terms.suite),
            is_forward_secret: profile == Profile::V2,
            is_post_quantum: terms.is_some_and(|terms| terms.suite.is_post_quantum()),
            is_bound: terms.is_some_and(|terms| terms.binding != Binding::None),
        })
    }

    /// Returns a secret of this session that only both applications know, to derive keys of their own
    /// from; `None` before Established, after the end, and in other profiles than v2.
    pub fn exporter(&self) -> Option<&SharedKey> {
        let is_alive = self.state.handshake_is_over() && !self.state.is_ending();
        self.handshake.gate().filter(|_| is_alive)?.exporter()
    }

    // ---- the handshake ------------------------------------------------------------------------

    /// Takes bytes of the control channel.
    pub(super) fn ingest_channel(
        &mut self,
        id: SubstreamId,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let of_channel = PeerMisbehaved::from;
        loop {
            let has_finalized = self.state.has_finalized();
            let messages = match self.handshake.has_room(&self.params.config) {
                _ if has_finalized => Messages::Dropped,
                true => Messages::Taken,
                false => Messages::Wait,
            };
            let now = self.now;
            let Some(gate) = self.handshake.gate_of(id) else {
                // The other one counts.
                buf.clear();
                return Ok(Ingest::Discard);
            };
            match gate.read(buf, messages, now).map_err(of_channel)? {
                Step::More { missing } => return Ok(Ingest::More { missing }),
                Step::Full => return Ok(Ingest::Paused),
                Step::Over => return Ok(Ingest::Discard),
                Step::Read => {}
                Step::Agreed => {
                    // R waits for it, also before the node has chosen the session.
                    if gate.has_ciphertext() {
                        self.substreams.want_write(id, &mut self.out);
                    }
                    self.commit();
                }
                Step::Confirmed => {
                    self.out.forward(FromSession::Confirmed);
                    if self.state.is_finalized() {
                        self.establish();
                    }
                }
                Step::Message(message) => {
                    let (handshake, _, mut lent) = self.parts();
                    handshake.receive(id, message, &mut lent);
                }
                Step::Finished => {
                    let (handshake, _, lent) = self.parts();
                    handshake.finished_there();
                    lent.substreams.handshake_ended_there();
                }
                Step::Abandoned(abandon) => {
                    let (_, streams, mut lent) = self.parts();
                    streams.abandoned(&abandon, &mut lent).map_err(of_channel)?;
                }
                Step::Closed(close) => {
                    self.peer_closed(close);
                    return Ok(Ingest::Discard);
                }
                Step::Aborted(code) => {
                    // Anybody could have said so: it is a loss like any other.
                    let why = ConnectionLost::ClosedByPeer { code: code.into() };
                    self.connection_lost(why);
                    return Ok(Ingest::Discard);
                }
            }
            // A session that has said the last thing still waits for the peer's.
            if self.state.is_closed() {
                return Ok(Ingest::Discard);
            }
        }
    }

    /// Confirms the session to the peer once the node has chosen it and the keys are known.
    pub(super) fn commit(&mut self) {
        let is_chosen = !self.state.is_waiting() && !self.state.is_ending();
        if is_chosen && self.handshake.gate_mut().is_some_and(Gate::commit) {
            let (handshake, _, mut lent) = self.parts();
            handshake.want_channel(&mut lent);
        }
    }

    /// Gives each stream its keys, after which the secret that they came from is gone. Does nothing in
    /// other profiles.
    pub(super) fn begin_instances(&mut self) {
        let settle_time = self.params.config.settle_time;
        let Some(gate) = self.handshake.gate_mut() else {
            return; // the peer has agreed to another profile, whose keys are the identities'
        };
        let (Some(cipher), Some(terms)) = (gate.cipher().cloned(), gate.terms().copied()) else {
            debug_assert!(false, "keys are known at Established");
            return;
        };
        let (role, master) = (gate.role(), gate.take_master());
        let (session, _) = terms.session.split_first_chunk().expect("an id has 16 bytes");
        let Some(master) = master else {
            debug_assert!(false, "a session is Established once");
            return;
        };
        self.streams.begin_instances(|name| {
            let (own, peers) = (master.stream(role, name), master.stream(role.other(), name));
            (
                Outgoing::new(own, cipher.clone(), *session, settle_time),
                Incoming::new(peers, cipher.clone(), *session),
            )
        });
        // What was left unread has its time from now on.
        let deadline = self.now + self.params.config.negotiation_timeout;
        let waiting: Vec<SubstreamId> = self.substreams.peers_streams().map(|(id, _)| id).collect();
        for id in waiting {
            self.substreams.expect(id, deadline);
        }
    }

    // ---- substreams ---------------------------------------------------------------------------

    /// True if the peer may open another substream of a stream that is not read yet.
    pub(super) fn may_wait(&self, name: &StreamName) -> bool {
        let waiting = self.substreams.peers_streams().filter(|(_, other)| *other == name);
        self.state.receiving().is_some() || waiting.count() < MAX_UNREAD
    }

    /// Takes bytes of a substream of a named stream.
    pub(super) fn ingest_instance(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let is_own = self.substreams.get(id).is_some_and(|it| it.opener == Opener::Local);
        if is_own && !buf.is_empty() {
            self.break_own(id, name, ResetCode::ReverseBytes);
            buf.clear();
            return Ok(Ingest::Discard);
        }
        if is_own {
            return Ok(Ingest::More { missing: 1 });
        }
        let (_, streams, mut lent) = self.parts();
        let ingest = streams.ingest_instance(id, name, &mut lent, buf)?;
        self.answer_if_complete();
        Ok(ingest)
    }

    /// The peer's half of a substream of ours has ended, on which it writes nothing. Returns whether
    /// it was one.
    pub(super) fn own_read_ended(
        &mut self,
        id: SubstreamId,
        stage: &Stage,
        is_finished: bool,
    ) -> bool {
        let has_instances = self.profile().is_some_and(Profile::has_instances);
        let own = self.substreams.get_mut(id).filter(|it| it.opener == Opener::Local);
        let (Stage::Bound(super::Purpose::Stream(name)), Some(substream), true) =
            (stage, own, has_instances)
        else {
            return false; // the peer has ended a half that carries something
        };
        substream.end_read();
        if !is_finished {
            self.break_own(id, name, ResetCode::Refused);
            return true;
        }
        // Where a half that was dropped looks like one that was ended, the adapter finds out which it is.
        let is_answer = substream.write == WriteHalf::Finished && substream.acknowledge();
        if is_answer {
            let (_, streams, mut lent) = self.parts();
            streams.delivered(id, name, &mut lent);
        }
        self.instance_read(id, name);
        self.substreams.forget_if_over(id);
        true
    }

    /// The peer ends its half when it has read all of an instance of ours.
    pub(super) fn instance_read(&mut self, id: SubstreamId, name: &StreamName) {
        let has_all = |it: &Substream| it.opener == Opener::Local && it.write == WriteHalf::Ended;
        if self.substreams.get(id).is_some_and(has_all)
            && let Some(stream) = self.streams.get_mut(name)
        {
            stream.sender.read();
        }
    }

    /// An instance of ours broke: it is not waited for, and the peer is told so.
    pub(super) fn break_own(&mut self, id: SubstreamId, name: &StreamName, code: ResetCode) {
        self.substreams.reset(id, code, &mut self.out);
        self.instance_broken(id, name);
    }

    pub(super) fn instance_broken(&mut self, id: SubstreamId, name: &StreamName) {
        let (handshake, streams, mut lent) = self.parts();
        if let Some(abandon) = streams.write_broken(id, name, &mut lent) {
            handshake.abandon(abandon, &mut lent);
        }
    }

    /// A frame may go out that had to wait.
    pub(super) fn control_due(&mut self) {
        let (handshake, _, mut lent) = self.parts();
        handshake.control_due(&mut lent);
    }

    /// The peer's half of the control channel has ended: with the session only, behind the last that
    /// the peer says.
    pub(super) fn channel_read_ended(&mut self, id: SubstreamId) {
        if !self.handshake.gate().is_some_and(Gate::is_read_over) {
            self.channel_lost(id);
        }
    }

    /// The control channel has ended other than by a last frame.
    pub(super) fn channel_lost(&mut self, id: SubstreamId) {
        if self.handshake.gate_of(id).is_none() {
            return;
        }
        self.handshake.lose_channel();
        self.substreams.reset(id, ResetCode::Refused, &mut self.out);
        if self.state.is_closing() {
            self.close_now();
        } else if !self.state.handshake_is_over() {
            self.finish_close(CloseReason::HandshakeLost);
        }
    }
}

impl From<Violation> for PeerMisbehaved {
    fn from(violation: Violation) -> Self {
        Self::V2 { stream: None, violation }
    }
}

/// Substreams of one name that wait unread for Established.
const MAX_UNREAD: usize = 3;
