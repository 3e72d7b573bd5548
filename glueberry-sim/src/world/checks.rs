//! The reference: what may be after each event, said independently of how the core does it.

use std::time::Duration;

use glueberry_proto::book::Unsaved;
use glueberry_proto::{
    CloseReason, Config, ConnectError, ConnectionEvent, ConnectionState, DialError, Origin,
    Profile, PublicKey, RefuseReason, StateReason,
};

use super::expected::Expected;
use super::hosts::Hosts;
use super::network::Network;
use crate::check::Invariant;
use crate::generate::MINUTE;
use crate::rng::u64_of;
use crate::run::Run;
use crate::situation::transition;
use crate::wake::Side;

use ConnectionState::{Connected, Connecting, Cooldown, Disconnected, Established, Reconnecting};

/// What is true about a pair before a connection is reported, on which a refusal may rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grounds {
    pub(super) is_ours: bool,
    /// The end of a session is on its way to the node, which still counts it.
    has_pending: bool,
    /// The peer says that it has the node's own key.
    pub(super) claims_own_key: bool,
    sessions: usize,
    /// How many sessions are with peers that are no strangers.
    known_sessions: usize,
    /// The peer is a stranger to the node.
    is_stranger: bool,
    pub(super) sessions_of_pair: usize,
}

/// What looks whether nodes do as they should: it changes nothing but what it expects.
#[derive(Debug)]
pub(crate) struct Checker<'a> {
    pub(super) run: &'a mut Run,
    pub(super) net: &'a Network,
    pub(super) hosts: &'a Hosts,
    pub(super) expected: &'a mut [Expected],
}

