//! The state of the network: hosts, connections, and what is under way between them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::task::Waker;

use glueberry_proto::{ConnectionLost, DialError, DialId, PublicKey};
use glueberry_tokio::adapter::Shared;
use glueberry_tokio::identity::PeerId;

use super::link::{Link, Packet};
use super::network::{Event, Life, pair};
use crate::queue::Queue;
use crate::rng::{Rng, mix, u64_of};

/// A host, as the network knows it.
pub(super) struct Host {
    pub(super) key: PublicKey,
    pub(super) life: u64,
    pub(super) is_up: bool,
    pub(super) node: Option<Weak<Shared>>,
    pub(super) is_slow: bool,
}

pub(super) struct State {
    rng: Rng,
    seed: u64,
    /// How long a packet takes at least and at most when nothing is wrong, in microseconds.
    latency: Range<u64>,
    pub(super) hosts: Vec<Host>,
    pub(super) links: BTreeMap<u64, Link>,
    last_link: u64,
    /// Those that were not given up.
    pub(super) dials: BTreeSet<(usize, DialId)>,
    pub(super) queue: Queue<Event>,
    /// How many faults block each direction.
    blocked: BTreeMap<(usize, usize), u32>,
    /// The number of each partition that lasts.
    pub(super) partitions: BTreeMap<[usize; 2], u64>,
    last_partition: u64,
    /// What does not pass, with the hosts that it is under way between.
    pub(super) held: Vec<(usize, usize, Event)>,
}

impl State {
    pub(super) fn new(seed: u64, latency: Range<u64>, keys: &[PublicKey]) -> Self {
        let host =
            |key: &PublicKey| Host { key: *key, life: 0, is_up: false, node: None, is_slow: false };
        Self {
            rng: Rng::derive(seed, NETWORK, 0),
            seed,
            latency,
            hosts: keys.iter().map(host).collect(),
            links: BTreeMap::new(),
            last_link: 0,
            dials: BTreeSet::new(),
            queue: Queue::new(seed),
            blocked: BTreeMap::new(),
            partitions: BTreeMap::new(),
            last_partition: 0,
            held: Vec::new(),
        }
    }

    pub(super) fn is_alive(&self, life: Life) -> bool {
        let host = &self.hosts[life.host];
        host.is_up && host.life == life.number
    }

    /// Returns the node of a host's life, while it is that.
    pub(super) fn node_of(&self, life: Life) -> Option<Arc<Shared>> {
        let node = self.hosts[life.host].node.as_ref()?;
        node.upgrade().filter(|_| self.is_alive(life))
    }

    /// Returns between which hosts something is under way.
    pub(super) fn way_of(&self, event: &Event) -> Option<(usize, usize)> {
        match event {
            Event::Dial { from, to, .. } => Some((from.host, *to)),
            Event::Offer { link, side, .. } | Event::Packet { link, side, .. } => {
                let lives = self.links.get(link)?.lives;
                Some((lives[1 - side].host, lives[*side].host))
            }
            Event::DialFailed { .. }
            | Event::Lost { .. }
            | Event::Silence { .. }
            | Event::Fault(_) => None,
        }
    }

    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Draws how long something takes between two hosts.
    pub(super) fn delay(&mut self, from: usize, to: usize) -> u64 {
        // Each direction has a length of its own, about which its packets vary.
        let length = self.latency.end.saturating_sub(self.latency.start).max(1);
        let base = mix(self.seed ^ mix(u64_of(from) << 32 | u64_of(to))) % length;
        let varied = self.latency.start + self.rng.below(base.max(1) * 2).min(length);
        let is_late = self.rng.chance(LATE);
        let is_slow = self.hosts[from].is_slow || self.hosts[to].is_slow;
        varied * if is_late || is_slow { SLOWNESS } else { 1 }
    }

    // ---- connections --------------------------------------------------------------------------

    /// A host that is dialled answers, or does not.
    pub(super) fn answer(
        &mut self,
        now: u64,
        from: Life,
        to: usize,
        expected: PublicKey,
        dial: DialId,
    ) {
        let back = now + self.delay(to, from.host);
        let host = &self.hosts[to];
        let callee = Life { host: to, number: host.life };
        if host.key != expected {
            let error = DialError::WrongPeer { actual: PeerId::from(host.key).to_string() };
            return self.queue.push(back, Event::DialFailed { from, dial, error });
        }
        if self.node_of(callee).is_none() {
            // Of a host that is down nothing is heard; of one without a listener, that there is none.
            if self.hosts[to].is_up {
                let error = DialError::Transport("connection refused".to_owned());
                self.queue.push(back, Event::DialFailed { from, dial, error });
            }
            return;
        }
        self.last_link += 1;
        let link = self.last_link;
        let mut binding = [0; 32];
        for (at, part) in (0..).zip(binding.chunks_exact_mut(8)) {
            part.copy_from_slice(&mix(self.seed ^ mix(link) ^ at).to_le_bytes());
        }
        self.links.insert(link, Link::new([from, callee], binding));
        // Either side may have the connection first.
        let forth = now + self.rng.range(0, 2) * self.delay(from.host, to);
        self.queue.push(back, Event::Offer { link, side: 0, dial: Some(dial) });
        self.queue.push(forth, Event::Offer { link, side: 1, dial: None });
    }

