//! How a session of v2 ends: each side says the last thing, with what it has sent and received
//! (WIRE.md §9).

use core::time::Duration;

use crate::error::CloseReason;
use crate::session::Session;
use crate::session::state::Awaited;
use crate::session::substreams::WriteHalf;
use crate::v2::control::Close;

impl Session {
    /// Says the last thing and waits until it has gone out, or for the peer's. Returns false if there
    /// is nothing to say, or no way.
    pub(in crate::session) fn say_goodbye(&mut self, reason: &CloseReason) -> bool {
        let was_carrying = self.state.carrying().is_some();
        let is_heard = match reason {
            CloseReason::ConnectionLost(_) => false,
            // The peer has begun another session in place of one that was chosen, so it has lost that.
            CloseReason::Superseded => self.state.is_waiting(),
            _ => true,
        };
        let can_say = self.handshake.channel().is_some_and(|id| self.substreams.is_writable(id))
            && self.handshake.gate().is_some_and(|gate| !gate.is_written_over());
        if !(is_heard && can_say) {
            return false;
        }
        let is_answer = self.handshake.gate().is_some_and(|gate| gate.is_read_over());
        let code = u16::try_from(self.close_code(reason).as_u64()).unwrap_or(5);
        // The peer's reason is not ours.
        let code = if matches!(reason, CloseReason::EndedByPeer { .. }) { 0 } else { code };
        let is_orderly = code == 0 && (was_carrying || is_answer);
        let entries = self.streams.close_entries();
        let patience = match is_orderly {
            // The peer may have to read first what was sent ahead (WIRE.md §9.2).
            true => self.params.config.drain_timeout,
            false => FLUSH,
        };
        let awaits = if is_orderly && !is_answer { Awaited::Answer } else { Awaited::Close };
        self.state.move_to_closing(reason.clone(), self.now + patience, awaits);
        let (handshake, _, mut lent) = self.parts();
        handshake.end_channel(Close { code, entries }, &mut lent);
        let channel = self.handshake.channel();
        if !is_orderly {
            self.substreams.reset_others(channel, &mut self.out);
        }
        true
    }

    /// The peer has said the last thing.
    pub(in crate::session) fn peer_closed(&mut self, close: Close) {
        let code = close.code;
        self.streams.peer_closed(close);
        let reason = CloseReason::EndedByPeer { code };
        if self.state.is_closing() {
            self.both_have_closed();
        } else if code != 0 || self.state.carrying().is_none() {
            // Nothing is answered.
            self.end_now(reason);
        } else {
            let deadline = self.now + ANSWER;
            self.state.move_to_answering(reason, deadline);
            // What arrived before is read, where the queues have room.
            self.substreams.resume_streams(&mut self.out);
            self.answer_if_complete();
        }
    }

    /// All that the peer has sent was received: answers its end.
    pub(in crate::session) fn answer_if_complete(&mut self) {
        if self.state.is_answering() && self.streams.have_all() {
            self.finish_draining();
        }
    }

    /// The peer has said the last thing, behind or beside this side's. Its counts are ours to keep; so
    /// that it has ours, too, the connection must not be closed before they have arrived.
    fn both_have_closed(&mut self) {
        let channel = self.handshake.channel().and_then(|id| self.substreams.get(id));
        if channel.is_some_and(|it| it.write != WriteHalf::Ended) {
            self.state.close_until(self.now + FLUSH, Awaited::Acknowledgement);
        } else {
            self.close_now();
        }
    }

    /// The peer's transport has the last that this side has said.
    pub(in crate::session) fn goodbye_arrived(&mut self) {
        match self.state.awaited() {
            Some(Awaited::Acknowledgement) => self.close_now(),
            // The peer closes the connection, if it is the session's; closing it here could overtake
            // what was said.
            Some(Awaited::Close) => self.state.close_until(self.now + FLUSH, Awaited::Close),
            Some(Awaited::Answer) | None => {}
        }
    }

    /// Ends a session that has said the last thing.
    pub(in crate::session) fn close_now(&mut self) {
        let reason = self.state.drain_reason().cloned();
        debug_assert!(reason.is_some(), "only a session that closes ends so");
        self.end_now(reason.unwrap_or(CloseReason::Disconnected));
    }
}

/// How long the transport has for what is said last.
const FLUSH: Duration = Duration::from_secs(1);
/// How long what the peer has sent is awaited after it has ended the session.
const ANSWER: Duration = Duration::from_secs(3);