impl Checker<'_> {
    pub(super) fn check_node(&mut self, host: usize) {
        let (now, at) = (self.run.now, (self.run.now, host));
        let state = &self.hosts[host];
        if state.node.is_none() {
            return;
        }
        let (dials, most) = (state.dials.len(), self.run.plan.limits.max_dials);
        self.run.checks.hold(Invariant::FewDials, at, dials <= most, || {
            (format!("{most} dials are allowed"), format!("{dials} are under way"))
        });
        let longest = self.run.plan.limits.dial_timeout + 2_000_000;
        let is_prompt = self.is_prompt(host);
        let oldest = state.dials.values().map(|dial| now - dial.since.min(now)).max().unwrap_or(0);
        self.run.checks.hold(Invariant::Passing, at, oldest <= longest || !is_prompt, || {
            (format!("a dial may take {longest} µs"), format!("one is under way since {oldest} µs"))
        });
        let (sessions, most) = (state.links.len(), self.run.plan.limits.max_sessions);
        // Sessions that are over and wait to be dropped are not counted by the node, and strangers'
        // that have given way may not have heard of it yet.
        let is_within = sessions <= most || self.living_sessions(host) <= 2 * most;
        self.run.checks.hold(Invariant::FewSessions, at, is_within, || {
            (format!("{most} sessions are allowed"), format!("there are {sessions}"))
        });
        self.check_book(host);
        self.watch_node(host);
        self.check_directions(host);
        self.forget_wishes(host);
        self.check_deadlines(host);
        let state = &self.hosts[host];
        let Some(node) = &state.node else {
            return;
        };
        if state.absent_until > now {
            return;
        }
        for (peer, (reported, since)) in self.expected[host].reported.iter().enumerate() {
            let is = match reported {
                // Most peers of most nodes.
                Disconnected if !state.wants[peer] && *since == 0 => Disconnected,
                _ => node.state(self.hosts[peer].key),
            };
            self.run.checks.hold(Invariant::History, at, is == *reported, || {
                (format!("peer {peer} was told to be {reported}"), format!("it is {is}"))
            });
            let is_free = matches!(reported, Disconnected | Cooldown)
                || !self.hosts.ban_holds(self.run, host, peer);
            self.run.checks.hold(Invariant::BanHolds, at, is_free, || {
                (format!("{peer} is banned"), format!("it is {reported}"))
            });
            let most = self.longest(*reported);
            let passed = now.saturating_sub(*since);
            self.run.checks.hold(Invariant::Passing, at, passed <= most, || {
                (
                    format!("peer {peer} may be {reported} for {most} µs"),
                    format!("it is for {passed} µs"),
                )
            });
        }
    }

    /// What the application has said of peers is stored soon, unless the disk is full: then it is
    /// tried again at the next flush.
    fn check_book(&mut self, host: usize) {
        let (now, state) = (self.run.now, &self.hosts[host]);
        let Some(node) = &state.node else {
            return;
        };
        let since = &mut self.expected[host].unsaved_since;
        if node.book().unsaved() != Unsaved::Critical {
            *since = None;
            return;
        }
        let since = *since.get_or_insert(now);
        let flush = match state.disk_full_until {
            0 => 0,
            until => until + u64::try_from(FLUSH.as_micros()).unwrap_or(0),
        };
        let from = since.max(flush).max(state.paused_until);
        // A save that was under way comes first.
        let holds = now <= from + 2 * self.run.plan.limits.more.disk_delay;
        self.run.checks.hold(Invariant::Stored, (now, host), holds, || {
            ("the book must be stored at once".into(), format!("it is not since {since} µs"))
        });
    }

    /// The application has changed the book, if it has: that is to be stored at once.
    pub(super) fn check_critical(&mut self, host: usize, has_changed: bool) {
        let unsaved = self.hosts[host].node.as_ref().map(|node| node.book().unsaved());
        let holds = !has_changed || unsaved == Some(Unsaved::Critical);
        self.run.checks.hold(Invariant::Stored, (self.run.now, host), holds, || {
            ("the application has changed the book".into(), format!("unsaved: {unsaved:?}"))
        });
    }

    /// After shutdown the disk has what is in memory.
    pub(super) fn check_book_at_end(&mut self, host: usize) {
        let state = &self.hosts[host];
        let Some(node) = &state.node else {
            return;
        };
        let book = node.book();
        let is_same = state.disk.was_damaged
            || state.disk.current().is_none_or(|stored| stored.emit() == book.emit());
        let holds = is_same && book.unsaved() == Unsaved::Nothing;
        self.run.checks.hold(Invariant::Stored, (self.run.now, host), holds, || {
            (
                format!("shut down, with {:?} left to be stored", book.unsaved()),
                format!("the disk has what is in memory: {is_same}"),
            )
        });
    }

    fn living_sessions(&self, host: usize) -> usize {
        let is_living =
            |(link, side): &&(usize, Side)| !self.net.links[*link].ends[*side].progress.is_closed;
        self.hosts[host].links.values().filter(is_living).count()
    }

    /// Returns how long a peer may be in a state, in microseconds.
    fn longest(&self, state: ConnectionState) -> u64 {
        let limits = &self.run.plan.limits;
        let slack = 2_000_000 + 4 * self.run.plan.longest_delay();
        match state {
            // Those that wait their turn come one after the other.
            Connecting => {
                u64_of(self.hosts.len()) * limits.dial_timeout + limits.handshake_timeout + slack
            }
            Connected => limits.handshake_timeout + slack,
            Cooldown => limits.cooldown + slack,
            Reconnecting => limits.backoff + u64_of(self.hosts.len()) * limits.dial_timeout + slack,
            _ => u64::MAX,
        }
    }

    pub(super) fn check_event(&mut self, host: usize, peer: usize, event: &ConnectionEvent) {
        let (from, to) = (self.expected[host].reported[peer].0, event.state);
        let legal = transition(from, to);
        self.run.reach(legal);
        let at = (self.run.now, host);
        self.run.checks.hold(Invariant::Transition, at, legal.is_some(), || {
            (format!("peer {peer} was {from}"), format!("now it is {to}: {:?}", event.reason))
        });
        let is_newer =
            self.hosts[host].banned[peer].is_some_and(|ban| event.at.as_micros() > ban.since);
        let is_banned = is_newer && self.hosts.ban_holds(self.run, host, peer);
        let is_cut = !is_banned || matches!(to, Disconnected | Cooldown);
        self.run.checks.hold(Invariant::BanHolds, at, is_cut, || {
            (format!("{peer} is banned"), format!("it is {to}"))
        });
        let since = self.expected[host].changed_at[peer];
        self.check_backoff(host, peer, from, event);
        self.watch_event(host, peer, (from, since), event);
        // One that is taken late may be of a session that was replaced since.
        if event.at.as_micros() >= self.hosts[host].last_input {
            self.expected[host].told.insert(peer, event.direction);
        }
        if from == Established {
            let is_disturbed = match &event.reason {
                // By the peer, which must have given it up: each session is looked at.
                Some(StateReason::SessionEnded(CloseReason::Superseded)) => {
                    !self.expected[host].spoke_v2[peer]
                }
                Some(StateReason::SessionEnded(CloseReason::HandshakeTimeout)) => true,
                _ => false,
            };
            self.run.checks.hold(Invariant::Undisturbed, at, !is_disturbed, || {
                (format!("peer {peer} was Established"), format!("{:?}", event.reason))
            });
        }
        if let Some(info) = event.session {
            self.expected[host].spoke_v2[peer] = info.profile == Profile::V2;
        }
    }

    /// Counts attempts as the policy does, and looks whether the wait before one was right.
    fn check_backoff(
        &mut self,
        host: usize,
        peer: usize,
        from: ConnectionState,
        event: &ConnectionEvent,
    ) {
        let (at, since) = (event.at.as_micros(), self.expected[host].changed_at[peer]);
        if at < self.run.now {
            // The application was absent: what it has asked for since, the event doesn't know.
            self.expected[host].attempts[peer] = UNKNOWN;
            self.expected[host].asked[peer] = false;
            self.expected[host].changed_at[peer] = at;
            return;
        }
        let has_lasted =
            from == Established && at >= since + self.run.plan.limits.more.stable_after;
        if has_lasted {
            self.expected[host].attempts[peer] = 0;
        }
        let attempts = self.expected[host].attempts[peer];
        match (from, event.state) {
            (_, Reconnecting) => self.expected[host].attempts[peer] = attempts.saturating_add(1),
            // What the application asks for begins anew.
            (_, Connecting) if self.expected[host].asked[peer] => {
                self.expected[host].attempts[peer] = 0;
                self.expected[host].asked[peer] = false;
            }
            // A node may have forgotten a peer that it has given up.
            (Disconnected, _) if attempts > 0 => self.expected[host].attempts[peer] = UNKNOWN,
            (Reconnecting, Connecting) if attempts < UNKNOWN => {
                let longest = self.run.plan.limits.backoff;
                let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
                let base = longest.min(1_000_000).saturating_mul(doubled).min(longest);
                let waited = at.saturating_sub(since);
                // Too many others may be dialled at the moment.
                let is_free = self.run.plan.limits.max_dials >= self.hosts.len();
                let most = (base + base / 4).min(longest);
                let is_late = waited > most && is_free && self.is_prompt(host);
                let holds = waited >= base - base / 4 && !is_late;
                self.run.checks.hold(Invariant::Backoff, (self.run.now, host), holds, || {
                    (
                        format!("attempt {attempts} on {peer} is due after about {base} µs"),
                        format!("it was made after {waited} µs"),
                    )
                });
            }
            (_, Disconnected) => {
                use StateReason::{
                    AttemptsExhausted, Blacklisted, DialFailed, Disconnected, NoAddress, Pruned,
                    ReconnectionCancelled,
                };
                match &event.reason {
                    // The peer was not even asked.
                    Some(
                        DialFailed(DialError::LimitReached(_))
                        | AttemptsExhausted { last: DialError::LimitReached(_), .. },
                    ) if attempts < UNKNOWN => {
                        self.expected[host].attempts[peer] = attempts.saturating_sub(1);
                    }
                    // It goes on counting, unless it is forgotten.
                    Some(NoAddress) if attempts > 0 => {
                        self.expected[host].attempts[peer] = UNKNOWN;
                    }
                    _ => {}
                }
                let is_cut = matches!(
                    event.reason,
                    Some(Blacklisted | Disconnected | Pruned | ReconnectionCancelled)
                );
                if is_cut {
                    self.expected[host].attempts[peer] = 0;
                }
            }
            _ => {}
        }
        self.expected[host].changed_at[peer] = at;
    }

    /// Returns whether nothing keeps a host from doing what is due.
    fn is_prompt(&self, host: usize) -> bool {
        let state = &self.hosts[host];
        state.paused_until + CAUGHT_UP < self.run.now
            && state.absent_until + CAUGHT_UP < self.run.now
    }

    pub(super) fn check_dialled(&mut self, host: usize, peer: PublicKey, to: usize) {
        let is_banned = self
            .hosts
            .by_key
            .get(&peer)
            .is_some_and(|peer| self.hosts.ban_holds(self.run, host, *peer));
        self.run.checks.hold(Invariant::BanHolds, (self.run.now, host), !is_banned, || {
            (format!("{peer} is banned"), "it is dialled".into())
        });
        let is_right = self.hosts.by_key.get(&peer) == Some(&to);
        // A bit of the address may have flipped on the disk: the file has no checksum.
        let state = &self.hosts[host];
        let is_misled = state.was_misled || state.disk.was_damaged;
        self.run.checks.hold(
            Invariant::Answer,
            (self.run.now, host),
            is_right || is_misled,
            || (format!("the dial is for {peer}"), format!("its address is that of {to}")),
        );
    }

    pub(super) fn expected_refusals(&self, host: usize, other: usize, origin: Origin) -> Grounds {
        let state = &self.hosts[host];
        let is_ours = matches!(origin, Origin::Dialled(_));
        let is_stranger = |of: usize| {
            let key = self.hosts[of].key;
            state.node.as_ref().is_some_and(|node| node.is_stranger(key))
        };
        let is_known = |(link, side): &&(usize, Side)| {
            *side == 0 || !is_stranger(self.net.links[*link].ends[1 - *side].host)
        };
        Grounds {
            is_ours,
            has_pending: !state.inbox.is_empty(),
            claims_own_key: false,
            sessions: state.links.len(),
            known_sessions: state.links.values().filter(is_known).count(),
            is_stranger: !is_ours && is_stranger(other),
            sessions_of_pair: self.sessions_with(host, other).count(),
        }
    }

    pub(super) fn check_refusal(
        &mut self,
        host: usize,
        other: usize,
        (before, grounds): (ConnectionState, Grounds),
        reason: RefuseReason,
    ) {
        let after = self.hosts.state(host, other);
        let limits = &self.run.plan.limits;
        let state = &self.hosts[host];
        let holds = match reason {
            RefuseReason::InCooldown => before == Cooldown || after == Cooldown,
            // Who dials a peer that has a session may have been restarted.
            RefuseReason::AlreadyConnected => {
                grounds.is_ours && (before == Established || after == Established)
            }
            RefuseReason::Disconnected => {
                let until = self.expected[host].parted[other].saturating_add(limits.refusal);
                self.expected[host].parted[other] > 0 && self.run.now <= until
            }
            RefuseReason::DialCancelled => grounds.is_ours,
            // Who is known is never refused because of strangers.
            RefuseReason::LimitReached("max_sessions") if grounds.is_stranger => {
                let reserved = RESERVED.min(limits.max_sessions / 2);
                grounds.has_pending || grounds.sessions >= limits.max_sessions - reserved
            }
            RefuseReason::LimitReached("max_sessions") => {
                grounds.has_pending || grounds.known_sessions >= limits.max_sessions
            }
            // A peer that is pruned, or prunes, comes again at once, as may an application.
            RefuseReason::LimitReached("max_sessions_per_minute") => {
                let is_crowded = [host, other].into_iter().any(|host| {
                    let pruned_at = self.expected[host].watched.pruned_at;
                    pruned_at.is_some_and(|at| self.run.now < at + MINUTE)
                });
                let since = self.run.now.saturating_sub(MINUTE);
                let lately = self.net.count_admitted(host, other, since);
                let is_frequent = lately + 1 >= Config::default().max_sessions_per_minute;
                let is_reason = self.run.is_adversary(other) || is_crowded || is_frequent;
                is_reason && !grounds.is_ours
            }
            RefuseReason::LimitReached("max_sessions_per_peer") => {
                let most = Config::default().max_sessions_per_peer;
                grounds.has_pending || grounds.sessions_of_pair >= most
            }
            RefuseReason::LimitReached("event_queue") => state.absent_until > self.run.now,
            RefuseReason::Blacklisted => state.banned[other].is_some(),
            RefuseReason::ShuttingDown => state.is_stopping,
            RefuseReason::WrongPeer => state.was_misled,
            RefuseReason::OwnKey => grounds.claims_own_key,
            _ => false,
        };
        self.run.checks.hold(Invariant::RefusedForReason, (self.run.now, host), holds, || {
            (format!("a connection with {other} was refused: {reason}"), format!("it is {before}"))
        });
    }

    pub(super) fn check_connect(
        &mut self,
        by: usize,
        of: usize,
        before: ConnectionState,
        result: Result<&(), &ConnectError>,
    ) {
        let after = self.hosts.state(by, of);
        let state = &self.hosts[by];
        let is_busy = |state| matches!(state, Connected | Established);
        let holds = match result {
            Ok(()) => !is_busy(before) && after == Connecting,
            Err(ConnectError::AlreadyConnected) => is_busy(before) || is_busy(after),
            Err(ConnectError::InCooldown { .. }) => after == Cooldown,
            Err(ConnectError::LimitReached("max_sessions")) => {
                state.links.len() >= self.run.plan.limits.max_sessions
            }
            Err(ConnectError::LimitReached("event_queue")) => state.absent_until > self.run.now,
            Err(ConnectError::Blacklisted) => state.banned[of].is_some(),
            Err(ConnectError::ShuttingDown) => state.is_stopping,
            Err(_) => false,
        };
        self.run.checks.hold(Invariant::Answer, (self.run.now, by), holds, || {
            (format!("{of} was {before} and is {after}"), format!("connect answered {result:?}"))
        });
    }
}

/// Places that strangers never have: the default.
const RESERVED: usize = 48;
/// Microseconds after which a host that stood still has caught up with what was due.
const CAUGHT_UP: u64 = 60_000_000;
/// Attempts of a peer that are not counted yet.
pub(super) const UNKNOWN: u32 = u32::MAX / 2;
/// After a save that failed, a book is stored again with what can wait: the default.
const FLUSH: Duration = Duration::from_secs(30);
