//! An application that calls anything, in any order, and looks whether the answers are right.

use bytes::Bytes;
use glueberry_proto::{ConnectionState, HandshakeError, SendError, StreamName};

use super::app::Application;
use crate::check::Invariant;
use crate::rng::{Rng, u64_of};
use crate::trace::Kind;
use crate::wake::Side;

impl Application<'_> {
    /// Makes so many calls, some of which make no sense.
    pub(super) fn call_burst(&mut self, host: usize, calls: u64) {
        if self.hosts[host].node.is_none() {
            return;
        }
        self.run.fire("call burst");
        self.expected[host].burst_at = Some(self.run.now);
        let mut rng = self.hosts[host].rng.clone();
        for _ in 0..calls {
            let peer = rng.index(self.hosts.len());
            if peer != host {
                self.call(host, peer, &mut rng);
            }
        }
        self.hosts[host].rng = rng;
    }

    fn call(&mut self, host: usize, peer: usize, rng: &mut Rng) {
        let end = self.hosts.current_end(host, peer);
        match (rng.below(20), end) {
            (_, Some((link, side)))
                if !self.net.links[link].ends[side].progress.is_finalized && rng.chance(300) =>
            {
                self.prepare_with_wrong_key((link, side), peer);
            }
            (0, _) => self.disconnect(host, peer),
            (1..=4, _) => {
                self.add_peer(host, peer);
                self.connect(host, peer);
            }
            (5, _) => self.add_peer(host, peer),
            (6, Some(end)) => self.prepare_with_wrong_key(end, peer),
            (7, Some(end)) => self.finalize_early(end),
            (8, Some(end)) => self.send_too_much(end, rng),
            (9, Some(end)) => self.send_nowhere(end),
            (10, Some((link, side))) => self.close_session(link, side),
            (11, Some(end)) => self.reject(end),
            (12, Some(end)) => self.prepare_nothing(end),
            (13, _) => self.cancel_reconnection(host, peer),
            (14, _) => self.housekeeping(host, peer, rng),
            (15, _) => self.forget(host, peer),
            (_, Some((link, side))) => {
                let stream = rng.index(self.run.streams.len());
                self.send_message(link, side, stream, 40);
            }
            _ => {}
        }
    }

    pub(super) fn cancel_reconnection(&mut self, host: usize, peer: usize) {
        let (now, key) = (self.run.at(), self.hosts[peer].key);
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        node.handle_timeout(now);
        let before = node.state(key);
        let was_any = node.cancel_reconnection(now, key);
        let after = node.state(key);
        self.nodes().input_of_node(host, Kind::Cancel, (u64_of(peer), u64::from(was_any)));
        let is_absent = self.hosts[host].absent_until >= self.run.now;
        if before == ConnectionState::Cooldown && !is_absent {
            self.expected[host].called_off.insert(peer);
        }
        let holds = match before {
            ConnectionState::Reconnecting => was_any && after == ConnectionState::Disconnected,
            // Only a dial that is itself an attempt to reconnect is given up.
            ConnectionState::Connecting => {
                after == if was_any { ConnectionState::Disconnected } else { before }
            }
            // What would come after it is cancelled.
            ConnectionState::Cooldown => after == before,
            _ => !was_any && after == before,
        };
        let fact = format!("the peer was {before} and is {after}");
        self.answered(host, holds, &fact, &was_any);
    }

    /// Forgets the address of a peer, and learns it again.
    fn forget(&mut self, host: usize, peer: usize) {
        let (now, key) = (self.run.at(), self.hosts[peer].key);
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        node.handle_timeout(now);
        let before = node.state(key);
        let removed = node.remove_peer(now, key);
        let is_known = node.book().entry(key).is_some_and(|entry| !entry.addresses().is_empty());
        let after = node.state(key);
        self.nodes().input_of_node(
            host,
            Kind::Forget,
            (u64_of(peer), u64::from(removed.is_some())),
        );
        self.nodes().checker().check_critical(host, removed.is_some());
        let expected = match before {
            // There is nowhere to dial any more.
            ConnectionState::Reconnecting => ConnectionState::Disconnected,
            _ => before,
        };
        let holds = after == expected && !is_known;
        self.answered(host, holds, &format!("the peer was {before}"), &(after, removed));
        self.add_peer(host, peer);
        if self.hosts[host].wants[peer] {
            self.retry_soon(host, peer);
        }
    }

    /// What may be called at any time and changes no state of a peer.
    fn housekeeping(&mut self, host: usize, peer: usize, rng: &mut Rng) {
        let (now, key) = (self.run.at(), self.hosts[peer].key);
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        node.handle_timeout(now);
        let before = node.state(key);
        node.flush_book(now);
        let noted = self.protect(host, peer, rng.chance(500));
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        let reset = node.set_reconnect_policy(now, key, None);
        let after = node.state(key);
        self.nodes().input_of_node(host, Kind::Housekeeping, (u64_of(peer), 0));
        let holds = before == after && noted && reset.is_ok();
        self.answered(host, holds, &format!("the peer was {before}"), &(after, noted, reset));
    }

    fn prepare_with_wrong_key(&mut self, (link, side): (usize, Side), peer: usize) {
        let host = self.net.links[link].ends[side].host;
        let wrong = (0..self.hosts.len()).find(|other| *other != peer && *other != host);
        let Some(wrong) = wrong.map(|other| self.hosts[other].key) else {
            return;
        };
        let names = self.run.streams.clone();
        let prepared =
            self.sessions().with_session((link, side), Kind::Command, (3, 0), |session, now| {
                session.prepare_streams(now, wrong, &names)
            });
        let holds = matches!(
            prepared,
            None | Some(Err(HandshakeError::WrongKey { .. }
                | HandshakeError::AlreadyFinalized
                | HandshakeError::NotConnected
                | HandshakeError::Closed))
        );
        self.answered(host, holds, "streams were prepared with a wrong key", &prepared);
    }

    fn prepare_nothing(&mut self, (link, side): (usize, Side)) {
        let host = self.net.links[link].ends[side].host;
        let peer = self.hosts[self.net.links[link].ends[1 - side].host].key;
        let prepared =
            self.sessions().with_session((link, side), Kind::Command, (4, 0), |session, now| {
                session.prepare_streams(now, peer, &[])
            });
        let holds = !matches!(prepared, Some(Ok(())));
        self.answered(host, holds, "no stream was named", &prepared);
    }

    fn finalize_early(&mut self, (link, side): (usize, Side)) {
        let progress = self.net.links[link].ends[side].progress;
        let host = self.net.links[link].ends[side].host;
        if progress.is_prepared && !progress.is_finalized {
            return;
        }
        let done =
            self.sessions().with_session((link, side), Kind::Command, (5, 0), |session, now| {
                session.finalize_handshake(now)
            });
        // What another session had prepared counts.
        let holds = match done {
            Some(Ok(())) => !progress.is_finalized,
            Some(Err(HandshakeError::AlreadyFinalized)) => {
                progress.is_finalized || self.has_consented_elsewhere(link, side)
            }
            Some(Err(HandshakeError::NotPrepared)) => !progress.is_prepared,
            _ => true,
        };
        if done == Some(Ok(())) {
            self.net.links[link].ends[side].progress.is_finalized = true;
        }
        self.answered(host, holds, &format!("{progress:?}"), &done);
    }

    fn send_too_much(&mut self, (link, side): (usize, Side), rng: &mut Rng) {
        let host = self.net.links[link].ends[side].host;
        let more = rng.index(1000) + 1;
        let text = Bytes::from(vec![0; self.run.plan.limits.max_message_size + more]);
        let prepared = (0..self.run.streams.len()).find(|at| !self.run.skips(host, *at));
        let name = self.run.streams[prepared.unwrap_or(0)].clone();
        let sent =
            self.sessions().with_session((link, side), Kind::Command, (6, 0), |session, now| {
                session.send(now, &name, text)
            });
        let holds = !matches!(sent, Some(Ok(()) | Err(SendError::UnknownStream)));
        self.answered(host, holds, "the message is above the limit", &sent);
    }

    fn send_nowhere(&mut self, (link, side): (usize, Side)) {
        let host = self.net.links[link].ends[side].host;
        let Ok(name) = StreamName::new("nowhere") else {
            return;
        };
        let sent =
            self.sessions().with_session((link, side), Kind::Command, (7, 0), |session, now| {
                session.send(now, &name, Bytes::from_static(b"lost"))
            });
        let holds = !matches!(sent, Some(Ok(())));
        self.answered(host, holds, "nobody has prepared that stream", &sent);
    }

    fn close_session(&mut self, link: usize, side: Side) {
        self.net.touch_link(link);
        self.sessions()
            .with_session((link, side), Kind::Command, (8, 0), |session, now| session.close(now));
    }

    pub(super) fn reject(&mut self, (link, side): (usize, Side)) {
        let is_early = !self.net.links[link].ends[side].progress.is_finalized;
        if is_early {
            self.net.touch_link(link);
        }
        self.sessions().with_session((link, side), Kind::Command, (9, 0), |session, now| {
            session.reject_handshake(now, "not today");
        });
    }

    fn answered(&mut self, host: usize, holds: bool, fact: &str, answer: &dyn std::fmt::Debug) {
        self.run.checks.hold(Invariant::Answer, (self.run.now, host), holds, || {
            (fact.to_owned(), format!("answered {answer:?}"))
        });
    }
}
