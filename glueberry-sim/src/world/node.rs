//! Driving a node: its inputs, its actions, its events.

use std::sync::Arc;

use glueberry_proto::handler::Notice;
use glueberry_proto::{
    Address, Admission, ConnectionEvent, ConnectionState, DialError, DialId, Identity,
    NewConnection, Node, NodeAction, Origin, Seed,
};

use super::{Touch, Wake, World, identities};
use crate::check::Invariant;
use crate::host::Dialled;
use crate::link::{Side, Standing};
use crate::rng::{Rng, u64_of};
use crate::situation::{DIAL_UNANSWERED, SUPERFLUOUS};
use crate::trace::{Kind, NOWHERE};

impl World {
    /// Starts the node of a host.
    pub(super) fn start(&mut self, host: usize) {
        let planned = self.plan.hosts[host];
        self.hosts[host].life += 1;
        let life = self.hosts[host].life;
        self.note(host, NOWHERE, Kind::Start, (life, 0));
        if planned.is_rogue {
            return;
        }
        let identity =
            Identity::from_seed(&identities()[usize::from(planned.identity) % IDENTITIES].0);
        let mut draws = Rng::derive(self.plan.seed, ENTROPY ^ life, u64_of(host));
        let mut entropy = [0; 32];
        for chunk in entropy.as_chunks_mut::<8>().0 {
            *chunk = draws.next().to_le_bytes();
        }
        let aead = Arc::new(self.witness.clone());
        let mut config = self.plan.config(host);
        config.streams.clone_from(&self.streams);
        let seed = Seed::from_bytes(entropy);
        match Node::with_aead(self.at(), identity, config, seed, aead) {
            Ok(node) => self.hosts[host].node = Some(node),
            Err(error) => self.fail(Invariant::Answer, host, "a valid configuration", &error),
        }
        self.hosts[host].told_at = self.now;
        self.inputs += 1;
        self.load_book(host);
        self.begin_app(host);
        self.start_program(host);
        self.touched.push_back(Touch::Node(host));
    }

    /// Reports something that can't be.
    pub(super) fn fail(
        &mut self,
        invariant: Invariant,
        host: usize,
        fact: &str,
        clash: &dyn std::fmt::Debug,
    ) {
        let at = (self.now, host);
        self.checks.hold(invariant, at, false, || (fact.to_owned(), format!("{clash:?}")));
    }

    pub(super) fn drain_node(&mut self, host: usize) {
        loop {
            let Some(node) = self.hosts[host].node.as_mut() else {
                return;
            };
            if let Some(action) = node.poll_action() {
                self.node_action(host, action);
                continue;
            }
            if self.hosts[host].app.absent_until > self.now {
                break;
            }
            match self.hosts[host].node.as_mut().and_then(Node::poll_event) {
                Some(event) => self.node_event(host, event),
                None => break,
            }
        }
        self.check_node(host);
        self.arm_node(host);
    }

    fn node_action(&mut self, host: usize, action: NodeAction) {
        match action {
            NodeAction::Dial { dial, peer, addresses } => {
                let to = self.resolve(host, &addresses);
                self.note(host, NOWHERE, Kind::Dial, (u64_of(to), dial.as_u64()));
                self.check_dialled(host, peer, to);
                self.hosts[host].dials.insert(dial, Dialled { to, tries: 0, since: self.now });
                self.dial_begins(host, dial);
            }
            NodeAction::CancelDial(dial) => {
                self.note(host, NOWHERE, Kind::CancelDial, (dial.as_u64(), 0));
                self.reach(Some(DIAL_UNANSWERED));
                self.hosts[host].dials.remove(&dial);
            }
            NodeAction::Forward { session, message } => {
                if let Some(link) = self.hosts[host].links.get(&session).copied()
                    && let Some(side) = self.side_of(link, host, session)
                {
                    let delay = self.word_delay(host);
                    let end = &mut self.links[link].ends[side];
                    end.mail.push_back(message);
                    if !std::mem::replace(&mut end.mail_is_due, true) {
                        self.queue.push(self.now + delay, Wake::Words(link, side));
                    }
                }
            }
            other => self.more_node_action(host, other),
        }
    }

