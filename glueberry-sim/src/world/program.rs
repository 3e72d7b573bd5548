//! Programs of application authors, in place of the scripted application.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::handler::{Context, Handler, Notice};
use glueberry_proto::{Address, ConnectionState, Instant, PublicKey, SendError, StreamName};

use super::World;
use super::app::Application;
use crate::check::Invariant;
use crate::rng::u64_of;
use crate::trace::{Kind, NOWHERE, digest};
use crate::wake::{Side, Wake};

/// Makes the program of a host each time that it is started, from all keys and its place.
pub(crate) type Make = Box<dyn Fn(&[PublicKey], usize) -> Box<dyn Handler>>;

/// Looks at all programs; those of hosts that are down are missing.
pub(crate) type Look = Box<dyn Fn(&[Option<&dyn Handler>]) -> Result<(), String>>;

/// What runs on all hosts, and what must hold for it.
pub(crate) struct Programs {
    pub(crate) streams: Vec<StreamName>,
    pub(crate) make: Make,
    /// After every event.
    pub(crate) always: Look,
    /// After faults have stopped and everything has come to rest.
    pub(crate) finally: Look,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").field("streams", &self.streams).finish_non_exhaustive()
    }
}

/// The programs of a run: what they are made from, and those that run.
#[derive(Debug)]
pub(crate) struct Runtime {
    programs: Option<Programs>,
    /// Of each host.
    running: Vec<Slot>,
    /// Of each host: what its program is still to be told.
    failures: Vec<VecDeque<Notice>>,
    /// Messages that programs have sent.
    pub(super) sent: u64,
}

/// A program, or a place where none is.
#[derive(Default)]
struct Slot(Option<Box<dyn Handler>>);

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.0.is_some()).finish()
    }
}

impl Runtime {
    /// No programs: the scripted application runs on all hosts.
    pub(super) fn none(hosts: usize) -> Self {
        Self {
            programs: None,
            running: (0..hosts).map(|_| Slot::default()).collect(),
            failures: vec![VecDeque::new(); hosts],
            sent: 0,
        }
    }

    /// The process of a host is killed.
    pub(super) fn kill(&mut self, host: usize) {
        self.running[host] = Slot::default();
        self.failures[host].clear();
    }

    fn all(&self) -> Vec<Option<&dyn Handler>> {
        self.running.iter().map(|slot| slot.0.as_deref()).collect()
    }
}

/// What a program can do, on its host.
struct Hand<'a> {
    app: Application<'a>,
    host: usize,
}

impl World {
    /// Makes a universe in which programs run instead of the scripted application.
    pub(crate) fn with_programs(mut self, programs: Programs) -> Self {
        self.run.streams.clone_from(&programs.streams);
        self.programs.programs = Some(programs);
        self
    }
}

impl Application<'_> {
    pub(super) const fn runs_programs(&self) -> bool {
        self.programs.programs.is_some()
    }

    /// Starts the program of a host.
    pub(super) fn start_program(&mut self, host: usize) {
        if let Some(programs) = &self.programs.programs {
            let keys: Vec<PublicKey> = self.hosts.iter().map(|host| host.key).collect();
            self.programs.running[host] = Slot(Some((programs.make)(&keys, host)));
            self.call_program(host, |program, hand| program.on_start(hand));
        }
    }

    /// Calls a program, and looks at all of them afterwards.
    fn call_program(&mut self, host: usize, call: impl FnOnce(&mut dyn Handler, &mut dyn Context)) {
        let Some(mut program) = self.programs.running[host].0.take() else {
            return;
        };
        call(&mut *program, &mut Hand { app: self.lend(), host });
        if self.hosts[host].node.is_some() {
            self.programs.running[host].0 = Some(program);
        }
        if let Some(programs) = &self.programs.programs {
            let looked = (programs.always)(&self.programs.all());
            self.check_program(host, looked);
        }
    }

    fn check_program(&mut self, host: usize, looked: Result<(), String>) {
        let at = (self.run.now, host);
        self.run.checks.hold(Invariant::Application, at, looked.is_ok(), || {
            ("what the application promises".into(), looked.err().unwrap_or_default())
        });
    }

    /// Everything has come to rest.
    pub(super) fn check_programs_at_rest(&mut self) {
        if let Some(programs) = &self.programs.programs {
            let looked = (programs.finally)(&self.programs.all());
            self.check_program(0, looked);
        }
    }

    pub(super) fn notify_program(&mut self, host: usize, notice: Notice) {
        self.call_program(host, |program, hand| program.on_event(hand, notice));
    }

    /// Reports to a program what could not be done a moment ago.
    pub(super) fn program_failed(&mut self, host: usize, life: u64) {
        if self.hosts[host].life == life
            && let Some(notice) = self.programs.failures[host].pop_front()
        {
            self.notify_program(host, notice);
        }
    }

    pub(super) fn program_timer(&mut self, host: usize, life: u64, timer: u64) {
        if self.hosts[host].life == life && !self.hosts[host].is_stopping {
            self.run.note(host, NOWHERE, Kind::Timer, (timer, 0));
            self.call_program(host, |program, hand| program.on_timer(hand, timer));
        }
    }

    /// Delivers a message to a program, after a look whether it is what was sent.
    pub(super) fn program_receives(
        &mut self,
        (link, side): (usize, Side),
        stream: usize,
        text: &Bytes,
    ) {
        let end = &self.net.links[link].ends[side];
        let (host, next) = (end.host, usize::try_from(end.lanes[stream].next).unwrap_or(0));
        let sender = &self.net.links[link].ends[1 - side];
        let from = self.hosts[sender.host].key;
        let sent = sender.sent.get(stream).map_or(&[][..], |sent| sent);
        let wanted = digest(text);
        let place = sent.iter().skip(next).position(|one| *one == wanted);
        let (is_known, count) = (sent.contains(&wanted), sent.len());
        let at = (self.run.now, host);
        self.run.note(host, link, Kind::Received, (wanted, u64_of(stream)));
        self.run.checks.hold(Invariant::NoGhost, at, is_known, || {
            (format!("{count} messages were sent"), format!("delivered: {text:?}"))
        });
        self.run.checks.hold(Invariant::Order, at, place.is_some() || !is_known, || {
            (format!("{next} messages were passed"), format!("delivered: {text:?}"))
        });
        let Some(skipped) = place else {
            return;
        };
        if skipped > 0 {
            self.sessions()
                .check_untouched(link, side, &|| format!("{skipped} messages are missing"));
        }
        let lane = &mut self.net.links[link].ends[side].lanes[stream];
        lane.received += 1;
        lane.next += u64_of(skipped) + 1;
        self.model.delivered += 1;
        let name = self.run.streams[stream].clone();
        let text = text.clone();
        self.call_program(host, |program, hand| program.on_message(hand, from, &name, text));
    }
}

