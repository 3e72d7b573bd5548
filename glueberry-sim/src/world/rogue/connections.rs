//! Connections: too many, at the wrong moment, or dropped when that hurts most.

use glueberry_proto::{ConnectionState, Origin};

use super::Adversary;
use super::{AFTER_HANDSHAKE, ENOUGH};
use crate::link::Standing;
use crate::trick::Trick;
use crate::wake::{Side, Wake};
use crate::world::World;

impl World {
    /// A rogue begins a trick on somebody.
    pub(in crate::world) fn begin_trick(&mut self, by: usize, to: usize, trick: Trick) {
        if !self.hosts.is_up(&self.run, to) || self.run.is_rogue(to) || by == to {
            return;
        }
        if !trick.is_possible(self.adversary().profile_for(to, trick)) {
            return;
        }
        match trick {
            _ if trick.is_done_to_dialler() => self.lure(by, to, trick),
            _ if trick.is_passive() && self.hosts[by].rng.chance(400) => self.lure(by, to, trick),
            Trick::Duplicates | Trick::IdleDuplicates => {
                for _ in 0..self.hosts[by].rng.range(2, 8) {
                    self.adversary().rogue_dials(by, to, trick, false);
                }
            }
            Trick::BanEvader => {
                self.ban(to, by, None);
                self.ruse(by, to, trick, REDIALS);
            }
            Trick::Redialler => self.ruse(by, to, trick, REDIALS),
            Trick::Rejoiner => self.ruse(by, to, trick, REJOINS),
            _ => self.adversary().rogue_dials(by, to, trick, false),
        }
    }

    /// Brings somebody to dial the rogue, which then does its trick to him.
    fn lure(&mut self, by: usize, to: usize, trick: Trick) {
        self.hosts[by].mood = Some((to, trick, self.run.now + ENOUGH));
        self.apps().learn(to, by);
        self.apps().connect(to, by);
        self.run.push(self.run.now + ENOUGH, Wake::Ruse(by, to, trick, 0));
    }

    /// A trick of several connections goes on, and ends when none is left.
    pub(in crate::world) fn ruse(&mut self, by: usize, to: usize, trick: Trick, left: u64) {
        match (trick, left) {
            (Trick::HeldBack, 1) => return self.apps().cancel_reconnection(to, by),
            (Trick::BanEvader, 0) if self.hosts[to].banned[by].is_some() => {
                return self.apps().unban(to, by);
            }
            (Trick::BanEvader | Trick::Redialler | Trick::Rejoiner, 0) => return,
            (_, 0) => {
                // Whoever was lured has had enough of it.
                if !self.hosts[to].is_stopping {
                    self.apps().cancel_reconnection(to, by);
                    self.apps().part(to, by);
                }
                return;
            }
            _ => {}
        }
        if self.hosts.is_up(&self.run, to) && !self.run.is_calm {
            self.adversary().rogue_dials(by, to, trick, false);
        }
        let pause = if trick == Trick::Rejoiner { AFTER_HANDSHAKE + 1_000_000 } else { 300_000 };
        self.run.push(self.run.now + pause, Wake::Ruse(by, to, trick, left - 1));
    }
}

impl Adversary<'_> {
    /// Returns what a rogue has in mind for who dials it.
    pub(super) fn mood(&self, by: usize, who: usize) -> Option<Trick> {
        let (whom, trick, until) = self.hosts[by].mood?;
        (whom == who && until > self.run.now).then_some(trick)
    }

    fn rogue_dials(&mut self, by: usize, to: usize, trick: Trick, is_second: bool) {
        let link = self.net.connect_hosts(self.run, self.hosts, (by, to), Origin::Accepted);
        self.be_rogue(link, to, trick, is_second);
    }

    /// A connection of a rogue has come about.
    pub(super) fn rogue_connected(&mut self, link: usize, side: Side, trick: Trick) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        match trick {
            Trick::PendingDial | Trick::HeldBack if side == 1 => {
                self.rogue_dials(by, to, trick, true);
            }
            Trick::BanEvader if !self.hosts.ban_holds(self.run, to, by) => {}
            Trick::Duplicates | Trick::IdleDuplicates | Trick::BanEvader => {
                self.net.deed(self.run, link)
            }
            _ => {}
        }
    }

    /// Soon after a connection has come about, the rogue gives it up.
    pub(super) fn rogue_drops(&mut self, link: usize, side: Side, trick: Trick) {
        match trick {
            Trick::Hangup | Trick::Redialler => {
                self.net.deed(self.run, link);
                self.rogue_leaves(link, side);
            }
            Trick::PendingDial if side == 1 && self.is_held_back(link, side) => {
                self.net.deed(self.run, link)
            }
            Trick::HeldBack if side == 1 => self.drop_held_back(link, side),
            _ => {}
        }
    }

    /// Returns whether the session of who has dialled the rogue waits for the rogue's own dial.
    fn is_held_back(&self, link: usize, side: Side) -> bool {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        let is_agreed =
            self.net.links[link].rogue.as_ref().is_some_and(|one| !one.named.is_empty());
        let is_kept = self.hosts[by].key < self.hosts[to].key;
        let is_waiting = self.hosts.state(to, by) == ConnectionState::Connecting;
        is_agreed && is_kept && is_waiting && self.net.links_between(by, to).len() > 1
    }

    /// Drops both connections, and has the peer give up what it does to get back.
    fn drop_held_back(&mut self, link: usize, side: Side) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if self.is_held_back(link, side) {
            self.net.deed(self.run, link);
        }
        for other in self.net.links_between(by, to) {
            let ends = &self.net.links[other].ends;
            let side = usize::from(ends[1].host == by);
            if ends[side].standing == Standing::Open {
                self.rogue_leaves(other, side);
            }
        }
        let heard = self.run.now + 2 * self.run.plan.longest_delay() + 10_000;
        if self.net.links[link].rng.chance(700) {
            self.run.push(heard, Wake::Ruse(by, to, Trick::HeldBack, 1));
        }
    }

    /// Connects once more beside a session, which is probed then.
    pub(super) fn connect_beside(&mut self, link: usize, side: Side, trick: Trick) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        self.rogue_dials(by, to, trick, true);
    }

    /// The rogue closes a connection, and hears nothing more of it.
    pub(super) fn rogue_leaves(&mut self, link: usize, side: Side) {
        self.net.links[link].ends[side].standing = Standing::Gone;
        self.net.hang_up(self.run, link, side, 0);
    }
}

/// How often a rogue dials again.
const REDIALS: u64 = 12;
/// How often a rogue comes back to a session.
const REJOINS: u64 = 4;
