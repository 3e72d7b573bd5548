//! What machines put out, and where it goes.

use std::sync::Arc;

use glueberry_proto::handler::Notice;
use glueberry_proto::{ConnectionEvent, Identity, Node, NodeAction, Seed};

use super::node::state_number;
use super::{World, secret_of};
use crate::check::Invariant;
use crate::host::Dialled;
use crate::link::{EndState, Stage};
use crate::rng::{Rng, u64_of};
use crate::situation::DIAL_UNANSWERED;
use crate::trace::{Kind, NOWHERE};
use crate::wake::{Side, Wake};

impl World {
    /// Starts the node of a host.
    pub(super) fn start(&mut self, host: usize) {
        let planned = self.run.plan.hosts[host];
        self.hosts[host].life += 1;
        let life = self.hosts[host].life;
        self.run.note(host, NOWHERE, Kind::Start, (life, 0));
        if planned.is_adversary {
            return;
        }
        let identity = Identity::from_seed(&secret_of(planned.identity));
        let mut draws = Rng::derive(self.run.plan.seed, ENTROPY ^ life, u64_of(host));
        let mut entropy = [0; 32];
        for chunk in entropy.as_chunks_mut::<8>().0 {
            *chunk = draws.next().to_le_bytes();
        }
        let aead = Arc::new(self.run.witness.clone());
        let mut config = self.run.plan.config(host);
        config.streams.clone_from(&self.run.streams);
        let seed = Seed::from_bytes(entropy);
        match Node::with_aead(self.run.at(), identity, config, seed, aead) {
            Ok(node) => self.hosts[host].node = Some(node),
            Err(error) => self.run.fail(Invariant::Answer, host, "a valid configuration", &error),
        }
        self.hosts[host].last_input = self.run.now;
        self.run.inputs += 1;
        self.nodes().load_book(host);
        self.apps().begin_app(host);
        self.apps().start_program(host);
        self.run.touch_node(host);
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
            if self.hosts[host].absent_until > self.run.now {
                break;
            }
            match self.hosts[host].node.as_mut().and_then(Node::poll_event) {
                Some(event) => self.node_event(host, event),
                None => break,
            }
        }
        self.checker().check_node(host);
        self.nodes().arm_node(host);
    }

    fn node_action(&mut self, host: usize, action: NodeAction) {
        match action {
            NodeAction::Dial { dial, peer, addresses } => {
                let to = self.nodes().resolve(host, &addresses);
                self.run.note(host, NOWHERE, Kind::Dial, (u64_of(to), dial.as_u64()));
                self.checker().check_dialled(host, peer, to);
                let (since, begun) = (self.run.now, self.hosts[host].last_input);
                let number = self.hosts.by_key.get(&peer).copied();
                let is_wanted = number.is_some_and(|it| self.expected[host].awaited.remove(&it));
                if let Some(number) = number {
                    self.checker().check_begun(host, number);
                }
                let wanted_at = is_wanted.then_some(since);
                let dialled = Dialled { peer, to, tries: 0, since, begun, wanted_at };
                self.hosts[host].dials.insert(dial, dialled);
                self.nodes().dial_begins(host, dial);
            }
            NodeAction::CancelDial(dial) => {
                self.run.note(host, NOWHERE, Kind::CancelDial, (dial.as_u64(), 0));
                self.run.reach(Some(DIAL_UNANSWERED));
                self.checker().check_given_way(host, dial);
                self.hosts[host].dials.remove(&dial);
            }
            NodeAction::Forward { session, message } => {
                if let Some((link, side)) = self.hosts[host].links.get(&session).copied() {
                    let delay = self.hosts[host].message_delay(&self.run.plan.net);
                    let end = &mut self.net.links[link].ends[side];
                    end.inbox.push_back(message);
                    if !std::mem::replace(&mut end.inbox_is_due, true) {
                        self.run.push(self.run.now + delay, Wake::SessionInbox(link, side));
                    }
                }
            }
            other => self.nodes().more_node_action(host, other),
        }
    }

    fn node_event(&mut self, host: usize, event: ConnectionEvent) {
        let Some(peer) = self.hosts.by_key.get(&event.peer).copied() else {
            return self.run.fail(Invariant::History, host, "an event about a stranger", &event);
        };
        self.run.note(host, NOWHERE, Kind::State, (u64_of(peer), state_number(event.state)));
        self.checker().check_event(host, peer, &event);
        self.expected[host].reported[peer] = (event.state, self.run.now);
        self.apps().app_event(host, peer, &event);
        if self.apps().runs_programs() {
            let ConnectionEvent { peer, state, direction, reason, .. } = event;
            self.apps().notify_program(host, Notice::State { peer, state, direction, reason });
        }
    }

    pub(super) fn drain_session(&mut self, link: usize, side: Side) {
        loop {
            let Some(session) = self.net.links[link].ends[side].session.as_mut() else {
                return;
            };
            if let Some(action) = session.poll_action() {
                self.sessions().session_action(link, side, action);
            } else if let Some(event) = session.poll_event() {
                self.apps().session_event(link, side, event);
            } else {
                break;
            }
            if self.run.kills[self.net.links[link].ends[side].host].is_due {
                return;
            }
        }
        let end = &self.net.links[link].ends[side];
        let (host, is_told) = (end.host, end.progress.is_closed);
        let is_over = end.session.as_ref().is_some_and(|session| session.is_closed());
        self.run.checks.hold(
            Invariant::OneClosed,
            (self.run.now, host),
            is_told || !is_over,
            || ("the session is over".into(), "it has not told its end".into()),
        );
        self.sessions().note_agreed(link, side);
        self.sessions().check_session(link, side);
        self.sessions().check_waits(link, side);
        self.sessions().check_told(link, side);
        self.sessions().arm_session(link, side);
    }

    pub(super) fn retire(&mut self, link: usize, side: Side) {
        let end = &self.net.links[link].ends[side];
        if matches!(end.state, EndState::Gone | EndState::Arriving) {
            return;
        }
        if !self.run.is_adversary(end.host) {
            if end.state == EndState::Open {
                return;
            }
            self.apps().take_all(link, side);
        }
        self.sessions().drop_end(link, side);
    }

    /// A connection reaches a host.
    pub(super) fn arrive(&mut self, link: usize, side: Side) {
        if !self.run.is_adversary(self.net.links[link].ends[side].host) {
            self.nodes().arrive(link, side);
        } else if self.net.links[link].ends[side].origin.take().is_some() {
            self.adversary_arrives(link, side);
        }
    }

    /// A substream that is being opened reaches the peer, which agrees on a name or doesn't.
    pub(super) fn offer(&mut self, link: usize, at: usize) {
        let Some(pipe) = self.net.links[link].pipes.get(at) else {
            return;
        };
        let acceptor = 1 - pipe.opener;
        if pipe.stage != Stage::Offered {
            return;
        }
        if self.run.is_adversary(self.net.links[link].ends[acceptor].host) {
            self.adversary().offered(link, at);
        } else {
            self.sessions().offer(link, at);
        }
    }

    /// The opener of a substream learns what was agreed on.
    pub(super) fn answer(&mut self, link: usize, at: usize, is_yes: bool) {
        let Some(opener) = self.net.links[link].pipes.get(at).map(|pipe| pipe.opener) else {
            return;
        };
        if self.run.is_adversary(self.net.links[link].ends[opener].host) {
            self.adversary().answered(link, at, opener, is_yes);
        } else {
            self.sessions().answer(link, at, is_yes);
        }
    }

    /// Hands the owner of an end what has arrived on a substream, unless that is stalled.
    pub(super) fn read(&mut self, link: usize, at: usize, side: Side) {
        let Some(pipe) = self.net.links[link].pipes.get_mut(at) else {
            return;
        };
        pipe.halves[side].read_is_due = false;
        let [host, from] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if let Some(until) = self.net.faults.stalled_until(from, host)
            && self.net.links[link].line.is_none()
            && until > self.run.now
        {
            return self.net.read_later(&mut self.run, link, at, side, until);
        }
        match self.run.is_adversary(host) {
            true => self.adversary().read(link, at, side),
            false => self.sessions().read(link, at, side),
        }
    }
}

const ENTROPY: u64 = 0x5eed_0000;
