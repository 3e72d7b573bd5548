//! What nodes must do with their peers, when, and how often.

use std::collections::{BTreeMap, BTreeSet};

use glueberry_proto::{
    CloseReason, ConnectionEvent, ConnectionState, Direction, SessionId, StateReason,
};

use super::checks::Checker;
use crate::check::Invariant;
use crate::generate::SECOND;
use crate::situation::PRUNED;

use ConnectionState::{Connected, Cooldown, Disconnected, Established, Reconnecting};

/// What is known of a host beside the states of its peers.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Of each peer: it was lost, and is to be dialled again at once.
    owes_retry: BTreeSet<usize>,
    /// A session has become current since the node was looked at.
    has_activated: bool,
    /// Since when each session does not speak for its peer.
    superfluous: BTreeMap<SessionId, u64>,
    /// Since when a peer keeps another session than this host.
    differs: BTreeMap<usize, u64>,
    /// Peers that the application protects.
    pub(super) protects: BTreeMap<usize, bool>,
    /// When it last pruned a peer.
    pub(super) pruned_at: Option<u64>,
}

/// What speaks for a peer that could be pruned; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Connected,
    Established,
    Known,
    Dialled,
}

impl Watched {
    /// A peer is to be dialled again at once.
    pub(super) fn owes(&mut self, peer: usize) {
        self.owes_retry.insert(peer);
    }
}

const fn has_session(state: ConnectionState) -> bool {
    matches!(state, Connected | Established)
}

