//! Connections: too many, at the wrong moment, or dropped when that hurts most.

use glueberry_proto::{ConnectionState, Origin};

use super::Adversary;
use super::{AFTER_HANDSHAKE, ENOUGH};
use crate::attack::Attack;
use crate::link::EndState;
use crate::wake::{Side, Wake};
use crate::world::World;

impl World {
    /// An adversary begins an attack on a host.
    pub(in crate::world) fn begin_attack(&mut self, by: usize, to: usize, attack: Attack) {
        if !self.hosts.is_up(&self.run, to) || self.run.is_adversary(to) || by == to {
            return;
        }
        if !attack.is_possible(self.adversary().profile_for(to, attack)) {
            return;
        }
        match attack {
            _ if attack.is_done_to_dialler() => self.wait_for_dial(by, to, attack),
            _ if attack.is_passive() && self.hosts[by].rng.chance(400) => {
                self.wait_for_dial(by, to, attack)
            }
            Attack::Duplicates | Attack::IdleDuplicates => {
                for _ in 0..self.hosts[by].rng.range(2, 8) {
                    self.adversary().dial(by, to, attack, false);
                }
            }
            Attack::BanEvader => {
                self.ban(to, by, None);
                self.repeat_attack(by, to, attack, REDIALS);
            }
            Attack::Redialler => self.repeat_attack(by, to, attack, REDIALS),
            Attack::Rejoiner => self.repeat_attack(by, to, attack, REJOINS),
            _ => self.adversary().dial(by, to, attack, false),
        }
    }

    /// Makes a host dial the adversary, which then attacks it.
    fn wait_for_dial(&mut self, by: usize, to: usize, attack: Attack) {
        self.hosts[by].planned_attack = Some((to, attack, self.run.now + ENOUGH));
        self.apps().add_peer(to, by);
        self.apps().connect(to, by);
        self.run.push(self.run.now + ENOUGH, Wake::AttackAgain(by, to, attack, 0));
    }

    /// A attack of several connections goes on, and ends when none is left.
    pub(in crate::world) fn repeat_attack(
        &mut self,
        by: usize,
        to: usize,
        attack: Attack,
        left: u64,
    ) {
        match (attack, left) {
            (Attack::HeldBack, 1) => return self.apps().cancel_reconnection(to, by),
            (Attack::BanEvader, 0) if self.hosts[to].banned[by].is_some() => {
                return self.apps().unban(to, by);
            }
            (Attack::BanEvader | Attack::Redialler | Attack::Rejoiner, 0) => return,
            (_, 0) => {
                // The peer that was misled has ended it.
                if !self.hosts[to].is_stopping {
                    self.apps().cancel_reconnection(to, by);
                    self.apps().disconnect(to, by);
                }
                return;
            }
            _ => {}
        }
        if self.hosts.is_up(&self.run, to) && !self.run.is_calm {
            self.adversary().dial(by, to, attack, false);
        }
        let pause = if attack == Attack::Rejoiner { AFTER_HANDSHAKE + 1_000_000 } else { 300_000 };
        self.run.push(self.run.now + pause, Wake::AttackAgain(by, to, attack, left - 1));
    }
}

impl Adversary<'_> {
    /// Returns what an adversary has in mind for who dials it.
    pub(super) fn planned_attack(&self, by: usize, who: usize) -> Option<Attack> {
        let (whom, attack, until) = self.hosts[by].planned_attack?;
        (whom == who && until > self.run.now).then_some(attack)
    }

    fn dial(&mut self, by: usize, to: usize, attack: Attack, is_second: bool) {
        let link = self.net.connect_hosts(self.run, self.hosts, (by, to), Origin::Accepted);
        self.run_script(link, to, attack, is_second);
    }

    /// A connection of an adversary has come about.
    pub(super) fn connected(&mut self, link: usize, side: Side, attack: Attack) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        match attack {
            Attack::PendingDial | Attack::HeldBack if side == 1 => {
                self.dial(by, to, attack, true);
            }
            Attack::BanEvader if !self.hosts.ban_holds(self.run, to, by) => {}
            Attack::Duplicates | Attack::IdleDuplicates | Attack::BanEvader => {
                self.net.count_attack(self.run, link)
            }
            _ => {}
        }
    }

    /// Soon after a connection has come about, the adversary gives it up.
    pub(super) fn after_connecting(&mut self, link: usize, side: Side, attack: Attack) {
        match attack {
            Attack::Hangup | Attack::Redialler => {
                self.net.count_attack(self.run, link);
                self.leave(link, side);
            }
            Attack::PendingDial if side == 1 && self.is_held_back(link, side) => {
                self.net.count_attack(self.run, link)
            }
            Attack::HeldBack if side == 1 => self.drop_held_back(link, side),
            _ => {}
        }
    }

    /// Returns whether the session of who has dialled the adversary waits for the adversary's own dial.
    fn is_held_back(&self, link: usize, side: Side) -> bool {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        let is_agreed =
            self.net.links[link].script.as_ref().is_some_and(|one| !one.named.is_empty());
        let is_kept = self.hosts[by].key < self.hosts[to].key;
        let is_waiting = self.hosts.state(to, by) == ConnectionState::Connecting;
        is_agreed && is_kept && is_waiting && self.net.links_between(by, to).len() > 1
    }

    /// Drops both connections, and has the peer give up what it does to get back.
    fn drop_held_back(&mut self, link: usize, side: Side) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if self.is_held_back(link, side) {
            self.net.count_attack(self.run, link);
        }
        for other in self.net.links_between(by, to) {
            let ends = &self.net.links[other].ends;
            let side = usize::from(ends[1].host == by);
            if ends[side].state == EndState::Open {
                self.leave(other, side);
            }
        }
        let heard = self.run.now + 2 * self.run.plan.longest_delay() + 10_000;
        if self.net.links[link].rng.chance(700) {
            self.run.push(heard, Wake::AttackAgain(by, to, Attack::HeldBack, 1));
        }
    }

    /// Connects once more beside a session, which is probed then.
    pub(super) fn connect_beside(&mut self, link: usize, side: Side, attack: Attack) {
        let [by, to] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        self.dial(by, to, attack, true);
    }

    /// The adversary closes a connection, and learns nothing more of it.
    pub(super) fn leave(&mut self, link: usize, side: Side) {
        self.net.links[link].ends[side].state = EndState::Gone;
        self.net.hang_up(self.run, link, side, 0);
    }
}

/// How often an adversary dials again.
const REDIALS: u64 = 12;
/// How often an adversary comes back to a session.
const REJOINS: u64 = 4;
