//! The reference: what may be after each event, said independently of how the core does it.

use std::sync::LazyLock;

use glueberry_proto::{
    CloseReason, Config, ConnectError, ConnectionEvent, ConnectionState, Origin, PublicKey,
    READ_CHUNK, RecordError, RefuseReason, SendError, StateReason, StreamName,
};

use super::{Touch, World};
use crate::check::Invariant;
use crate::link::Side;
use crate::rng::u64_of;
use crate::situation::{BACKPRESSURE, transition};

use ConnectionState::{Connected, Connecting, Cooldown, Disconnected, Established, Reconnecting};

/// What is true about a pair before a connection is told, on which a refusal may rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grounds {
    is_ours: bool,
    /// The end of a session is on its way to the node, which still counts it.
    has_unheard: bool,
    /// The peer says that it has the node's own key.
    pub(super) claims_own_key: bool,
    sessions: usize,
    sessions_of_pair: usize,
}

impl World {
    // ---- nodes --------------------------------------------------------------------------------

    pub(super) fn check_node(&mut self, host: usize) {
        let (now, at) = (self.now, (self.now, host));
        let state = &self.hosts[host];
        let Some(node) = &state.node else {
            return;
        };
        let (dials, most) = (state.dials.len(), self.plan.limits.max_dials);
        self.checks.hold(Invariant::FewDials, at, dials <= most, || {
            (format!("{most} dials are allowed"), format!("{dials} are under way"))
        });
        let longest = self.plan.limits.dial_timeout + 2_000_000;
        let is_prompt = self.is_prompt(host);
        let oldest = state.dials.values().map(|dial| now - dial.since.min(now)).max().unwrap_or(0);
        self.checks.hold(Invariant::Passing, at, oldest <= longest || !is_prompt, || {
            (format!("a dial may take {longest} µs"), format!("one is under way since {oldest} µs"))
        });
        let (sessions, most) = (state.links.len(), self.plan.limits.max_sessions);
        // Sessions that are over and wait to be dropped are not counted by the node.
        let is_within = sessions <= most || self.living_sessions(host) <= most;
        self.checks.hold(Invariant::FewSessions, at, is_within, || {
            (format!("{most} sessions are allowed"), format!("there are {sessions}"))
        });
        if state.app.absent_until > now {
            return;
        }
        for (peer, (told, since)) in state.told.iter().enumerate() {
            let is = match told {
                // Most peers of most nodes.
                Disconnected if !state.app.wants[peer] && *since == 0 => Disconnected,
                _ => node.state(self.hosts[peer].key),
            };
            self.checks.hold(Invariant::History, at, is == *told, || {
                (format!("peer {peer} was told to be {told}"), format!("it is {is}"))
            });
            let is_free = matches!(told, Disconnected | Cooldown) || !self.ban_holds(host, peer);
            self.checks.hold(Invariant::BanHolds, at, is_free, || {
                (format!("{peer} is banned"), format!("it is {told}"))
            });
            let most = self.longest(*told);
            let passed = now.saturating_sub(*since);
            self.checks.hold(Invariant::Passing, at, passed <= most, || {
                (
                    format!("peer {peer} may be {told} for {most} µs"),
                    format!("it is for {passed} µs"),
                )
            });
        }
    }

    fn living_sessions(&self, host: usize) -> usize {
        let is_living = |link: &&usize| {
            self.links[**link].ends.iter().any(|end| end.host == host && !end.talk.is_closed)
        };
        self.hosts[host].links.values().filter(is_living).count()
    }