impl Checker<'_> {
    /// Takes note of an event; `from` is the state before it, and since when.
    pub(super) fn watch_event(
        &mut self,
        host: usize,
        peer: usize,
        (from, since): (ConnectionState, u64),
        event: &ConnectionEvent,
    ) {
        let is_prompt = event.at.as_micros() == self.run.now;
        let watched = &mut self.expected[host].watched;
        watched.owes_retry.remove(&peer);
        watched.has_activated |= is_prompt && event.state == Connected;
        let is_lost =
            matches!(event.reason, Some(StateReason::SessionEnded(_) | StateReason::DialFailed(_)));
        if is_prompt && is_lost && event.state == Disconnected {
            watched.owes_retry.insert(peer);
        }
        if event.reason == Some(StateReason::Pruned) {
            watched.pruned_at = Some(self.run.now);
            self.run.reach(Some(PRUNED));
            if is_prompt {
                self.check_turn(host, peer, (from, since), event.direction);
                self.check_pruned(host, peer, (from, since), event.direction);
            }
        }
        self.check_time_was_up(host, peer, (from, since), event);
        if is_prompt {
            self.check_cooldown(host, peer, from, event);
        }
        let most = self.run.plan.limits.attempts;
        let attempts = self.expected[host].attempts[peer];
        let holds = event.state != Reconnecting || most == 0 || attempts <= most;
        let is_known = attempts < super::checks::UNKNOWN;
        self.run.checks.hold(Invariant::Attempts, (self.run.now, host), holds || !is_known, || {
            (format!("{peer} may be dialled again {most} times"), format!("this is {attempts}"))
        });
    }

    /// What a peer has ended for lack of time, or waited for, has had it.
    fn check_time_was_up(
        &mut self,
        host: usize,
        peer: usize,
        (from, since): (ConnectionState, u64),
        event: &ConnectionEvent,
    ) {
        let limits = &self.run.plan.limits;
        let least = match (from, &event.reason) {
            (Connected, Some(StateReason::SessionEnded(CloseReason::HandshakeTimeout))) => {
                limits.handshake_timeout
            }
            (Cooldown, Some(StateReason::CooldownOver) | None) => limits.cooldown,
            _ => return,
        };
        let passed = event.at.as_micros().saturating_sub(since);
        self.run.checks.hold(Invariant::NotEarly, (self.run.now, host), passed >= least, || {
            (
                format!("{peer} is {from} for {least} µs at least"),
                format!("it is {} after {passed} µs: {:?}", event.state, event.reason),
            )
        });
    }

    /// A pruned peer was above the limit, had shown least, and is not protected.
    fn check_pruned(
        &mut self,
        host: usize,
        peer: usize,
        (from, since): (ConnectionState, u64),
        direction: Option<Direction>,
    ) {
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let expected = &self.expected[host];
        let is_protected = |peer: usize| expected.watched.protects.get(&peer) == Some(&true);
        let rank = |peer: usize, state: ConnectionState, direction: Option<Direction>| {
            if direction == Some(Direction::Outbound) {
                Rank::Dialled
            } else if !node.is_stranger(self.hosts[peer].key) {
                Rank::Known
            } else if state == Established {
                Rank::Established
            } else {
                Rank::Connected
            }
        };
        let more = &self.run.plan.limits.more;
        let states = || expected.reported.iter().map(|(state, _)| *state).enumerate();
        let count = states().filter(|(_, state)| has_session(*state)).count();
        let own = rank(peer, from, direction);
        // It has been Connected for long without becoming Established.
        let passed = self.run.now.saturating_sub(since);
        let is_stale = own == Rank::Connected && passed >= self.run.plan.limits.negotiation_timeout;
        let most = if is_stale { more.sessions_low } else { more.sessions_high };
        let less = states().find(|(other, state)| {
            let key = self.hosts[*other].key;
            *other != peer
                && has_session(*state)
                && node.state(key) == *state
                && !is_protected(*other)
                && rank(*other, *state, node.direction(key)) < own
        });
        // Strangers give way to others, too, where there are no more places for sessions.
        let limit = self.run.plan.limits.max_sessions;
        let reserved = node.config().reserved_sessions.min(limit / 2);
        let taken = match own {
            Rank::Established => self.places(host),
            _ => self.hosts[host].links.len(),
        };
        let is_full = taken + reserved >= limit;
        let may_give_way = count > most || (is_full && own < Rank::Known);
        let holds = may_give_way && !is_protected(peer) && less.is_none();
        let is_safe = is_protected(peer);
        self.run.checks.hold(Invariant::Pruned, (self.run.now, host), holds, || {
            (
                format!("{count} peers had a session, and {most} may; {peer} is {own:?}"),
                format!("it is pruned; it is protected: {is_safe}, or {less:?} goes first"),
            )
        });
    }

    /// Returns how many places are taken, where several sessions of a peer that is no stranger, which are
    /// about to become one, take one.
    fn places(&self, host: usize) -> usize {
        let peers = self.hosts[host].links.values().map(|(link, side)| {
            let other = &self.net.links[*link].ends[1 - *side];
            (self.is_stranger(host, other.host), other.host)
        });
        let (strangers, known): (Vec<_>, Vec<_>) = peers.partition(|(is_stranger, _)| *is_stranger);
        let known: BTreeSet<_> = known.into_iter().map(|(_, peer)| peer).collect();
        strangers.len() + known.len()
    }

    /// A node was given time, and its events were taken.
    pub(super) fn watch_node(&mut self, host: usize) {
        let at = (self.run.now, host);
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let errors = node.internal_errors();
        self.run.checks.hold(Invariant::Sound, at, errors == 0, || {
            ("a node has its states in its hands".into(), format!("{errors} internal errors"))
        });
        let expected = &mut self.expected[host];
        let (most, high) = (self.run.plan.limits.attempts, self.run.plan.limits.more.sessions_high);
        for peer in std::mem::take(&mut expected.watched.owes_retry) {
            let key = self.hosts[peer].key;
            let is_known = expected.attempts[peer] < super::checks::UNKNOWN;
            let is_allowed = is_known && (most == 0 || expected.attempts[peer] < most);
            let has_address =
                node.book().entry(key).is_some_and(|entry| !entry.addresses().is_empty());
            let is_due = is_allowed
                && has_address
                && !self.hosts[host].is_stopping
                && !node.is_blacklisted(key)
                && node.state(key) == Disconnected;
            self.run.checks.hold(Invariant::Attempts, at, !is_due, || {
                (format!("{peer} was lost, and may be dialled again"), "it is not to be".into())
            });
        }
        if std::mem::take(&mut expected.watched.has_activated) && high < self.hosts.len() {
            let current: Vec<usize> = (0..self.hosts.len())
                .filter(|peer| has_session(node.state(self.hosts[*peer].key)))
                .collect();
            let count = current.len();
            let protects = &expected.watched.protects;
            let is_left = current.iter().any(|peer| protects.get(peer) != Some(&true));
            self.run.checks.hold(Invariant::Pruned, at, count <= high || !is_left, || {
                (format!("{high} peers may have a session"), format!("these have: {current:?}"))
            });
            self.check_none_stale(host, &current);
        }
    }

    /// Looks from time to time at what should have ended.
    pub(super) fn scan(&mut self) {
        for host in 0..self.hosts.len() {
            if self.hosts[host].node.is_some() {
                self.scan_sessions(host);
                self.check_unneeded(host);
                self.check_statuses(host);
            }
        }
        for host in 0..self.hosts.len() {
            for peer in host + 1..self.hosts.len() {
                self.scan_pair(host, peer);
            }
        }
    }

    fn scan_sessions(&mut self, host: usize) {
        let state = &self.hosts[host];
        let mut superfluous = std::mem::take(&mut self.expected[host].watched.superfluous);
        superfluous.retain(|id, _| state.links.contains_key(id));
        let limits = &self.run.plan.limits;
        let most = limits.negotiation_timeout
            + limits.handshake_timeout
            + limits.drain_timeout
            + limits.more.probe_timeout
            + 8 * self.run.plan.longest_delay()
            + 2 * SECOND;
        for (id, (link, side)) in &state.links {
            let link_state = &self.net.links[*link];
            let (end, other) = (&link_state.ends[*side], &link_state.ends[1 - *side]);
            let speaks = self.hosts.current_end(host, other.host) == Some((*link, *side));
            // One that has yielded to another ends with its connection, which the peer closes.
            let is_excused = end.progress.is_connected
                && (link_state.is_touched || self.run.is_adversary(other.host));
            let is_paused = state.paused_until + SECOND > self.run.now;
            if speaks || end.progress.is_closed || is_excused || is_paused {
                superfluous.remove(id);
                continue;
            }
            let since = *superfluous.entry(*id).or_insert(self.run.now);
            let passed = self.run.now - since;
            let at = (self.run.now, host);
            self.run.checks.hold(Invariant::Superfluous, at, passed <= most, || {
                (
                    format!("{id} on connection {link} does not speak for {}", other.host),
                    format!("it lives for {passed} µs, and {most} is the most"),
                )
            });
        }
        self.expected[host].watched.superfluous = superfluous;
    }

    fn scan_pair(&mut self, host: usize, peer: usize) {
        let (ours, theirs) =
            (self.hosts.current_link(host, peer), self.hosts.current_link(peer, host));
        let (Some(a), Some(b)) = (ours, theirs) else {
            self.expected[host].watched.differs.remove(&peer);
            return;
        };
        let is_touched = self.net.links[a].is_touched || self.net.links[b].is_touched;
        let (now, differs) = (self.run.now, &mut self.expected[host].watched.differs);
        let since = if a == b || is_touched {
            differs.remove(&peer);
            now
        } else {
            *differs.entry(peer).or_insert(now)
        };
        let limits = &self.run.plan.limits;
        let most = limits.negotiation_timeout
            + limits.handshake_timeout
            + limits.drain_timeout
            + 2 * limits.more.probe_timeout
            + 8 * self.run.plan.longest_delay();
        self.run.checks.hold(Invariant::Agree, (now, host), now - since <= most, || {
            (
                format!("{host} keeps connection {a} with {peer}"),
                format!("{peer} keeps {b}, for {} µs", now - since),
            )
        });
    }
}
