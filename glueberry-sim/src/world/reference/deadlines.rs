//! What a node waits for: each of its timers belongs to something that is still to come, at the time
//! that the configuration says, and nothing that is to come lacks one.

use glueberry_proto::book::Unsaved;
use glueberry_proto::{ConnectionState, Direction, NodeTimer, PeerTimer, PublicKey};

use super::super::checks::{Checker, UNKNOWN};
use crate::check::Invariant;
use crate::generate::SECOND;
use crate::wake::Side;

use ConnectionState::{Connected, Cooldown, Established, Reconnecting};

/// Since when the book of a host has something that may wait to be stored.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Storing {
    since: Option<u64>,
}

impl Storing {
    /// A save has ended, whether it succeeded or not: what is left waits from now on.
    pub(in super::super) const fn ended(&mut self) {
        self.since = None;
    }
}

impl Checker<'_> {
    /// The node was given time, and its events were taken: it waits for what is due next.
    pub(in super::super) fn check_deadlines(&mut self, host: usize) {
        let state = &self.hosts[host];
        let Some(node) = &state.node else {
            return;
        };
        let timer = node.next_timer().map(|(at, timer)| (at.as_micros(), timer));
        let can_wait = node.book().unsaved() == Unsaved::Lazy && !state.disk.is_saving();
        let storing = &mut self.expected[host].storing;
        storing.since = can_wait.then(|| storing.since.unwrap_or(state.last_input));
        if state.absent_until >= state.last_input {
            return;
        }
        let at = (self.run.now, host);
        if let Some((due, timer)) = timer {
            let fault = self.fault_of(host, due, timer);
            self.run.checks.hold(Invariant::Cause, at, fault.is_none(), || {
                (format!("the node waits until {due} for {timer:?}"), fault.unwrap_or_default())
            });
        }
        let first = self.first_due(host);
        let last = self.hosts[host].last_input;
        let wakes = timer.map_or(u64::MAX, |(at, _)| at);
        let holds = first.is_none_or(|(due, ..)| wakes <= due && due > last);
        self.run.checks.hold(Invariant::Due, at, holds, || {
            (
                format!("at {last}, what is due next is {first:?}"),
                format!("the node wants to wake at {wakes}, for {timer:?}"),
            )
        });
    }

    /// Says what is wrong with a timer, if anything is.
    fn fault_of(&self, host: usize, due: u64, timer: NodeTimer) -> Option<String> {
        match timer {
            NodeTimer::BookFlush => {
                let is_unsaved = self.hosts[host]
                    .node
                    .as_ref()
                    .is_some_and(|node| node.book().unsaved() != Unsaved::Nothing);
                let most = self.hosts[host].last_input + FLUSH;
                (!is_unsaved || due > most).then(|| format!("unsaved: {is_unsaved}, until {most}"))
            }
            NodeTimer::Peer { peer, timer } => {
                let number = *self.hosts.by_key.get(&peer)?;
                self.fault_of_peer(host, number, due, timer)
            }
            _ => Some("there is no such timer".into()),
        }
    }

    fn fault_of_peer(
        &self,
        host: usize,
        peer: usize,
        due: u64,
        timer: PeerTimer,
    ) -> Option<String> {
        let (expected, limits) = (&self.expected[host], &self.run.plan.limits);
        let (state, since) = (expected.reported[peer].0, expected.changed_at[peer]);
        let last = self.hosts[host].last_input;
        let holds = match timer {
            PeerTimer::Dial => {
                let key = self.hosts[peer].key;
                self.dials_to(host, key).any(|begun| due == begun + limits.dial_timeout)
            }
            PeerTimer::Cooldown => state == Cooldown && due == since + limits.cooldown,
            PeerTimer::Handshake => state == Connected && due == since + limits.handshake_timeout,
            PeerTimer::Retry => {
                let (least, most) = self.wait_before(host, peer);
                state == Reconnecting && (since + least..=since + most).contains(&due)
            }
            PeerTimer::Refusal => {
                expected.parted[peer] > 0 && due == expected.parted[peer] + limits.refusal
            }
            PeerTimer::Probe => {
                let is_current = matches!(state, Connected | Established);
                let begun = due.saturating_sub(limits.more.probe_timeout);
                is_current && begun <= last && self.may_be_probed(host, peer, begun)
            }
            PeerTimer::Session => self.may_wait(host, peer, due),
            PeerTimer::Hold => {
                let has_other =
                    !self.hosts[host].inbox.is_empty() || self.others(host, peer).next().is_some();
                has_other && due <= last + limits.negotiation_timeout.max(limits.handshake_timeout)
            }
            _ => false,
        };
        (!holds).then(|| format!("{peer} is {state} since {since}; the node knows of {last}"))
    }

    /// Returns whether a session that does not speak for its peer may wait until then: to be agreed,
    /// for as long as a negotiation takes, and then for as long as a handshake does.
    fn may_wait(&self, host: usize, peer: usize, due: u64) -> bool {
        let (limits, delay) = (&self.run.plan.limits, self.run.plan.net.message_delay);
        let last = self.hosts[host].last_input;
        let may_be = |(link, side): (usize, Side)| {
            let end = &self.net.links[link].ends[side];
            // The session of who has dialled opens the substream, and keeps the time for that.
            let time = match end.direction {
                Direction::Outbound => limits.handshake_timeout,
                _ => limits.negotiation_timeout.min(limits.handshake_timeout),
            };
            let agreed = end.agreed_at.map(|at| at + limits.handshake_timeout);
            // The node may not have heard of it yet.
            let is_heard = end.agreed_at.is_some_and(|at| at + delay < last);
            // One that has spoken for its peer ends by another time.
            end.progress.has_begun()
                || (due == end.admitted_at + time && !is_heard)
                || agreed.is_some_and(|at| (at..=at + delay).contains(&due))
        };
        !self.hosts[host].inbox.is_empty() || self.others(host, peer).any(may_be)
    }

    /// Returns the sessions with a peer that do not speak for it.
    fn others(&self, host: usize, peer: usize) -> impl Iterator<Item = (usize, Side)> {
        let current = self.hosts.current_end(host, peer);
        self.sessions_with(host, peer).filter(move |end| Some(*end) != current)
    }

    /// Returns whether the current session of a peer may have been probed since then: because another
    /// came, and no earlier than it spoke for its peer.
    fn may_be_probed(&self, host: usize, peer: usize, begun: u64) -> bool {
        let Some((link, side)) = self.hosts.current_end(host, peer) else {
            return !self.hosts[host].inbox.is_empty();
        };
        let since = self.net.links[link].ends[side].current_since;
        let is_new = begun == self.hosts[host].last_input;
        let has_rival = !is_new
            || !self.hosts[host].inbox.is_empty()
            || self.sessions_with(host, peer).count() > 1
            || self.net.has_closed(
                host,
                peer,
                begun.saturating_sub(self.run.plan.net.message_delay),
            );
        has_rival && since.is_none_or(|since| since <= begun)
    }

    /// Returns when something must happen next, what it is and for which peer.
    fn first_due(&self, host: usize) -> Option<(u64, &'static str, usize)> {
        let (expected, limits) = (&self.expected[host], &self.run.plan.limits);
        let last = self.hosts[host].last_input;
        let is_free = limits.max_dials >= self.hosts.len();
        let states = expected.reported.iter().enumerate();
        let peers = states.filter_map(|(peer, (state, _))| {
            let since = expected.changed_at[peer];
            match state {
                Cooldown => Some((since + limits.cooldown, "a cooldown", peer)),
                // Its session is told, and ends a little later.
                Connected => {
                    let at = since + limits.handshake_timeout;
                    (at > last).then_some((at, "a handshake", peer))
                }
                // It may have to wait its turn then.
                Reconnecting => {
                    let at = since + self.wait_before(host, peer).1;
                    (at > last && is_free).then_some((at, "a retry", peer))
                }
                _ => None,
            }
        });
        let dials = self.hosts[host].dials.values();
        let dials = dials.map(|dial| (dial.begun + limits.dial_timeout, "a dial", dial.to));
        let flush = expected.storing.since.map(|since| (since + FLUSH, "a flush", host));
        peers.chain(dials).chain(flush).min_by_key(|(at, ..)| *at)
    }

    /// Returns the least and the longest wait before a peer that was lost is dialled again.
    fn wait_before(&self, host: usize, peer: usize) -> (u64, u64) {
        let attempts = self.expected[host].attempts[peer];
        let longest = self.run.plan.limits.backoff;
        if attempts >= UNKNOWN {
            return (0, longest);
        }
        let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
        let base = longest.min(SECOND).saturating_mul(doubled).min(longest);
        (base - base / 4, (base + base / 4).min(longest))
    }

    /// Returns when each dial to a peer has begun.
    fn dials_to(&self, host: usize, peer: PublicKey) -> impl Iterator<Item = u64> {
        let dials = self.hosts[host].dials.values();
        dials.filter(move |dial| dial.peer == peer).map(|dial| dial.begun)
    }

    /// Returns the sessions with a peer that are not over, or of whose end the node may not know.
    pub(in super::super) fn sessions_with(
        &self,
        host: usize,
        peer: usize,
    ) -> impl Iterator<Item = (usize, Side)> {
        let state = &self.hosts[host];
        let is_heard = state.inbox.is_empty();
        state.links.values().copied().filter(move |(link, side)| {
            let ends = &self.net.links[*link].ends;
            let is_over = ends[*side].progress.is_closed && is_heard;
            ends[1 - *side].host == peer && !is_over
        })
    }
}

/// What can wait is stored after so many microseconds: the default.
const FLUSH: u64 = 30 * SECOND;
