//! The scripted application: it connects to whom it wants, holds the handshake in its style,
//! says what the plan says and takes what comes at its own pace.

use bytes::Bytes;
use glueberry_proto::{
    ConnectionEvent, ConnectionState, Profile, SendError, StateReason, StreamName,
};

use super::address_of;
use super::expected::Expected;
use super::hosts::Hosts;
use super::network::Network;
use super::node::Nodes;
use super::program::Runtime;
use super::session::Sessions;
use crate::check::Invariant;
use crate::host::{App, Flow};
use crate::model::{Fate, Model};
use crate::rng::u64_of;
use crate::run::Run;
use crate::trace::Kind;
use crate::wake::{Side, Wake};

/// Applications: the scripted ones, or programs in their place.
#[derive(Debug)]
pub(crate) struct Application<'a> {
    pub(super) run: &'a mut Run,
    pub(super) net: &'a mut Network,
    pub(super) hosts: &'a mut Hosts,
    pub(super) expected: &'a mut [Expected],
    pub(super) scripts: &'a mut [App],
    pub(super) programs: &'a mut Runtime,
    pub(super) model: &'a mut Model,
}

impl Application<'_> {
    pub(super) fn sessions(&mut self) -> Sessions<'_> {
        Sessions { run: self.run, net: self.net, hosts: self.hosts }
    }

    pub(super) fn nodes(&mut self) -> Nodes<'_> {
        let Self { run, net, hosts, expected, .. } = self;
        Nodes { run, net, hosts, expected }
    }

    /// Lends the same to the program of a host.
    pub(super) fn lend(&mut self) -> Application<'_> {
        let Self { run, net, hosts, expected, scripts, programs, model } = self;
        Application { run, net, hosts, expected, scripts, programs, model }
    }

    pub(super) fn unban(&mut self, by: usize, of: usize) {
        let (now, key) = (self.run.at(), self.hosts[of].key);
        if let Some(node) = self.hosts[by].node.as_mut() {
            let was_banned = node.unblacklist(now, key);
            self.nodes().input_of_node(by, Kind::Unban, (u64_of(of), u64::from(was_banned)));
            self.hosts[by].banned[of] = None;
            self.nodes().checker().check_critical(by, was_banned);
            self.connect_if_wanted(by, of);
        }
    }

    pub(super) fn want(&mut self, by: usize, of: usize) {
        self.hosts[by].wants[of] = true;
        self.add_peer(by, of);
        self.connect(by, of);
    }

    /// Disconnects, and connects again later if the peer is wanted.
    pub(super) fn disconnect(&mut self, by: usize, of: usize) {
        let end = self.hosts.current_end(by, of);
        let (now, key) = (self.run.at(), self.hosts[of].key);
        let Some(node) = self.hosts[by].node.as_mut() else {
            return;
        };
        let state = node.state(key);
        let end = end.filter(|_| state == ConnectionState::Established);
        let was_any = node.disconnect(now, key);
        self.nodes().input_of_node(by, Kind::Disconnect, (u64_of(of), u64::from(was_any)));
        if was_any {
            self.expected[by].parted[of] = self.run.now;
            self.expected[by].awaited.remove(&of);
            self.run.fire("disconnect");
        }
        if let Some((link, side)) = end.filter(|_| was_any) {
            let is_clean = !self.net.links[link].is_touched
                && self.net.links[link].ends[side].progress.is_established
                // What has no reader is unsent.
                && self.run.plan.hosts[of].skips == 0;
            self.net.touch_link(link);
            self.net.links[link].drain = is_clean.then_some((side, self.run.now));
        }
        let expected = state != ConnectionState::Disconnected;
        self.run.checks.hold(Invariant::Answer, (self.run.now, by), was_any == expected, || {
            (format!("the peer was {state}"), format!("disconnect answered {was_any}"))
        });
    }

    /// Begins again after a start: every wanted peer is dialled.
    pub(super) fn begin_app(&mut self, host: usize) {
        for peer in (0..self.hosts.len()).filter(|peer| *peer != host) {
            if self.run.plan.limits.more.protected >> peer & 1 == 1 {
                self.protect(host, peer, true);
            }
        }
        for peer in 0..self.hosts.len() {
            if self.hosts[host].wants[peer] {
                self.add_peer(host, peer);
                self.retry_soon(host, peer);
            }
        }
    }

    /// Connects, if the peer is wanted and not connected.
    pub(super) fn connect(&mut self, by: usize, of: usize) {
        let (now, key) = (self.run.at(), self.hosts[of].key);
        let state = self.hosts.state(by, of);
        let Some(node) = self.hosts[by].node.as_mut() else {
            return;
        };
        let connected = node.connect(now, key);
        self.nodes().input_of_node(by, Kind::Connect, (u64_of(of), u64::from(connected.is_ok())));
        if connected.is_ok() {
            self.asks(by, of, state);
        }
        self.nodes().checker().check_connect(by, of, state, connected.as_ref());
        if connected.is_err() {
            self.retry_soon(by, of);
        }
    }

    /// A host's application has asked for a peer, which was in this state.
    pub(super) fn asks(&mut self, by: usize, of: usize, before: ConnectionState) {
        let key = self.hosts[of].key;
        self.expected[by].asks(of, before);
        // Who is dialled may dial.
        self.expected[by].parted[of] = 0;
        let mut dials = self.hosts[by].dials.values_mut();
        match dials.find(|dial| dial.peer == key) {
            Some(dial) => _ = dial.wanted_at.get_or_insert(self.run.now),
            None => _ = self.expected[by].awaited.insert(of),
        }
    }

    /// Protects a peer from being pruned, or no longer; returns whether that was noted.
    pub(super) fn protect(&mut self, host: usize, peer: usize, protects: bool) -> bool {
        let (now, key) = (self.run.at(), self.hosts[peer].key);
        let node = self.hosts[host].node.as_mut();
        let noted = node.is_some_and(|node| node.protect(now, key, protects).is_ok());
        if noted {
            self.expected[host].watched.protects.insert(peer, protects);
        }
        noted
    }

    pub(super) fn connect_if_wanted(&mut self, by: usize, of: usize) {
        if self.hosts[by].wants[of] {
            self.retry_soon(by, of);
        }
    }

    /// Tries again after a while, if the peer is wanted.
    pub(super) fn retry_soon(&mut self, host: usize, peer: usize) {
        let is_due = &mut self.scripts[host].retry_is_due[peer];
        if self.hosts[host].wants[peer] && !std::mem::replace(is_due, true) {
            let wait = self.run.plan.limits.retry;
            let wait = self.hosts[host].rng.range(wait, 2 * wait);
            let life = self.hosts[host].life;
            self.run.push(self.run.now + wait, Wake::Retry(host, life, peer));
        }
    }

    pub(super) fn retry(&mut self, host: usize, life: u64, peer: usize) {
        if self.hosts[host].life != life {
            return;
        }
        self.scripts[host].retry_is_due[peer] = false;
        let state = self.hosts.state(host, peer);
        if self.hosts[host].is_stopping || !self.hosts[host].wants[peer] {
            return;
        }
        match state {
            ConnectionState::Disconnected => self.connect(host, peer),
            ConnectionState::Cooldown => self.retry_soon(host, peer),
            _ => {}
        }
    }

    pub(super) fn app_event(&mut self, host: usize, peer: usize, event: &ConnectionEvent) {
        if event.reason == Some(StateReason::Pruned) {
            for link in self.net.links_between(host, peer) {
                self.net.touch_link(link);
            }
        }
        match event.state {
            ConnectionState::Connected => {
                if let Some((link, side)) = self.hosts.current_end(host, peer) {
                    let is_prompt = event.at.as_micros() == self.run.now;
                    let end = &mut self.net.links[link].ends[side];
                    end.progress.is_connected = true;
                    end.current_since = is_prompt.then_some(self.run.now);
                    if is_prompt {
                        self.nodes().checker().check_chosen(link, side);
                    }
                    self.run.touch_session(link, side);
                    self.scripts[host].has_greeted[peer] = false;
                    self.scripts[host].said[peer] = 0;
                    self.send_hello(link, side);
                }
            }
            ConnectionState::Disconnected | ConnectionState::Cooldown => {
                self.retry_soon(host, peer);
            }
            _ => {}
        }
    }

    pub(super) fn begin_flow(&mut self, host: usize, flow: Flow) {
        let at = self.scripts[host].flows.len();
        self.scripts[host].flows.push(flow);
        self.flow(host, at);
    }

    /// Says as much as is due and as there is room for.
    pub(super) fn flow(&mut self, host: usize, at: usize) {
        let Some(flow) = self.scripts[host].flows.get(at).copied() else {
            return;
        };
        let is_skipped = self.run.skips(host, flow.stream);
        if flow.count == 0 || self.hosts[host].is_stopping || is_skipped {
            return;
        }
        let end = self
            .hosts
            .current_end(host, flow.to)
            .filter(|(link, side)| self.net.links[*link].ends[*side].progress.is_established);
        let Some((link, side)) = end else {
            self.scripts[host].flows[at].is_parked = true;
            return;
        };
        let mut left = flow.left;
        while left > 0 {
            match self.send_message(link, side, flow.stream, flow.size) {
                Some(Ok(())) => left -= 1,
                _ => break,
            }
        }
        let flow = &mut self.scripts[host].flows[at];
        flow.left = left;
        flow.is_parked = left > 0;
        if left == 0 {
            flow.left = flow.burst;
            flow.count -= 1;
            if flow.count > 0 {
                self.run.push(self.run.now + flow.every.max(1), Wake::Flow(host, at));
            }
        }
    }

    /// Lets what a host has to say to a peer go on.
    pub(super) fn resume_flows(&mut self, link: usize, side: Side) {
        let host = self.net.links[link].ends[side].host;
        let peer = self.net.links[link].ends[1 - side].host;
        for at in 0..self.scripts[host].flows.len() {
            let flow = &mut self.scripts[host].flows[at];
            if flow.is_parked && flow.to == peer {
                flow.is_parked = false;
                self.run.push(self.run.now, Wake::Flow(host, at));
            }
        }
    }

    /// Sends one message that the model knows.
    pub(super) fn send_message(
        &mut self,
        link: usize,
        side: Side,
        stream: usize,
        size: usize,
    ) -> Option<Result<(), SendError>> {
        let text = self.model.text(size);
        let number = u64_of(self.model.len());
        let name = self.run.streams[stream].clone();
        let sent = self.net.links[link].ends[side].session.as_mut()?.send(
            glueberry_proto::Instant::from_micros(self.run.now),
            &name,
            text,
        );
        let host = self.net.links[link].ends[side].host;
        self.run.input(host, link, Kind::Send, (number, u64::from(sent.is_ok())));
        self.run.touch_session(link, side);
        self.sessions().check_send((link, side), stream, &sent);
        self.sessions().check_room((link, side), stream, &sent);
        if sent.is_ok() {
            let lane = &mut self.net.links[link].ends[side].lanes[stream];
            let place = lane.accepted;
            lane.accepted += 1;
            self.model.accepted(link, side, stream, place, size);
        }
        Some(sent)
    }

    pub(super) fn readable(&mut self, link: usize, side: Side, stream: &StreamName) {
        if let Some(at) = self.run.streams.iter().position(|name| name == stream) {
            self.net.links[link].ends[side].progress.readable[at] = true;
        }
        self.take(link, side);
    }

    /// Takes messages, at the application's pace.
    pub(super) fn take(&mut self, link: usize, side: Side) {
        self.net.links[link].ends[side].progress.read_is_due = false;
        let host = self.net.links[link].ends[side].host;
        let (pace, unread_until) = {
            let app = &self.scripts[host];
            (app.pace, app.unread_until)
        };
        if unread_until > self.run.now {
            return self.take_later(link, side, unread_until);
        }
        let most = if pace == 0 { usize::MAX } else { 1 };
        self.take_some(link, side, most);
        let is_left = self.net.links[link].ends[side].progress.readable.iter().any(|left| *left);
        if is_left {
            self.take_later(link, side, self.run.now + pace.max(1));
        }
    }

    fn take_later(&mut self, link: usize, side: Side, at: u64) {
        if !std::mem::replace(&mut self.net.links[link].ends[side].progress.read_is_due, true) {
            self.run.push(at, Wake::Take(link, side));
        }
    }

    pub(super) fn take_all(&mut self, link: usize, side: Side) {
        self.take_some(link, side, usize::MAX);
    }

    /// Faults are over: takes on all connections of a host what has waited.
    pub(super) fn take_on_all(&mut self, host: usize) {
        let ends: Vec<(usize, Side)> = self.hosts[host].links.values().copied().collect();
        for (link, side) in ends {
            self.take(link, side);
        }
    }

    fn take_some(&mut self, link: usize, side: Side, most: usize) {
        for stream in 0..self.run.streams.len() {
            let mut count = 0;
            while count < most && self.net.links[link].ends[side].progress.readable[stream] {
                count += 1;
                let end = &mut self.net.links[link].ends[side];
                let name = &self.run.streams[stream];
                match end.session.as_mut().and_then(|session| session.poll_message(name)) {
                    Some(message) => self.receive(link, side, stream, &message),
                    None => end.progress.readable[stream] = false,
                }
            }
        }
        self.run.touch_session(link, side);
    }

    /// Looks at a message that was delivered.
    fn receive(&mut self, link: usize, side: Side, stream: usize, text: &Bytes) {
        let (now, sender) = (self.run.now, 1 - side);
        let other = self.net.links[link].ends[sender].host;
        let end = &mut self.net.links[link].ends[side];
        let host = end.host;
        let profile = end.session.as_ref().and_then(|session| session.profile());
        if let Some(profile) = profile {
            let record = text.len() + RECORD;
            let len = record + profile.framing().header_len(record);
            end.held = end.held.saturating_sub(u64_of(len));
        }
        // In v2 the peer must have confirmed the keys.
        let is_open = match profile {
            Some(Profile::V2) => end.progress.is_established,
            _ => end.progress.is_finalized,
        };
        self.run.checks.hold(Invariant::Gate, (now, host), is_open, || {
            ("nobody has finalized the handshake".into(), "a message was delivered".into())
        });
        if self.run.is_adversary(other) {
            self.run.note(host, link, Kind::Received, (u64::MAX, u64_of(text.len())));
            return self.check_adversary_message(link, side, text);
        }
        if self.runs_programs() {
            return self.program_receives((link, side), stream, text);
        }
        let found = self.model.find(text);
        let is_of_here = found
            .is_some_and(|(_, sent)| (sent.link, sent.side, sent.stream) == (link, sender, stream));
        self.run.checks.hold(Invariant::NoGhost, (now, host), is_of_here, || {
            (
                format!("connection {link} of {other} delivers on stream {stream}"),
                format!("what was sent as {found:?}"),
            )
        });
        let Some((number, sent)) = found.filter(|_| is_of_here) else {
            return;
        };
        self.run.note(host, link, Kind::Received, (u64_of(number), u64_of(stream)));
        self.run.checks.hold(
            Invariant::Unaltered,
            (now, host),
            Model::is_whole(number, &sent, text),
            || (format!("message {number} has {} bytes", sent.len), format!("delivered: {text:?}")),
        );
        self.run.checks.hold(
            Invariant::UnsentStays,
            (now, host),
            sent.fate != Fate::Unsent,
            || (format!("message {number} was given back as unsent"), "it is delivered".into()),
        );
        let lane = &mut self.net.links[link].ends[side].lanes[stream];
        let expected = lane.next;
        lane.received += 1;
        lane.next = lane.next.max(sent.place + 1);
        self.run.checks.hold(Invariant::Order, (now, host), sent.place >= expected, || {
            (
                format!("of stream {stream}, {expected} messages or more were passed"),
                format!("then the one at place {} is delivered (message {number})", sent.place),
            )
        });
        // What was given back was never on its way.
        let unsent = self.net.links[link].ends[sender].lanes[stream].unsent;
        if sent.place > expected + unsent {
            self.sessions().check_untouched(link, side, &|| {
                format!("stream {stream} jumps from place {expected} to {}", sent.place)
            });
        }
        self.model.set(number, Fate::Delivered);
        self.model.delivered += 1;
    }

    /// Learns where a peer is.
    pub(super) fn add_peer(&mut self, host: usize, peer: usize) {
        let (now, key) = (self.run.at(), self.hosts[peer].key);
        let address = address_of(peer);
        if let Some(node) = self.hosts[host].node.as_mut() {
            let was_off = node.state(key) == ConnectionState::Disconnected;
            let added = node.add_peer(now, key, &[address]);
            // A node that connects to all that it knows does so at once.
            let is_on = node.state(key) == ConnectionState::Connecting;
            self.expected[host].asked[peer] |= was_off && is_on;
            if was_off && is_on {
                self.expected[host].parted[peer] = 0;
            }
            self.nodes().input_of_node(
                host,
                Kind::AddPeer,
                (u64_of(peer), u64::from(added.is_ok())),
            );
            self.nodes().checker().check_critical(host, added.is_ok());
        }
    }
}

/// Nonce and tag of a record.
const RECORD: usize = 28;
