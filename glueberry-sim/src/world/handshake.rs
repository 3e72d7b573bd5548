//! How the scripted application holds the handshake: in its style.

use bytes::Bytes;
use glueberry_proto::{Profile, ProtocolId, SendError, StreamName};

use super::app::Application;
use crate::check::Invariant;
use crate::link::{EndState, Pipe};
use crate::plan::HandshakeStyle;
use crate::rng::u64_of;
use crate::situation::{LONG_HANDSHAKE, way};
use crate::trace::Kind;
use crate::wake::{Side, Wake};

impl Application<'_> {
    fn handshake_style(&self, link: usize, side: Side) -> HandshakeStyle {
        self.run.plan.hosts[self.net.links[link].ends[side].host].handshake_style
    }

    /// The message that the session is granted may still be on its way: then this comes again.
    pub(super) fn send_hello(&mut self, link: usize, side: Side) {
        if !self.send_handshake(link, side, HELLO) {
            let end = &self.net.links[link].ends[side];
            let (host, passed) = (end.host, end.current_since.map(|at| self.run.now - at));
            let longest = 2 * self.run.plan.net.message_delay + 2;
            // In v2 it first says why.
            let is_ending = end.session.as_ref().is_none_or(|it| it.protocols().is_empty());
            let is_over = end.progress.is_closed || is_ending;
            let is_late = passed.is_some_and(|passed| passed > longest) && !is_over;
            let is_late = is_late && self.hosts[host].paused_until + longest < self.run.now;
            self.run.checks.hold(Invariant::Granted, (self.run.now, host), !is_late, || {
                (
                    format!("connection {link} speaks for its peer"),
                    format!("its session does not know it after {passed:?} µs"),
                )
            });
            let soon = self.run.now + self.run.plan.net.message_delay + 1;
            return self.run.push(soon, Wake::Greet(link, side));
        }
        self.say_more(link, side);
        if self.handshake_style(link, side) == HandshakeStyle::Prompt {
            self.prepare(link, side);
            self.finalize(link, side);
        }
    }

    /// Goes on with the handshake, after a while or because something was not possible before.
    pub(super) fn continue_handshake(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        let progress = end.progress;
        let is_over = end.session.is_none() || progress.is_closed || progress.is_finalized;
        if is_over || end.state != EndState::Open {
            return;
        }
        let peer = self.net.links[link].ends[1 - side].host;
        if self.hosts.current_end(end.host, peer) != Some((link, side)) {
            return;
        }
        // What was said before in a session that has yielded to this one is handed over to it.
        if progress.handshakes_sent == 0 && !self.scripts[end.host].has_greeted[peer] {
            return self.send_hello(link, side);
        }
        if progress.got_hello && !progress.is_prepared {
            if self.is_unwanted(end.host) {
                return self.reject((link, side));
            }
            self.prepare(link, side);
        }
        if progress.got_ready {
            self.finalize(link, side);
        }
    }

    pub(super) fn read_handshake(&mut self, link: usize, side: Side) {
        loop {
            let end = &mut self.net.links[link].ends[side];
            let (host, profile) = (end.host, end.session.as_ref().and_then(|s| s.profile()));
            let Some(message) = end.session.as_mut().and_then(|s| s.poll_handshake_message())
            else {
                end.progress.has_words = false;
                break;
            };
            let header = profile.map_or(0, |one| one.framing().header_len(message.len()));
            end.held = end.held.saturating_sub(u64_of(message.len() + header));
            let word = message.first().copied().unwrap_or(0);
            end.progress.heard_at = Some(self.run.now);
            match word {
                HELLO => end.progress.got_hello = true,
                READY => {
                    // Who is ready has greeted, though on a session that came to nothing perhaps.
                    end.progress.got_hello = true;
                    end.progress.got_ready = true;
                }
                _ => {}
            }
            let other = self.net.links[link].ends[1 - side].host;
            let is_known = matches!(word, HELLO | MORE | READY) || self.run.is_adversary(other);
            self.run.note(
                host,
                link,
                Kind::HandshakeMessage,
                (u64::from(word), u64_of(message.len())),
            );
            self.run.checks.hold(Invariant::NoGhost, (self.run.now, host), is_known, || {
                ("applications say no other words".into(), format!("heard {message:?}"))
            });
            self.check_heard((link, side), &message);
        }
        self.run.touch_session(link, side);
        match self.handshake_style(link, side) {
            HandshakeStyle::Slow(after) => {
                self.run.push(self.run.now + after, Wake::Greet(link, side))
            }
            _ => self.continue_handshake(link, side),
        }
    }

    pub(super) fn send_handshake(&mut self, link: usize, side: Side, word: u8) -> bool {
        let text = self.text_of((link, side), word, self.run.plan.limits.more.word);
        let mut said = self.say(link, side, text);
        self.check_said(link, side, said.as_ref());
        if said == Some(Err(SendError::Backpressure)) {
            let text = self.text_of((link, side), word, SHORT);
            said = self.say(link, side, text);
        }
        let is_said = said == Some(Ok(()));
        let ends = &self.net.links[link].ends;
        let (host, peer) = (ends[side].host, ends[1 - side].host);
        self.scripts[host].has_greeted[peer] |= is_said;
        self.scripts[host].said[peer] += u16::from(is_said);
        let progress = &mut self.net.links[link].ends[side].progress;
        progress.handshakes_sent += usize::from(is_said);
        if is_said {
            progress.said_at.get_or_insert(self.run.now);
        }
        is_said
    }

    fn say(&mut self, link: usize, side: Side, text: Vec<u8>) -> Option<Result<(), SendError>> {
        let word = u64::from(text.first().copied().unwrap_or(0));
        self.sessions().with_session((link, side), Kind::Command, (0, word), |session, now| {
            session.send_handshake(now, Bytes::from(text))
        })
    }

    /// What the peer has answered makes room for more.
    fn check_said(&mut self, link: usize, side: Side, said: Option<&Result<(), SendError>>) {
        let state = &self.net.links[link];
        let (host, progress) = (state.ends[side].host, state.ends[side].progress);
        let is_handshake =
            |pipe: &&Pipe| matches!(pipe.proposals.first(), Some(ProtocolId::Handshake(_)));
        // On a second substream an answer would not show which of the two it is about.
        let is_only = state.pipes.iter().filter(is_handshake).count() == 1;
        // What it takes later may have come before.
        let is_prompt = self.run.plan.hosts[host].talk.hears_after == 0;
        let was_answered = is_only
            && is_prompt
            && !state.is_touched
            && progress.handshakes_sent == 1
            && progress.said_at.is_some_and(|said| progress.heard_at.is_some_and(|at| at > said));
        let holds = !was_answered || said != Some(&Err(SendError::Backpressure));
        self.run.checks.hold(Invariant::Answer, (self.run.now, host), holds, || {
            ("the only handshake message before was answered".into(), format!("{said:?}"))
        });
    }

    fn prepare(&mut self, link: usize, side: Side) {
        let peer = self.hosts[self.net.links[link].ends[1 - side].host].key;
        let host = self.net.links[link].ends[side].host;
        let names: Vec<StreamName> = (0..self.run.streams.len())
            .filter(|stream| !self.run.skips(host, *stream))
            .map(|stream| self.run.streams[stream].clone())
            .collect();
        let prepared =
            self.sessions().with_session((link, side), Kind::Command, (1, 0), |session, now| {
                session.prepare_streams(now, peer, &names)
            });
        if let Some(Err(error)) = &prepared {
            // Another session may have been chosen meanwhile.
            let is_moved = matches!(
                error,
                glueberry_proto::HandshakeError::NotConnected
                    | glueberry_proto::HandshakeError::Closed
            );
            let is_moved = is_moved || self.has_consented_elsewhere(link, side);
            self.run.checks.hold(Invariant::Answer, (self.run.now, host), is_moved, || {
                ("a Connected session was prepared".into(), format!("{error:?}"))
            });
            return;
        }
        if prepared.is_some() {
            let progress = &mut self.net.links[link].ends[side].progress;
            (progress.is_prepared, progress.prepared_at) = (true, Some(self.run.now));
            self.say_more(link, side);
            self.send_handshake(link, side, READY);
        }
    }

    pub(super) fn finalize(&mut self, link: usize, side: Side) {
        let done =
            self.sessions().with_session((link, side), Kind::Command, (2, 0), |session, now| {
                session.finalize_handshake(now).is_ok()
            });
        if done == Some(true) {
            self.net.links[link].ends[side].progress.is_finalized = true;
        }
    }

    /// Returns whether the application has consented on another session with the peer, which in v2 may
    /// have handed that on.
    pub(super) fn has_consented_elsewhere(&self, link: usize, side: Side) -> bool {
        let ends = &self.net.links[link].ends;
        let (host, life, peer) = (ends[side].host, ends[side].life, ends[1 - side].host);
        let session = ends[side].session.as_ref();
        let is_v2 = session.is_some_and(|session| session.profile() == Some(Profile::V2));
        is_v2
            && self.net.links.iter().any(|other| {
                [0, 1].into_iter().any(|at| {
                    let (own, theirs) = (&other.ends[at], &other.ends[1 - at]);
                    let is_own = own.host == host && own.life == life && theirs.host == peer;
                    is_own && own.progress.is_finalized
                })
            })
    }

    /// The session reports that named streams carry messages.
    pub(super) fn established(&mut self, link: usize, side: Side) {
        let has_consented = self.has_consented_elsewhere(link, side);
        let end = &mut self.net.links[link].ends[side];
        end.progress.is_finalized |= has_consented;
        end.progress.is_established = true;
        let lasted = self.run.now - end.admitted_at;
        let (host, is_finalized) = (end.host, end.progress.is_finalized);
        self.run.checks.hold(Invariant::Gate, (self.run.now, host), is_finalized, || {
            ("the session is Established".into(), "its handshake was not finalized".into())
        });
        let profile =
            self.net.links[link].ends[side].session.as_ref().and_then(|one| one.profile());
        let naming = self.net.links[link].naming;
        let is_long = lasted > self.run.plan.limits.negotiation_timeout;
        self.run.reach(is_long.then_some(LONG_HANDSHAKE));
        self.run.reach(profile.and_then(|profile| way(naming, profile)));
        self.sessions().check_established(link, side);
        self.resume_flows(link, side);
    }
}

/// Bytes of a message for which there is always room.
pub(super) const SHORT: usize = 24;
/// The first message of a handshake.
pub(super) const HELLO: u8 = b'h';
/// What need not be said.
pub(super) const MORE: u8 = b'm';
/// The message of who has prepared.
pub(super) const READY: u8 = b'r';
