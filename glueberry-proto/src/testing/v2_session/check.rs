//! What must hold, whatever the adversary does.

use bytes::Bytes;

use super::record::{STREAMS, Seen, Sent};
use super::{World, name};
use crate::testing::pair::{A, B, Side};
use crate::{ConnectionLost, SessionId};

impl World<'_> {
    /// Checks each session against the one at the other end of its link.
    pub(super) fn check(&self) {
        for link in 0..self.pair.links.len() {
            let [Some(a), Some(b)] = self.pair.links[link].ends else {
                continue;
            };
            let ends = [a, b];
            for to in [A, B] {
                if let Some(seen) = self.pair.app.sides[to].seen.get(&ends[to]) {
                    check_received(seen, self.pair.app.sides[1 - to].sent.get(&ends[1 - to]));
                }
            }
            self.check_agreement(ends);
        }
    }

    fn check_agreement(&self, ends: [SessionId; 2]) {
        let info = |side: Side| self.pair.app.sides[side].seen.get(&ends[side])?.info;
        if let (Some(a), Some(b)) = (info(A), info(B)) {
            assert_eq!(a, b, "they have agreed on different things");
        }
        let exporter = |side: Side| self.pair.hosts[side].sessions.get(&ends[side])?.exporter();
        if let (Some(a), Some(b)) = (exporter(A), exporter(B)) {
            assert!(a.as_bytes() == b.as_bytes(), "they have different keys");
        }
    }

    /// Ends everything, and checks what is reported of each message.
    pub(super) fn end(mut self) {
        for side in [A, B] {
            self.pair.app.sides[side].is_paused = false;
        }
        self.pair.run();
        for link in 0..self.pair.links.len() {
            self.pair.cut(link);
        }
        for side in [A, B] {
            let now = self.pair.now;
            self.pair.hosts[side].node.shutdown(now);
            for session in self.pair.hosts[side].sessions.values_mut() {
                session.handle_connection_lost(now, ConnectionLost::ClosedLocally);
            }
        }
        self.pair.run();
        self.check();
        for side in [A, B] {
            assert!(self.pair.hosts[side].node.is_idle(), "sessions or dials are left");
            let ids: Vec<SessionId> = self.pair.hosts[side].sessions.keys().copied().collect();
            for id in ids {
                self.check_outcome(side, id);
            }
        }
    }

    /// Each message that a session has accepted has one outcome.
    fn check_outcome(&mut self, side: Side, id: SessionId) {
        let session = self.pair.hosts[side].sessions.get_mut(&id).expect("it was found");
        let unsent: Vec<Bytes> =
            STREAMS.iter().flat_map(|stream| session.take_unsent(&name(stream))).collect();
        let other = self.pair.links[self.pair.link_of(side, id)].ends[1 - side];
        let taken = &self.pair.app.sides[side];
        let closed = taken.seen.get(&id).and_then(|seen| seen.closed.as_ref());
        let closed = closed.expect("C2: no end was reported");
        let seen = other.and_then(|other| self.pair.app.sides[1 - side].seen.get(&other));
        let arrived: Vec<&Bytes> =
            seen.map_or(Vec::new(), |seen| seen.messages.iter().flatten().collect());
        assert!(!unsent.iter().any(|it| arrived.contains(&it)), "unsent, and arrived");
        // What is left of a handshake counts too.
        assert!(unsent.len() <= closed.unsent, "{} are unsent: {closed:?}", unsent.len());
        let accepted = taken.sent.get(&id).map_or(0, |sent| sent.messages.iter().flatten().count());
        let count = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
        let most = count(accepted - unsent.len()).checked_sub(closed.not_received);
        let most = most.expect("more outcomes than messages");
        // Who reads an instance acknowledges it by the end of its own half, which only the transport
        // protects.
        let least = if self.has_forged_end { 0 } else { most.saturating_sub(closed.in_doubt) };
        let range = least..=most;
        let arrived = count(arrived.len());
        assert!(range.contains(&arrived), "{arrived} of {accepted} arrived: {closed:?}");
    }
}

/// Checks what a session gave to its application against what the peer's has accepted.
fn check_received(seen: &Seen, sent: Option<&Sent>) {
    let nothing = Sent::default();
    let sent = sent.unwrap_or(&nothing);
    if seen.info.is_some() {
        assert!(sent.handshake.starts_with(&seen.handshake), "something else than was said");
    }
    for (at, messages) in seen.messages.iter().enumerate() {
        assert!(messages.is_empty() || seen.info.is_some(), "messages before Established");
        let mut behind = sent.messages[at].iter();
        let mut skipped = 0_u64;
        for message in messages {
            let ahead = behind.by_ref().position(|sent| sent == message);
            let ahead = ahead.expect("not what was sent, in its order, once");
            skipped += u64::try_from(ahead).unwrap_or(u64::MAX);
        }
        assert!(skipped <= seen.lost[at], "{skipped} are missing, {} reported", seen.lost[at]);
    }
}