    /// Returns how long a peer may be in a state, in microseconds.
    fn longest(&self, state: ConnectionState) -> u64 {
        let limits = &self.plan.limits;
        let slack = 2_000_000 + 4 * self.plan.longest_delay();
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
        let (from, to) = (self.hosts[host].told[peer].0, event.state);
        let legal = transition(from, to);
        self.reach(legal);
        let at = (self.now, host);
        self.checks.hold(Invariant::Transition, at, legal.is_some(), || {
            (format!("peer {peer} was {from}"), format!("now it is {to}: {:?}", event.reason))
        });
        let is_newer =
            self.hosts[host].banned[peer].is_some_and(|ban| event.at.as_micros() > ban.since);
        let is_banned = is_newer && self.ban_holds(host, peer);
        let is_cut = !is_banned || matches!(to, Disconnected | Cooldown);
        self.checks.hold(Invariant::BanHolds, at, is_cut, || {
            (format!("{peer} is banned"), format!("it is {to}"))
        });
        self.check_backoff(host, peer, from, event);
        if from == Established {
            let is_disturbed = matches!(
                event.reason,
                Some(StateReason::SessionEnded(
                    CloseReason::Superseded | CloseReason::HandshakeTimeout
                ))
            );
            self.checks.hold(Invariant::Undisturbed, at, !is_disturbed, || {
                (format!("peer {peer} was Established"), format!("{:?}", event.reason))
            });
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
        let (at, since) = (event.at.as_micros(), self.hosts[host].told_of[peer]);
        if at < self.now {
            // The application was absent: what it has asked for since, the event doesn't know.
            self.hosts[host].attempts[peer] = UNKNOWN;
            self.hosts[host].asked[peer] = false;
            self.hosts[host].told_of[peer] = at;
            return;
        }
        let has_lasted = from == Established && at >= since + LASTED;
        if has_lasted {
            self.hosts[host].attempts[peer] = 0;
        }
        let attempts = self.hosts[host].attempts[peer];
        match (from, event.state) {
            (_, Reconnecting) => self.hosts[host].attempts[peer] = attempts.saturating_add(1),
            // What the application asks for begins anew.
            (_, Connecting) if self.hosts[host].asked[peer] => {
                self.hosts[host].attempts[peer] = 0;
                self.hosts[host].asked[peer] = false;
            }
            // A node may have forgotten a peer that it has given up.
            (Disconnected, _) => self.hosts[host].attempts[peer] = UNKNOWN,
            (Reconnecting, Connecting) if attempts < UNKNOWN => {
                let longest = self.plan.limits.backoff;
                let doubled = 1_u64.checked_shl(attempts.saturating_sub(1)).unwrap_or(u64::MAX);
                let base = longest.min(1_000_000).saturating_mul(doubled).min(longest);
                let waited = at.saturating_sub(since);
                // Too many others may be dialled at the moment.
                let is_free = self.plan.limits.max_dials >= self.hosts.len();
                let most = (base + base / 4).min(longest);
                let is_late = waited > most && is_free && self.is_prompt(host);
                let holds = waited >= base - base / 4 && !is_late;
                self.checks.hold(Invariant::Backoff, (self.now, host), holds, || {
                    (
                        format!("attempt {attempts} on {peer} is due after about {base} µs"),
                        format!("it was made after {waited} µs"),
                    )
                });
            }
            (_, Disconnected) => {
                use StateReason::{
                    Blacklisted, Disconnected, NoAddress, Pruned, ReconnectionCancelled,
                };
                let is_cut = matches!(
                    event.reason,
                    Some(Blacklisted | Disconnected | Pruned | ReconnectionCancelled | NoAddress)
                );
                if is_cut {
                    self.hosts[host].attempts[peer] = 0;
                }
            }
            _ => {}
        }
        self.hosts[host].told_of[peer] = at;
    }

    /// Returns whether nothing keeps a host from doing what is due.
    fn is_prompt(&self, host: usize) -> bool {
        let state = &self.hosts[host];
        state.paused_until + LASTED < self.now && state.app.absent_until + LASTED < self.now
    }

    pub(super) fn check_dialled(&mut self, host: usize, peer: PublicKey, to: usize) {
        let is_banned = self.peers.get(&peer).is_some_and(|peer| self.ban_holds(host, *peer));
        self.checks.hold(Invariant::BanHolds, (self.now, host), !is_banned, || {
            (format!("{peer} is banned"), "it is dialled".into())
        });
        let is_right = self.peers.get(&peer) == Some(&to);
        // A bit of the address may have flipped on the disk: the file has no checksum.
        let state = &self.hosts[host];
        let is_misled = state.app.was_misled || state.disk.was_damaged;
        self.checks.hold(Invariant::Answer, (self.now, host), is_right || is_misled, || {
            (format!("the dial is for {peer}"), format!("its address is that of {to}"))
        });
    }

    pub(super) fn expected_refusals(&self, host: usize, other: usize, origin: Origin) -> Grounds {
        let state = &self.hosts[host];
        Grounds {
            is_ours: matches!(origin, Origin::Dialled(_)),
            has_unheard: !state.mail.is_empty(),
            claims_own_key: false,
            sessions: state.links.len(),
            sessions_of_pair: self.links_between(host, other).len(),
        }
    }

    pub(super) fn check_refusal(
        &mut self,
        host: usize,
        other: usize,
        (before, grounds): (ConnectionState, Grounds),
        reason: RefuseReason,
    ) {
        let after = self.state(host, other);
        let limits = &self.plan.limits;
        let state = &self.hosts[host];
        let holds = match reason {
            RefuseReason::InCooldown => before == Cooldown || after == Cooldown,
            // Who dials a peer that has a session may have been restarted.
            RefuseReason::AlreadyConnected => {
                grounds.is_ours && (before == Established || after == Established)
            }
            RefuseReason::Disconnected => {
                let until = state.parted[other] + limits.refusal;
                state.parted[other] > 0 && self.now <= until
            }
            RefuseReason::DialCancelled => grounds.is_ours,
            RefuseReason::LimitReached("max_sessions") => {
                grounds.has_unheard || grounds.sessions >= limits.max_sessions
            }
            RefuseReason::LimitReached("max_sessions_per_peer") => {
                grounds.has_unheard || grounds.sessions_of_pair > 4
            }
            RefuseReason::LimitReached("event_queue") => state.app.absent_until > self.now,
            RefuseReason::Blacklisted => state.banned[other].is_some(),
            RefuseReason::ShuttingDown => state.is_stopping,
            RefuseReason::WrongPeer => state.app.was_misled,
            RefuseReason::OwnKey => grounds.claims_own_key,
            _ => false,
        };
        self.checks.hold(Invariant::RefusedForReason, (self.now, host), holds, || {
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
        let after = self.state(by, of);
        let state = &self.hosts[by];
        let is_busy = |state| matches!(state, Connecting | Connected | Established);
        let holds = match result {
            Ok(()) => !is_busy(before) && after == Connecting,
            Err(ConnectError::AlreadyConnected) => is_busy(before) || is_busy(after),
            Err(ConnectError::InCooldown { .. }) => after == Cooldown,
            Err(ConnectError::LimitReached("max_sessions")) => {
                state.links.len() >= self.plan.limits.max_sessions
            }
            Err(ConnectError::LimitReached("event_queue")) => state.app.absent_until > self.now,
            Err(ConnectError::Blacklisted) => state.banned[of].is_some(),
            Err(ConnectError::ShuttingDown) => state.is_stopping,
            Err(_) => false,
        };
        self.checks.hold(Invariant::Answer, (self.now, by), holds, || {
            (format!("{of} was {before} and is {after}"), format!("connect answered {result:?}"))
        });
    }

    // ---- sessions -----------------------------------------------------------------------------

    pub(super) fn check_session(&mut self, link: usize, side: Side) {
        let end = &self.links[link].ends[side];
        let host = end.host;
        let (Some(session), Some(id)) = (end.session.as_ref(), end.id) else {
            return;
        };
        // Words on their way may still tell otherwise.
        let is_unheard = !end.mail.is_empty()
            || !self.hosts[host].mail.is_empty()
            || self.touched.contains(&Touch::Node(host));
        if !session.is_established() || is_unheard {
            return;
        }
        let Some(node) = &self.hosts[host].node else {
            return;
        };
        let peer = session.peer();
        let (speaks, state) = (node.session_of(peer), node.state(peer));
        let holds = speaks == Some(id) && state == Established;
        self.checks.hold(Invariant::OneSession, (self.now, host), holds, || {
            (format!("{id} is Established"), format!("{speaks:?} speaks for the peer, {state}"))
        });
    }

    /// Who is not a rogue, on a connection that nothing has happened to, loses nothing.
    pub(super) fn check_untouched(&mut self, link: usize, side: Side, fact: &dyn Fn() -> String) {
        let host = self.links[link].ends[side].host;
        let is_touched = self.links[link].is_touched;
        self.checks.hold(Invariant::NothingLost, (self.now, host), is_touched, || {
            (format!("nothing has happened to connection {link}"), fact())
        });
    }

    pub(super) fn check_rejected(
        &mut self,
        link: usize,
        side: Side,
        stream: &StreamName,
        error: RecordError,
    ) {
        let host = self.links[link].ends[side].host;
        let other = self.links[link].ends[1 - side].host;
        self.checks.hold(Invariant::Blame, (self.now, host), self.hosts[other].is_rogue, || {
            (format!("{other} seals as it should"), format!("on {stream}: {error}"))
        });
    }

    pub(super) fn check_close_reason(&mut self, link: usize, side: Side, reason: &CloseReason) {
        let host = self.links[link].ends[side].host;
        let other = self.links[link].ends[1 - side].host;
        let is_blamed = matches!(reason, CloseReason::Misbehaved(_));
        let is_bug = matches!(reason, CloseReason::Internal(_));
        let holds = !is_bug && (!is_blamed || self.hosts[other].is_rogue);
        self.checks.hold(Invariant::Blame, (self.now, host), holds, || {
            (format!("{other} keeps to the protocol"), format!("the session ended: {reason:?}"))
        });
        self.rogue_blamed(link, side, reason);
    }

    /// What a session holds of what it was handed.
    pub(super) fn check_memory(&mut self, link: usize, side: Side) {
        let end = &self.links[link].ends[side];
        let is_closed = end.session.as_ref().is_none_or(|session| session.is_closed());
        let (host, held) = (end.host, if is_closed { 0 } else { end.held });
        let pipes = u64_of(self.links[link].pipes.len());
        let chunk = u64_of(READ_CHUNK);
        let said = u64_of(DEFAULTS.max_handshake_size) + 100;
        let mut most = 4 * said + pipes * (chunk + 200);
        if end.talk.is_finalized {
            let limits = &self.plan.limits;
            let message = u64_of(limits.max_message_size) + 100;
            let per_stream = u64_of(limits.receive_queue_bytes) + 2 * (message + chunk);
            most += u64_of(self.streams.len()) * per_stream;
        }
        self.checks.hold(Invariant::Memory, (self.now, host), held <= most, || {
            (format!("the session may hold {most} bytes"), format!("it holds {held}"))
        });
    }

    /// What the witness of all sealing has seen.
    pub(super) fn check_seals(&mut self, host: usize) {
        let (seals, repeated, zero_keys) =
            self.witness.look(|seen| (seen.seals, seen.repeated, seen.zero_keys));
        let at = (self.now, host);
        self.checks.hold(Invariant::NonceOnce, at, repeated == 0, || {
            (format!("{seals} records were sealed"), format!("{repeated} with a used nonce"))
        });
        self.checks.hold(Invariant::RealKey, at, zero_keys == 0, || {
            (format!("{seals} records were sealed"), format!("{zero_keys} with a key of zeros"))
        });
    }

    pub(super) fn check_send(
        &mut self,
        (link, side): (usize, Side),
        stream: usize,
        sent: &Result<(), SendError>,
    ) {
        let end = &self.links[link].ends[side];
        let host = end.host;
        let is_established = end.session.as_ref().is_some_and(|session| session.is_established());
        let queued = end.session.as_ref().map(|session| session.queued(&self.streams[stream]));
        let holds = match sent {
            Ok(()) => end.talk.is_finalized && is_established,
            Err(SendError::NotEstablished) => !end.talk.is_finalized,
            Err(SendError::Closed) => !is_established,
            Err(SendError::Backpressure) => is_established,
            Err(_) => false,
        };
        self.checks.hold(Invariant::Answer, (self.now, host), holds, || {
            (format!("is Established: {is_established}"), format!("send answered {sent:?}"))
        });
        // As many again may have been written already, and wait to go out once more.
        let limits = &self.plan.limits;
        let (count, bytes) = queued.unwrap_or_default();
        let (most, least) = (2 * limits.high_watermark, DEFAULTS.high_watermark_bytes);
        let is_within = count <= most && bytes <= 2 * (least + limits.max_message_size);
        self.checks.hold(Invariant::Memory, (self.now, host), is_within, || {
            (format!("{most} messages may be queued"), format!("{count} are, of {bytes} bytes"))
        });
        if matches!(sent, Err(SendError::Backpressure)) {
            self.reach(Some(BACKPRESSURE));
        }
    }

    /// Both ends of a connection are over: what became of each message?
    pub(super) fn check_accounts(&mut self, link: usize) {
        let ends = &self.links[link].ends;
        let (Some(_), Some(_)) = (ends[0].closed, ends[1].closed) else {
            return;
        };
        for side in [0, 1] {
            let [end, other] = [side, 1 - side].map(|side| &self.links[link].ends[side]);
            let accepted: u64 = end.lanes.iter().map(|lane| lane.accepted).sum();
            let unsent: u64 = end.lanes.iter().map(|lane| lane.unsent).sum();
            let received: u64 = other.lanes.iter().map(|lane| lane.received).sum();
            let in_doubt = end.closed.map_or(0, |(_, in_doubt)| in_doubt);
            let host = end.host;
            let is_rogue = self.hosts[host].is_rogue || self.hosts[other.host].is_rogue;
            let certain = accepted.saturating_sub(unsent).saturating_sub(in_doubt);
            let is_within = received + unsent <= accepted
                && (received >= certain || !self.plan.net.acknowledges_reads);
            self.checks.hold(Invariant::Accounted, (self.now, host), is_rogue || is_within, || {
                (
                    format!("{accepted} accepted, {unsent} unsent, {in_doubt} in doubt"),
                    format!("{received} were delivered on connection {link}"),
                )
            });
        }
    }
}

/// What plans leave as it is.
static DEFAULTS: LazyLock<Config> = LazyLock::new(Config::default);

/// Microseconds after which a session has lasted.
const LASTED: u64 = 60_000_000;
/// Attempts of a peer that nobody has counted.
const UNKNOWN: u32 = u32::MAX / 2;