    /// Returns whom an address leads to.
    fn resolve(&mut self, host: usize, addresses: &[Address]) -> usize {
        let app = &mut self.hosts[host].app;
        if let Some((to, until)) = app.misled
            && until > self.now
            && to != host
        {
            app.was_misled = true;
            self.faults.fire("misled dial");
            return to;
        }
        addresses
            .first()
            .and_then(|address| address.as_str().strip_prefix(ADDRESS)?.parse().ok())
            .unwrap_or(usize::MAX)
    }

    /// Returns which end of a connection belongs to this session of a host.
    pub(super) fn side_of(
        &self,
        link: usize,
        host: usize,
        connection: glueberry_proto::SessionId,
    ) -> Option<Side> {
        let life = self.hosts[host].life;
        self.links[link]
            .ends
            .iter()
            .position(|end| end.host == host && end.life == life && end.id == Some(connection))
    }

    fn node_event(&mut self, host: usize, event: ConnectionEvent) {
        let Some(peer) = self.peers.get(&event.peer).copied() else {
            return self.fail(Invariant::History, host, "an event about a stranger", &event);
        };
        self.note(host, NOWHERE, Kind::State, (u64_of(peer), state_number(event.state)));
        self.check_event(host, peer, &event);
        self.hosts[host].told[peer] = (event.state, self.now);
        self.app_event(host, peer, &event);
        if self.runs_programs() {
            let ConnectionEvent { peer, state, direction, reason, .. } = event;
            self.tell_program(host, Notice::State { peer, state, direction, reason });
        }
    }

    /// Puts the node's next wake into the queue.
    pub(super) fn arm_node(&mut self, host: usize) {
        let Some(next) = self.hosts[host].node.as_ref().and_then(Node::poll_timeout) else {
            return;
        };
        let (now, told, next) = (self.now, self.hosts[host].told_at, next.as_micros());
        self.checks.hold(Invariant::TimerAhead, (now, host), next > told, || {
            (format!("the node was told that it is {told}"), format!("it wants to wake at {next}"))
        });
        let at = next.max(now);
        if self.hosts[host].timer.is_none_or(|timer| at < timer) {
            self.hosts[host].timer = Some(at);
            self.queue.push(at, Wake::Node(host, self.hosts[host].life));
        }
    }

    pub(super) fn node_timer(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life || self.hosts[host].timer != Some(self.now) {
            return;
        }
        self.hosts[host].timer = None;
        let now = self.at();
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        let is_due = node.poll_timeout().is_some_and(|at| at <= now);
        if !is_due {
            return self.arm_node(host);
        }
        node.handle_timeout(now);
        let is_again = node.poll_timeout().is_some_and(|at| at <= now);
        let wakes = &mut self.hosts[host].idle_wakes;
        *wakes = if is_again { *wakes + 1 } else { 0 };
        let wakes = *wakes;
        self.checks.hold(Invariant::NoStorm, (self.now, host), wakes < 3, || {
            (format!("the node was woken {wakes} times in a row"), "it wants to be again".into())
        });
        self.input_of_node(host, Kind::NodeTimer, (0, 0));
    }

    /// Hands the node the words of its sessions that are there.
    pub(super) fn read_mail(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life {
            return;
        }
        self.hosts[host].mail_is_due = false;
        let now = self.at();
        while let Some((connection, word)) = self.hosts[host].mail.pop_front() {
            let link = self.hosts[host].links.get(&connection).copied().unwrap_or(NOWHERE);
            let Some(node) = self.hosts[host].node.as_mut() else {
                return;
            };
            node.handle_session_message(now, connection, word);
            let numbers = (connection.as_u64(), u64_of(link));
            self.input_of_node(host, Kind::Word, numbers);
            if self.hosts[host].is_doomed {
                return;
            }
        }
    }

    pub(super) fn read_events(&mut self, host: usize, life: u64) {
        if self.hosts[host].life == life {
            self.touched.push_back(Touch::Node(host));
        }
    }

