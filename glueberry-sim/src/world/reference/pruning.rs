//! Whom a node prunes, and when it must.

use glueberry_proto::{ConnectionState, Direction};

use super::super::checks::Checker;
use crate::check::Invariant;

use ConnectionState::{Connected, Established};

/// Peers of whom one is pruned before the other by time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Stranger(ConnectionState),
    Known,
    Dialled,
}

impl Checker<'_> {
    /// A peer is pruned when it is its turn: of strangers that are not Established the oldest comes
    /// first, of others that have shown as much the youngest.
    pub(in super::super) fn check_turn(
        &mut self,
        host: usize,
        peer: usize,
        (from, since): (ConnectionState, u64),
        direction: Option<Direction>,
    ) {
        let expected = &self.expected[host];
        let class = self.class_of(host, peer, from, direction);
        let goes_before = |other: usize| {
            let since_other = expected.changed_at[other];
            match class {
                Class::Stranger(Connected) => since_other < since,
                _ => since_other > since,
            }
        };
        let before = (0..self.hosts.len()).find(|other| {
            let state = self.hosts.state(host, *other);
            let key = self.hosts[*other].key;
            let direction = self.hosts[host].node.as_ref().and_then(|node| node.direction(key));
            *other != peer
                && matches!(state, Connected | Established)
                && expected.reported[*other].0 == state
                // One that changes at the same time may have been of another class before.
                && expected.changed_at[*other] < self.run.now
                && expected.watched.protects.get(other) != Some(&true)
                && self.class_of(host, *other, state, direction) == class
                && goes_before(*other)
        });
        self.run.checks.hold(Invariant::Pruned, (self.run.now, host), before.is_none(), || {
            (
                format!("{peer} is {class:?}, and {from} since {since}"),
                format!("it is pruned, and not {before:?}, though that goes first"),
            )
        });
    }

    fn class_of(
        &self,
        host: usize,
        peer: usize,
        state: ConnectionState,
        direction: Option<Direction>,
    ) -> Class {
        match direction {
            Some(Direction::Outbound) => Class::Dialled,
            _ if self.is_stranger(host, peer) => Class::Stranger(state),
            _ => Class::Known,
        }
    }

    /// A peer has become Connected: of the strangers that should be Established by now none is left
    /// above the low watermark.
    pub(in super::super) fn check_none_stale(&mut self, host: usize, current: &[usize]) {
        let limits = &self.run.plan.limits;
        let expected = &self.expected[host];
        let is_stale = |peer: &usize| {
            let (state, since) = (expected.reported[*peer].0, expected.changed_at[*peer]);
            state == Connected && self.run.now >= since + limits.negotiation_timeout
        };
        let low = limits.more.sessions_low;
        let stale = self.strangers(host).filter(|peer| current.contains(peer)).find(is_stale);
        // Nobody is pruned unless there are more than the high watermark says.
        let has_pruned = expected.watched.pruned_at == Some(self.run.now);
        let holds = !has_pruned || current.len() <= low || stale.is_none();
        self.run.checks.hold(Invariant::Pruned, (self.run.now, host), holds, || {
            (
                format!("{low} peers may have a session, and {current:?} have"),
                format!("{stale:?} is a stranger that is Connected for long"),
            )
        });
    }

    /// Returns the strangers that have dialled a host, have a session with it and are not protected.
    fn strangers(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..self.hosts.len()).filter(move |peer| {
            let key = self.hosts[*peer].key;
            let node = self.hosts[host].node.as_ref();
            let has_dialled =
                node.is_some_and(|node| node.direction(key) == Some(Direction::Inbound));
            let has_session = matches!(self.hosts.state(host, *peer), Connected | Established);
            has_dialled && has_session && self.is_stranger(host, *peer)
        })
    }

    pub(in super::super) fn is_stranger(&self, host: usize, peer: usize) -> bool {
        let key = self.hosts[peer].key;
        self.hosts[host].node.as_ref().is_some_and(|node| node.is_stranger(key))
    }

    /// The latest events of peers that have a session say who has dialled it.
    pub(in super::super) fn check_directions(&mut self, host: usize) {
        for (peer, told) in std::mem::take(&mut self.expected[host].told) {
            let state = self.hosts.state(host, peer);
            let end = self.hosts.current_end(host, peer);
            let has_any = matches!(state, Connected | Established);
            let Some((link, side)) = end.filter(|_| has_any) else {
                continue;
            };
            let direction = self.net.links[link].ends[side].direction;
            let holds = told == Some(direction);
            self.run.checks.hold(Invariant::Direction, (self.run.now, host), holds, || {
                (
                    format!("connection {link} with {peer} is {direction:?}"),
                    format!("the event says {told:?}"),
                )
            });
        }
    }
}