impl Hand<'_> {
    /// Reports to the program later that something could not be done.
    fn report(&mut self, peer: PublicKey, done: Result<(), impl std::fmt::Display>) {
        if let Err(error) = done {
            let failures = &mut self.app.programs.failures[self.host];
            failures.push_back(Notice::Failed { peer, why: error.to_string() });
            let wake = Wake::Failed(self.host, self.app.hosts[self.host].life);
            self.app.run.push(self.app.run.now + SOON, wake);
        }
    }
}

impl Context for Hand<'_> {
    fn now(&self) -> Instant {
        self.app.run.at()
    }

    fn own_key(&self) -> PublicKey {
        self.app.hosts[self.host].key
    }

    fn random(&mut self) -> u64 {
        self.app.hosts[self.host].rng.next()
    }

    fn state(&self, peer: PublicKey) -> ConnectionState {
        let node = self.app.hosts[self.host].node.as_ref();
        node.map_or(ConnectionState::Disconnected, |node| node.state(peer))
    }

    fn add_peer(&mut self, peer: PublicKey, addresses: &[Address]) {
        let now = self.now();
        if let Some(node) = self.app.hosts[self.host].node.as_mut() {
            let added = node.add_peer(now, peer, addresses);
            self.app.nodes().input_of_node(self.host, Kind::AddPeer, (0, u64::from(added.is_ok())));
            self.report(peer, added);
        }
    }

    fn connect(&mut self, peer: PublicKey) {
        let now = self.now();
        let Some(node) = self.app.hosts[self.host].node.as_mut() else {
            return;
        };
        let (before, connected) = (node.state(peer), node.connect(now, peer));
        if let Some(peer) = self.app.hosts.by_key.get(&peer).copied().filter(|_| connected.is_ok())
        {
            self.app.asks(self.host, peer, before);
        }
        self.app.nodes().input_of_node(self.host, Kind::Connect, (0, u64::from(connected.is_ok())));
        self.report(peer, connected);
    }

    fn disconnect(&mut self, peer: PublicKey) {
        let (now, host) = (self.now(), self.host);
        let Some(node) = self.app.hosts[host].node.as_mut() else {
            return;
        };
        let was_any = node.disconnect(now, peer);
        if let Some(other) = self.app.hosts.by_key.get(&peer).copied().filter(|_| was_any) {
            self.app.expected[host].parted[other] = self.app.run.now;
            for link in self.app.net.links_between(host, other) {
                self.app.net.touch_link(link);
            }
        }
        self.app.nodes().input_of_node(host, Kind::Disconnect, (0, u64::from(was_any)));
    }

    fn send(
        &mut self,
        peer: PublicKey,
        stream: &StreamName,
        message: Bytes,
    ) -> Result<(), SendError> {
        let app = &mut self.app;
        let end = app.hosts.by_key.get(&peer);
        let end = end.and_then(|peer| app.hosts.current_end(self.host, *peer));
        let at = app.run.streams.iter().position(|name| name == stream);
        let (Some((link, side)), Some(at)) = (end, at) else {
            let is_connected = end.is_some();
            return Err(if is_connected { SendError::UnknownStream } else { SendError::Closed });
        };
        let mark = digest(&message);
        let sent =
            app.sessions().with_session((link, side), Kind::Send, (mark, 1), |session, now| {
                session.send(now, stream, message)
            });
        let sent = sent.unwrap_or(Err(SendError::Closed));
        if sent.is_ok() {
            let end = &mut app.net.links[link].ends[side];
            end.sent.resize(app.run.streams.len(), Vec::new());
            end.sent[at].push(mark);
            end.lanes[at].accepted += 1;
            app.programs.sent += 1;
        }
        sent
    }

    fn set_timer(&mut self, timer: u64, after: Duration) {
        let after = u64::try_from(after.as_micros()).unwrap_or(u64::MAX / 2).max(1);
        let at = self.app.run.now.saturating_add(after);
        let life = self.app.hosts[self.host].life;
        self.app.run.push(at, Wake::Program(self.host, life, timer));
    }
}

/// Microseconds after which a program learns that something could not be done.
const SOON: u64 = 100;