    /// Tells the node of a connection, and puts the session where it belongs.
    pub(super) fn arrive(&mut self, link: usize, side: Side) {
        let end = &mut self.links[link].ends[side];
        let (host, life) = (end.host, end.life);
        let Some(origin) = end.origin.take() else {
            return;
        };
        if self.hosts[host].is_rogue {
            return self.rogue_arrives(link, side);
        }
        if self.hosts[host].life != life || self.hosts[host].node.is_none() {
            self.links[link].ends[side].standing = Standing::Gone;
            return self.hang_up(link, side, 0);
        }
        let other = self.links[link].ends[1 - side].host;
        let is_lookalike = self.is_lookalike(link);
        let peer = self.hosts[if is_lookalike { host } else { other }].key;
        let naming = self.links[link].naming;
        if let Origin::Dialled(dial) = origin {
            self.hosts[host].dials.remove(&dial);
        }
        let now = self.at();
        let before = self.state(host, other);
        let mut expected = self.expected_refusals(host, other, origin);
        expected.claims_own_key = is_lookalike;
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        let admission = node.handle_connection(now, NewConnection { peer, origin, naming });
        let is_accepted = matches!(admission, Admission::Accept(_));
        self.input_of_node(host, Kind::Connection, (u64_of(other), u64::from(is_accepted)));
        self.checks.hold(
            Invariant::Answer,
            (self.now, host),
            !(is_lookalike && is_accepted),
            || ("the peer claims the node's own key".into(), "it was admitted".into()),
        );
        match admission {
            Admission::Accept(session) => {
                let id = session.id();
                let is_new = self.hosts[host].links.insert(id, link).is_none();
                self.checks.hold(Invariant::OneId, (self.now, host), is_new, || {
                    (format!("{id} is in use"), "it was given to another session".into())
                });
                let end = &mut self.links[link].ends[side];
                end.standing = Standing::Open;
                end.id = Some(id);
                end.session = Some(session);
                self.touched.push_back(Touch::Session(link, side));
            }
            Admission::Refuse(reason) => {
                self.check_refusal(host, other, (before, expected), reason);
                self.reach(Some(SUPERFLUOUS));
                self.links[link].ends[side].standing = Standing::Gone;
                self.hang_up(link, side, REFUSED);
            }
            _ => {}
        }
    }

    pub(super) fn dial_failed(&mut self, host: usize, dial: DialId, error: DialError) {
        self.hosts[host].dials.remove(&dial);
        let now = self.at();
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle_dial_failed(now, dial, error);
            self.input_of_node(host, Kind::DialFailed, (dial.as_u64(), 0));
        }
    }

    pub(super) fn state(&self, host: usize, peer: usize) -> ConnectionState {
        let key = self.hosts[peer].key;
        self.hosts[host].node.as_ref().map_or(ConnectionState::Disconnected, |node| node.state(key))
    }

    pub(super) fn word_delay(&mut self, host: usize) -> u64 {
        match self.plan.net.word_delay {
            0 => 0,
            most => self.hosts[host].rng.below(most),
        }
    }
}

/// Returns the number that stands for a state in notes.
pub(crate) const fn state_number(state: ConnectionState) -> u64 {
    match state {
        ConnectionState::Disconnected => 0,
        ConnectionState::Connecting => 1,
        ConnectionState::Connected => 2,
        ConnectionState::Established => 3,
        ConnectionState::Reconnecting => 4,
        ConnectionState::Cooldown => 5,
        _ => 6,
    }
}

/// Returns the name of the state that a number stands for.
pub(crate) const fn state_name(number: u64) -> &'static str {
    match number {
        0 => "Disconnected",
        1 => "Connecting",
        2 => "Connected",
        3 => "Established",
        4 => "Reconnecting",
        5 => "Cooldown",
        _ => "in an unknown state",
    }
}

/// Returns the address of a host.
pub(crate) fn address_of(host: usize) -> Address {
    Address::new(format!("{ADDRESS}{host}"))
}

/// What an address begins with.
const ADDRESS: &str = "host-";
const IDENTITIES: usize = 64;
const ENTROPY: u64 = 0x5eed_0000;
/// The code with which a connection that was refused is closed.
const REFUSED: u64 = 7;
