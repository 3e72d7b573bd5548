//! What must hold for sessions.

use glueberry_proto::{
    CloseReason, ConnectionLost, ConnectionState, Profile, READ_CHUNK, RecordError, SendError,
    StreamName,
};

use super::session::Sessions;
use crate::check::Invariant;
use crate::link::EndState;
use crate::rng::u64_of;
use crate::situation::BACKPRESSURE;
use crate::wake::{Side, Touch};

impl Sessions<'_> {
    pub(super) fn check_session(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        let host = end.host;
        let (Some(session), Some(id)) = (end.session.as_ref(), end.id) else {
            return;
        };
        if !session.is_established() {
            return;
        }
        // Messages on their way may still say otherwise.
        let is_pending = !end.inbox.is_empty()
            || !self.hosts[host].inbox.is_empty()
            || self.run.touched.contains(&Touch::Node(host));
        if is_pending {
            return;
        }
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let peer = session.peer();
        let (speaks, state) = (node.session_of(peer), node.state(peer));
        let holds = speaks == Some(id) && state == ConnectionState::Established;
        self.run.checks.hold(Invariant::OneSession, (self.run.now, host), holds, || {
            (format!("{id} is Established"), format!("{speaks:?} is current for the peer, {state}"))
        });
        let [ours, theirs] = [Some(session.direction()), node.direction(peer)];
        let is_right = ours == theirs && ours == Some(end.direction);
        self.run.checks.hold(Invariant::Direction, (self.run.now, host), is_right, || {
            (format!("{id} is {ours:?}"), format!("the node says that it is {theirs:?}"))
        });
        self.check_waiting(link, side);
    }

    /// Who is not an adversary, on a connection that nothing has happened to, loses nothing.
    pub(super) fn check_untouched(&mut self, link: usize, side: Side, fact: &dyn Fn() -> String) {
        let host = self.net.links[link].ends[side].host;
        let is_touched = self.net.links[link].is_touched;
        self.run.checks.hold(Invariant::NothingLost, (self.run.now, host), is_touched, || {
            (format!("nothing has happened to connection {link}"), fact())
        });
    }

    pub(super) fn check_rejected(
        &mut self,
        link: usize,
        side: Side,
        stream: &StreamName,
        error: RecordError,
    ) {
        let host = self.net.links[link].ends[side].host;
        let other = self.net.links[link].ends[1 - side].host;
        self.run.checks.hold(
            Invariant::Blame,
            (self.run.now, host),
            self.run.is_adversary(other),
            || (format!("{other} seals as it should"), format!("on {stream}: {error}")),
        );
    }

    pub(super) fn check_close_reason(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.net.links[link].ends[side].host;
        let other = self.net.links[link].ends[1 - side].host;
        if self.is_lost_for_nothing((link, side), reason) {
            self.check_untouched(link, side, &|| format!("its session ended: {reason}"));
        }
        let is_blamed = matches!(reason, CloseReason::Misbehaved(_));
        let is_bug = matches!(reason, CloseReason::Internal(_));
        // Somebody between the two has broken it.
        let is_tampered = self.net.links[link].is_tampered && self.speaks_v2((link, side));
        let holds = !is_bug && (!is_blamed || is_tampered || self.run.is_adversary(other));
        self.run.checks.hold(Invariant::Blame, (self.run.now, host), holds, || {
            (format!("{other} keeps to the protocol"), format!("the session ended: {reason:?}"))
        });
        self.check_handshake_ended(link, side, reason);
        self.check_blame(link, side, reason);
    }

    /// Returns whether a session ends that could only if something had happened to its connection.
    fn is_lost_for_nothing(&self, (link, side): (usize, Side), reason: &CloseReason) -> bool {
        let plan = &self.run.plan;
        match reason {
            CloseReason::ConnectionLost(ConnectionLost::TimedOut) => {
                // A probe takes its time.
                let is_slow = 4 * plan.longest_delay() >= plan.limits.more.probe_timeout;
                let is_lost = self.net.links[link].ends[side].state == EndState::Lost;
                is_lost || (!is_slow && plan.net.bandwidth == 0)
            }
            // Who finalizes in Go's profile reads no more of the handshake, and the peer waits in
            // vain for the time of a negotiation.
            CloseReason::HandshakeLost => {
                !self.net.links[link].ends[1 - side].progress.is_finalized
            }
            CloseReason::ConnectionLost(ConnectionLost::Reset) => true,
            CloseReason::NoCommonProtocol => {
                let ends = &self.net.links[link].ends;
                plan.can_talk(ends[0].host, ends[1].host)
            }
            _ => false,
        }
    }

    /// What a session holds of what it was handed.
    pub(super) fn check_memory(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        let is_closed = end.session.as_ref().is_none_or(|session| session.is_closed());
        // What records and control frames add in v2 is not in proportion to messages.
        let held = match &end.session {
            Some(session) if session.profile() == Some(Profile::V2) => {
                let buffers = self.net.links[link].pipes.iter();
                let unread =
                    buffers.filter_map(|pipe| pipe.buffers[side].as_ref()).map(|it| it.held());
                u64_of(unread.sum::<usize>() + session.received_bytes())
            }
            _ => end.held,
        };
        let (host, held) = (end.host, if is_closed { 0 } else { held });
        let pipes = u64_of(self.net.links[link].pipes.len());
        let chunk = u64_of(READ_CHUNK);
        let handshakes_sent = u64_of(self.run.plan.limits.more.max_handshake_size) + 100;
        let mut most = 4 * handshakes_sent + pipes * (chunk + 200);
        if end.progress.is_finalized {
            let limits = &self.run.plan.limits;
            let message = u64_of(limits.max_message_size) + 100;
            let per_stream = u64_of(limits.receive_queue_bytes) + 2 * (message + chunk);
            most += u64_of(self.run.streams.len()) * per_stream;
        }
        self.run.checks.hold(Invariant::Memory, (self.run.now, host), held <= most, || {
            (format!("the session may hold {most} bytes"), format!("it holds {held}"))
        });
    }

    /// What the witness of all sealing has seen.
    pub(super) fn check_seals(&mut self, host: usize) {
        let (seals, repeated, zero_keys) =
            self.run.witness.look(|seen| (seen.seals, seen.repeated, seen.zero_keys));
        let at = (self.run.now, host);
        self.run.checks.hold(Invariant::NonceOnce, at, repeated == 0, || {
            (format!("{seals} records were sealed"), format!("{repeated} with a used nonce"))
        });
        self.run.checks.hold(Invariant::RealKey, at, zero_keys == 0, || {
            (format!("{seals} records were sealed"), format!("{zero_keys} with a key of zeros"))
        });
    }

    pub(super) fn check_send(
        &mut self,
        (link, side): (usize, Side),
        stream: usize,
        sent: &Result<(), SendError>,
    ) {
        let end = &self.net.links[link].ends[side];
        let host = end.host;
        let is_established = end.session.as_ref().is_some_and(|session| session.is_established());
        let queued = end.session.as_ref().map(|session| session.queued(&self.run.streams[stream]));
        let holds = match sent {
            Ok(()) => end.progress.is_finalized && is_established,
            // In v2 the peer may not have confirmed the keys.
            Err(SendError::NotEstablished) => {
                !end.progress.is_finalized || (self.speaks_v2((link, side)) && !is_established)
            }
            Err(SendError::Closed) => !is_established,
            Err(SendError::Backpressure) => is_established,
            Err(SendError::UnknownStream) => self.run.skips(host, stream),
            Err(_) => false,
        };
        self.run.checks.hold(Invariant::Answer, (self.run.now, host), holds, || {
            (format!("is Established: {is_established}"), format!("send answered {sent:?}"))
        });
        // As many again may have been written already, and wait to go out once more.
        let limits = &self.run.plan.limits;
        let (count, bytes) = queued.unwrap_or_default();
        let (most, least) = (2 * limits.high_watermark, limits.more.high_watermark_bytes);
        let is_within = count <= most && bytes <= 2 * (least + limits.max_message_size);
        self.run.checks.hold(Invariant::Memory, (self.run.now, host), is_within, || {
            (format!("{most} messages may be queued"), format!("{count} are, of {bytes} bytes"))
        });
        if matches!(sent, Err(SendError::Backpressure)) {
            self.run.reach(Some(BACKPRESSURE));
        }
    }

    /// A session has taken what an adversary has sent: an offence in it must have ended the session.
    pub(super) fn check_offence(&mut self, link: usize, at: usize, side: Side) {
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let Some(offence) = script.offence.filter(|offence| offence.pipe == at) else {
            return;
        };
        let attack = script.attack;
        let pipe = &self.net.links[link].pipes[at];
        let half = &pipe.halves[side];
        let Some(buffer) = &pipe.buffers[side] else {
            return;
        };
        let is_taken = half.segments.is_empty()
            && half.reset.is_none()
            && match offence.by_end {
                true => half.is_over,
                false => buffer.wants_read() || buffer.is_read_over(),
            };
        // What is paused is not taken, and what is discarded offends nobody, or comes on a
        // substream that was given up before.
        let is_paused = !buffer.wants_read() && !buffer.is_read_over();
        let is_given_up = half.stopped.is_some();
        let end = &self.net.links[link].ends[side];
        let Some(session) = end.session.as_ref() else {
            return;
        };
        if !is_taken || is_paused || is_given_up || end.state != EndState::Open {
            return;
        }
        if offence.in_handshake && end.progress.is_finalized {
            return;
        }
        // In v2 it says why before it is over, and takes nothing more.
        let (host, is_closed) = (end.host, session.is_closed() || session.protocols().is_empty());
        self.run.checks.hold(Invariant::AdversaryBlamed, (self.run.now, host), is_closed, || {
            (format!("the peer has done this: {}", attack.name()), "its session goes on".into())
        });
    }

    /// A session with an adversary has ended: not by a bug of ours, and blaming him for what he has done
    /// and for nothing else.
    pub(super) fn check_blame(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.net.links[link].ends[side].host;
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let attack = script.attack;
        let holds = match reason {
            CloseReason::Misbehaved(how) => attack.is_blamed_for(how),
            _ => true,
        };
        self.run.checks.hold(Invariant::Blame, (self.run.now, host), holds, || {
            (format!("the peer has only done this: {}", attack.name()), format!("{reason:?}"))
        });
    }
}
