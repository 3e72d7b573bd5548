//! Being found out: who breaks the protocol is blamed for it, and for nothing else.

use glueberry_proto::CloseReason;

use crate::check::Invariant;
use crate::link::{Side, Standing};
use crate::world::World;

/// Where the protocol is broken for all to see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offence {
    pub(super) pipe: usize,
    /// It happens with the end of the substream, and not before.
    pub(super) by_end: bool,
    /// It is what nobody reads any more once the handshake is over.
    pub(super) in_handshake: bool,
}

impl World {
    pub(super) fn offend(&mut self, link: usize, offence: Offence) {
        if let Some(rogue) = &mut self.links[link].rogue {
            rogue.offence = Some(offence);
        }
    }

    /// A session has taken what a rogue has sent: an offence in it must have ended the session.
    pub(in crate::world) fn check_offence(&mut self, link: usize, at: usize, side: Side) {
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let Some(offence) = rogue.offence.filter(|offence| offence.pipe == at) else {
            return;
        };
        let trick = rogue.trick;
        let pipe = &self.links[link].pipes[at];
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
        let end = &self.links[link].ends[side];
        let Some(session) = end.session.as_ref() else {
            return;
        };
        if !is_taken || is_paused || is_given_up || end.standing != Standing::Open {
            return;
        }
        if offence.in_handshake && end.talk.is_finalized {
            return;
        }
        let (host, is_closed) = (end.host, session.is_closed());
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), is_closed, || {
            (format!("the peer has done this: {}", trick.name()), "its session goes on".into())
        });
    }

    /// A session with a rogue has ended: not by a bug of ours, and blaming him for what he has done
    /// and for nothing else.
    pub(in crate::world) fn rogue_blamed(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.links[link].ends[side].host;
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let trick = rogue.trick;
        let holds = match reason {
            CloseReason::Misbehaved(how) => trick.is_blamed_for(how),
            _ => true,
        };
        self.checks.hold(Invariant::Blame, (self.now, host), holds, || {
            (format!("the peer has only done this: {}", trick.name()), format!("{reason:?}"))
        });
    }

    /// A session delivers what a rogue has sealed: once, and nothing that somebody else has.
    pub(in crate::world) fn check_rogue_message(&mut self, link: usize, side: Side, text: &[u8]) {
        let end = &self.links[link].ends[side];
        let (host, own) = (end.host, self.model.find(text).map(|(_, sent)| sent));
        // In version 1 a session knows its own records by their nonces, and remembers so many: what
        // it has sealed since this one is no more than it has accepted on all of its streams.
        let accepted: u64 = end.lanes.iter().map(|lane| lane.accepted).sum();
        let is_forgotten = own.is_some_and(|sent| {
            (sent.link, sent.side) == (link, side) && accepted > sent.place + REMEMBERED
        });
        let is_right = own.is_none() || is_forgotten;
        self.checks.hold(Invariant::NoGhost, (self.now, host), is_right, || {
            ("a rogue has sent this back".into(), "it is delivered as if he had sealed it".into())
        });
        if is_forgotten {
            return;
        }
        let Some(rogue) = &mut self.links[link].rogue else {
            return;
        };
        rogue.delivered += 1;
        let (delivered, sealed, trick) = (rogue.delivered, rogue.sealed, rogue.trick);
        let holds = delivered <= sealed;
        self.checks.hold(Invariant::RogueBlamed, (self.now, host), holds, || {
            (
                format!("of the records of this peer, {sealed} may be opened ({})", trick.name()),
                format!("{delivered} were delivered"),
            )
        });
    }
}

/// Nonces that a session remembers of what it has sealed.
const REMEMBERED: u64 = 256;