    /// Sends a packet from a side to the other.
    pub(super) fn send(&mut self, now: u64, link: u64, from: usize, packet: Packet) {
        let Some(found) = self.links.get(&link) else {
            return;
        };
        let [own, peer] = [found.lives[from], found.lives[1 - from]];
        if !self.is_alive(own) {
            return;
        }
        let mut at = now + self.delay(own.host, peer.host);
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        if let Some(pipe) = packet.pipe() {
            // A substream is in order; one of them does not wait for another.
            let last = found.ends[from].arrivals.entry(pipe).or_default();
            at = at.max(*last + 1);
            *last = at;
        }
        self.queue.push(at, Event::Packet { link, side: 1 - from, packet });
    }

    /// Hands a packet to a side. Returns what is to be woken.
    pub(super) fn deliver(
        &mut self,
        now: u64,
        link: u64,
        side: usize,
        packet: Packet,
    ) -> Option<Waker> {
        let found = self.links.get_mut(&link)?;
        let life = found.lives[side];
        if !(self.hosts[life.host].is_up && self.hosts[life.host].life == life.number) {
            return None;
        }
        let answer = found.deliver(side, packet);
        let waker = found.ends[side].waker.take();
        if let Some(answer) = answer {
            self.send(now, link, side, answer);
        }
        waker
    }

    /// A side notices that its connection is lost. Returns what is to be woken.
    pub(super) fn lose(&mut self, link: u64, side: usize, why: ConnectionLost) -> Option<Waker> {
        let end = &mut self.links.get_mut(&link)?.ends[side];
        end.lose(why);
        end.waker.take()
    }

    /// The connection of a side was dropped.
    pub(super) fn dropped(&mut self, link: u64, side: usize) {
        if let Some(found) = self.links.get_mut(&link) {
            found.ends[side].is_dropped = true;
            if found.is_over() {
                self.links.remove(&link);
            }
        }
    }

    // ---- faults -------------------------------------------------------------------------------

    pub(super) fn start(&mut self, now: u64, host: usize) -> Life {
        let started = &mut self.hosts[host];
        (started.life, started.is_up, started.node) = (started.life + 1, true, None);
        let life = Life { host, number: started.life };
        // A peer that still sends to the life before gets a reset.
        for (link, side) in self.links_of(|of| of.host == host && of != life) {
            let at = now + self.rng.below(RESET_WITHIN);
            let why = ConnectionLost::Reset;
            self.queue.push(at, Event::Lost { link, side: 1 - side, why });
        }
        life
    }

    pub(super) fn kill(&mut self, now: u64, host: usize) {
        let killed = &mut self.hosts[host];
        (killed.is_up, killed.node) = (false, None);
        let life = Life { host, number: killed.life };
        self.dials.retain(|(of, _)| *of != host);
        for (link, side) in self.links_of(|of| of == life) {
            let why = ConnectionLost::TimedOut;
            self.queue.push(now + IDLE_TIMEOUT, Event::Lost { link, side: 1 - side, why });
        }
    }

    /// Returns the ends that a life has which fits.
    fn links_of(&self, fits: impl Fn(Life) -> bool) -> Vec<(u64, usize)> {
        let sides = self.links.iter().flat_map(|(id, link)| {
            link.lives.iter().enumerate().map(move |(side, life)| (*id, side, *life))
        });
        sides.filter(|(.., life)| fits(*life)).map(|(link, side, _)| (link, side)).collect()
    }

    /// Loses the connections of two hosts. Each end notices within that time.
    pub(super) fn cut(&mut self, now: u64, hosts: [usize; 2], noticed: Range<u64>) {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for link in ids {
            let Some(found) = self.links.get_mut(&link) else { continue };
            if pair(found.lives[0].host, found.lives[1].host) != hosts || found.is_cut {
                continue;
            }
            found.is_cut = true;
            for side in 0..2 {
                let at = now + self.rng.range(noticed.start, noticed.end);
                let why = ConnectionLost::TimedOut;
                self.queue.push(at, Event::Lost { link, side, why });
            }
        }
    }

    pub(super) fn block(&mut self, now: u64, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
        self.last_partition += 1;
        let (pair, partition) = (pair(from, to), self.last_partition);
        self.partitions.entry(pair).or_insert(partition);
        let partition = self.partitions[&pair];
        self.queue.push(now + IDLE_TIMEOUT, Event::Silence { pair, partition });
    }

    pub(super) fn unblock(&mut self, now: u64, from: usize, to: usize) {
        if let Some(blocks) = self.blocked.get_mut(&(from, to)) {
            *blocks -= 1;
            if *blocks == 0 {
                self.blocked.remove(&(from, to));
            }
        }
        if self.is_blocked(from, to) {
            return;
        }
        if !self.is_blocked(to, from) {
            self.partitions.remove(&pair(from, to));
        }
        let is_released = |(a, b, _): &mut (usize, usize, Event)| (*a, *b) == (from, to);
        let released: Vec<Event> =
            self.held.extract_if(.., is_released).map(|(.., event)| event).collect();
        // In their order: a substream stays what it is.
        for (place, event) in (0..).zip(released) {
            self.queue.push(now + RELEASED_AFTER + place, event);
        }
    }
}

/// The kind of the network's generator.
const NETWORK: u64 = 101;
/// How many of a thousand packets are late.
const LATE: u64 = 20;
const SLOWNESS: u64 = 10;

/// In microseconds. After so long without a word a connection is lost, as over QUIC by default.
const IDLE_TIMEOUT: u64 = 15_000_000;
/// A peer says something to a life that is over, and learns of that.
const RESET_WITHIN: u64 = 5_000_000;
/// What was held back was lost, and is sent again.
const RELEASED_AFTER: u64 = 100_000;
