//! What is said in a handshake beside what must be, and whether all of it is heard.

use super::app::Application;
use super::handshake::MORE;
use crate::check::Invariant;
use crate::link::Link;
use crate::rng::usize_of;
use crate::wake::{Side, Wake};

impl Application<'_> {
    /// Says what need not be said, unless there is no room for it.
    pub(super) fn say_more(&mut self, link: usize, side: Side) {
        let host = self.net.links[link].ends[side].host;
        for _ in 0..self.run.plan.hosts[host].talk.more {
            if !self.send_handshake(link, side, MORE) {
                return;
            }
        }
    }

    /// Returns the text of a handshake message: which word it is, and its number among those that
    /// the peer is told since it is Connected.
    pub(super) fn text_of(&self, (link, side): (usize, Side), word: u8, len: usize) -> Vec<u8> {
        let ends = &self.net.links[link].ends;
        let number = self.scripts[ends[side].host].said[ends[1 - side].host];
        let mut text = vec![word; len.max(HEAD)];
        text[1..HEAD].copy_from_slice(&number.to_be_bytes());
        text
    }

    /// Draws whether a host's application does not want the peer that has greeted it.
    pub(super) fn is_unwanted(&mut self, host: usize) -> bool {
        let rejects = self.run.plan.hosts[host].talk.rejects;
        rejects > 0 && !self.run.is_calm && self.hosts[host].rng.chance(rejects)
    }

    /// Returns how many of the handshake messages that a side has said may be unsent: none that the peer
    /// has heard, on a connection that nothing has happened to.
    pub(super) fn most_unsent_words(&self, link: usize, side: Side) -> usize {
        let state = &self.net.links[link];
        let [end, other] = [&state.ends[side], &state.ends[1 - side]];
        // Some were perhaps said on another session first, and carried over.
        let is_alone = |of: &Link| {
            of.ends.iter().zip(of.ends.iter().rev()).all(|(own, theirs)| {
                let is_own = own.host == end.host && own.life == end.life;
                !(is_own && theirs.host == other.host && own.progress.was_granted)
            })
        };
        let mut others = self.net.links.iter().enumerate().filter(|(at, _)| *at != link);
        if !others.all(|(_, of)| is_alone(of)) {
            return end.progress.handshakes_sent
                + CARRIED
                + 2 * self.run.plan.hosts[end.host].talk.more;
        }
        let is_touched = state.is_touched && state.drain.is_none();
        let heard = if is_touched { 0 } else { other.progress.heard_which.count_ones() };
        end.progress.handshakes_sent.saturating_sub(usize_of(heard.into()))
    }

    /// There are handshake messages to be taken: at once, or in the application's own time.
    pub(super) fn hear(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        end.progress.has_words = true;
        match self.run.plan.hosts[end.host].talk.hears_after {
            0 => self.read_handshake(link, side),
            after => self.run.push(self.run.now + after, Wake::Listen(link, side)),
        }
    }

    /// A handshake message of the peer was heard: all that it has said before was, on a connection
    /// that nothing has happened to. What the peer said on a session that gave way to this one is
    /// handed on, and comes first.
    pub(super) fn check_heard(&mut self, (link, side): (usize, Side), message: &[u8]) {
        let Some(number) = message.get(1..HEAD).and_then(|number| number.try_into().ok()) else {
            return;
        };
        let number = u16::from_be_bytes(number);
        let state = &mut self.net.links[link];
        let (host, sender) = (state.ends[side].host, &state.ends[1 - side]);
        if self.run.is_adversary(sender.host) {
            return;
        }
        // It counts from when it learns that the peer is Connected.
        let was_absent = self.hosts[sender.host].absent_until >= sender.admitted_at;
        let heard = state.ends[side].progress.heard;
        let holds = number <= heard || state.is_touched || was_absent;
        let progress = &mut state.ends[side].progress;
        let bit = 1_u128.checked_shl(number.into()).unwrap_or(0);
        // What is said again comes again in its order.
        let is_late = number < heard && progress.heard_which & bit == 0 && !was_absent;
        progress.heard = heard.max(number.saturating_add(1));
        progress.heard_which |= bit;
        self.run.checks.hold(Invariant::Heard, (self.run.now, host), holds && !is_late, || {
            (
                format!("of what the peer says on connection {link}, {heard} messages were heard"),
                format!("then comes number {number}"),
            )
        });
    }
}

/// The word and its number.
const HEAD: usize = 3;
/// Handshake messages that may have come from another session of the same peer.
const CARRIED: usize = 16;
