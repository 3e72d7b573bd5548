//! Driving a node: its inputs, its actions, its events.

use glueberry_proto::{
    Address, Admission, ConnectionState, DialError, DialId, NewConnection, Node, Origin,
};

use super::checks::Checker;
use super::expected::Expected;
use super::hosts::Hosts;
use super::network::Network;
use crate::check::Invariant;
use crate::link::EndState;
use crate::rng::u64_of;
use crate::run::Run;
use crate::situation::SUPERFLUOUS;
use crate::trace::{Kind, NOWHERE};
use crate::wake::{Side, Wake};

/// What drives nodes: their inputs, their dials and their disks.
#[derive(Debug)]
pub(crate) struct Nodes<'a> {
    pub(super) run: &'a mut Run,
    pub(super) net: &'a mut Network,
    pub(super) hosts: &'a mut Hosts,
    pub(super) expected: &'a mut [Expected],
}

impl Nodes<'_> {
    pub(super) fn checker(&mut self) -> Checker<'_> {
        let Self { run, net, hosts, expected } = self;
        Checker { run, net, hosts, expected }
    }

    /// Counts and notes an input to a node, whose outputs are looked at then.
    pub(super) fn input_of_node(&mut self, host: usize, what: Kind, numbers: (u64, u64)) {
        self.hosts[host].last_input = self.run.now;
        self.run.input(host, NOWHERE, what, numbers);
        self.run.touch_node(host);
    }

    /// Returns whom an address leads to.
    pub(super) fn resolve(&mut self, host: usize, addresses: &[Address]) -> usize {
        let state = &mut self.hosts[host];
        if let Some((to, until)) = state.misled
            && until > self.run.now
            && to != host
        {
            state.was_misled = true;
            self.run.fire("misled dial");
            return to;
        }
        addresses
            .first()
            .and_then(|address| address.as_str().strip_prefix(ADDRESS)?.parse().ok())
            .unwrap_or(usize::MAX)
    }

    /// Puts the node's next wake into the queue.
    pub(super) fn arm_node(&mut self, host: usize) {
        let Some(next) = self.hosts[host].node.as_ref().and_then(Node::poll_timeout) else {
            return;
        };
        let (now, reported, next) = (self.run.now, self.hosts[host].last_input, next.as_micros());
        self.run.checks.hold(Invariant::TimerAhead, (now, host), next > reported, || {
            (
                format!("the node was told that it is {reported}"),
                format!("it wants to wake at {next}"),
            )
        });
        let at = next.max(now);
        if self.hosts[host].timer.is_none_or(|timer| at < timer) {
            self.hosts[host].timer = Some(at);
            self.run.push(at, Wake::Node(host, self.hosts[host].life));
        }
    }

    pub(super) fn node_timer(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life || self.hosts[host].timer != Some(self.run.now) {
            return;
        }
        self.hosts[host].timer = None;
        let now = self.run.at();
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
        self.run.checks.hold(Invariant::NoBusyLoop, (self.run.now, host), wakes < 3, || {
            (format!("the node was woken {wakes} times in a row"), "it wants to be again".into())
        });
        self.input_of_node(host, Kind::NodeTimer, (0, 0));
    }

    /// Hands the node the messages of its sessions that have arrived.
    pub(super) fn read_node_inbox(&mut self, host: usize, life: u64) {
        if self.hosts[host].life != life {
            return;
        }
        self.hosts[host].inbox_is_due = false;
        let now = self.run.at();
        while let Some((connection, word)) = self.hosts[host].inbox.pop_front() {
            let link = self.hosts[host].links.get(&connection).map_or(NOWHERE, |(link, _)| *link);
            let Some(node) = self.hosts[host].node.as_mut() else {
                return;
            };
            node.handle_session_message(now, connection, word);
            let numbers = (connection.as_u64(), u64_of(link));
            self.input_of_node(host, Kind::SessionMessage, numbers);
            if self.run.kills[host].is_due {
                return;
            }
        }
    }

    pub(super) fn read_events(&mut self, host: usize, life: u64) {
        if self.hosts[host].life == life {
            self.run.touch_node(host);
        }
    }

    /// Reports to the node of a connection, and puts the session where it belongs.
    pub(super) fn arrive(&mut self, link: usize, side: Side) {
        let end = &mut self.net.links[link].ends[side];
        let (host, life) = (end.host, end.life);
        let Some(origin) = end.origin.take() else {
            return;
        };
        if self.hosts[host].life != life || self.hosts[host].node.is_none() {
            self.net.links[link].ends[side].state = EndState::Gone;
            return self.net.hang_up(self.run, link, side, 0);
        }
        let other = self.net.links[link].ends[1 - side].host;
        let is_lookalike = self.net.is_lookalike(self.run, link);
        let peer = self.hosts[if is_lookalike { host } else { other }].key;
        let naming = self.net.links[link].naming;
        if let Origin::Dialled(dial) = origin {
            self.hosts[host].dials.remove(&dial);
        }
        let now = self.run.at();
        let before = self.hosts.state(host, other);
        let mut expected = self.checker().expected_refusals(host, other, origin);
        expected.claims_own_key = is_lookalike;
        let Some(node) = self.hosts[host].node.as_mut() else {
            return;
        };
        let admission = node.handle_connection(now, NewConnection { peer, origin, naming });
        let is_accepted = matches!(admission, Admission::Accept(_));
        self.input_of_node(host, Kind::Connection, (u64_of(other), u64::from(is_accepted)));
        self.run.checks.hold(
            Invariant::Answer,
            (self.run.now, host),
            !(is_lookalike && is_accepted),
            || ("the peer claims the node's own key".into(), "it was admitted".into()),
        );
        match admission {
            Admission::Accept(session) => {
                let id = session.id();
                self.checker().check_admitted(host, other, (before, expected));
                let is_new = self.hosts[host].links.insert(id, (link, side)).is_none();
                self.run.checks.hold(Invariant::OneId, (self.run.now, host), is_new, || {
                    (format!("{id} is in use"), "it was given to another session".into())
                });
                let end = &mut self.net.links[link].ends[side];
                end.state = EndState::Open;
                end.id = Some(id);
                end.admitted_at = self.run.now;
                end.session = Some(session);
                self.net.begin_line(self.run, link, side);
                self.run.touch_session(link, side);
            }
            Admission::Refuse(reason) => {
                self.checker().check_refusal(host, other, (before, expected), reason);
                self.run.reach(Some(SUPERFLUOUS));
                self.net.links[link].ends[side].state = EndState::Gone;
                self.net.hang_up(self.run, link, side, REFUSED);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, host: usize, dial: DialId, error: DialError) {
        self.hosts[host].dials.remove(&dial);
        let now = self.run.at();
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle_dial_failed(now, dial, error);
            self.input_of_node(host, Kind::DialFailed, (dial.as_u64(), 0));
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
/// The code with which a connection that was refused is closed.
const REFUSED: u64 = 7;
