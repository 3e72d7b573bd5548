//! Peers that break the protocol: scripts that speak on the wire by themselves.
//!
//! What each of them does, `attack.rs` says in a line. Here is when it does it; the other files have
//! what it says and how it opens, ends and drops things, by what of the protocol it abuses.

mod connections;
mod frames;
mod handshake;
mod names;
mod payload;
mod records;
mod substreams;

use glueberry_proto::{Profile, ProtocolId};

use super::hosts::Hosts;
use super::network::Network;
use crate::attack::{Attack, PASSIVE};
use crate::host::Flow;
use crate::link::EndState;
use crate::profiles::Wires;
use crate::run::Run;
use crate::script::{Offence, Purpose, Script};
use crate::wake::{Side, Wake};
use crate::world::World;

impl World {
    pub(in crate::world) fn adversary_arrives(&mut self, link: usize, side: Side) {
        let [by, victim] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if self.net.links[link].script.is_none() {
            // A host has dialled it.
            let attack = self.adversary().planned_attack(by, victim);
            let attack = attack.unwrap_or_else(|| self.net.links[link].rng.pick(PASSIVE));
            self.adversary().run_script(link, victim, attack, false);
        }
        self.net.links[link].ends[side].state = EndState::Open;
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let (attack, send_hello) = (script.attack, ProtocolId::Handshake(script.profile));
        if side == 0 && shakes_hands(attack) {
            self.adversary().open(link, side, send_hello, Purpose::Handshake);
        }
        if is_talked_to(attack) {
            let (to, left, size, is_parked) = (by, 2, 400, false);
            let flow =
                Flow { to, stream: 0, count: 10, burst: 2, left, size, every: 100_000, is_parked };
            self.apps().begin_flow(victim, flow);
        }
        self.adversary().connected(link, side, attack);
        let soon = self.run.now + 10 * self.run.plan.net.delay + 100_000;
        self.run.push(soon, Wake::Script(link, side, SOON));
        self.run.push(self.run.now + AFTER_HANDSHAKE, Wake::Script(link, side, ESTABLISHED));
        self.run.push(self.run.now + ENOUGH, Wake::Script(link, side, OVER));
    }
}

/// Scripts that break the protocol: they have no node, and write what they like to the network.
#[derive(Debug)]
pub(crate) struct Adversary<'a> {
    pub(super) run: &'a mut Run,
    pub(super) net: &'a mut Network,
    pub(super) hosts: &'a Hosts,
}

impl Adversary<'_> {
    /// The end of a connection belongs to an adversary from now on.
    fn run_script(&mut self, link: usize, victim: usize, attack: Attack, is_second: bool) {
        let profile = self.profile_for(victim, attack);
        let spoils_handshake = self.net.links[link].rng.chance(400);
        self.net.links[link].script = Some(Script {
            attack,
            profile,
            opened: Vec::new(),
            named: std::collections::BTreeSet::new(),
            offence: None,
            sealed: 0,
            delivered: 0,
            is_done: false,
            is_second,
            spoils_handshake,
        });
    }

    /// Returns a profile that a host speaks, and in which a attack can be done if there is one.
    fn profile_for(&self, host: usize, attack: Attack) -> Profile {
        match self.run.plan.hosts[host].wires {
            Wires::V2 => Profile::V2,
            Wires::Document | Wires::V2AndDocument => Profile::V1,
            Wires::Both | Wires::All if attack.is_possible(Profile::V1) => Profile::V1,
            Wires::Both | Wires::All | Wires::Go | Wires::V2AndGo | Wires::BothGoFirst => {
                Profile::V1Go
            }
        }
    }

    /// The next act: at once, after the handshake, some more of it, at the end.
    pub(in crate::world) fn act(&mut self, link: usize, side: Side, act: u64) {
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let (attack, is_second) = (script.attack, script.is_second);
        if self.net.links[link].ends[side].state != EndState::Open {
            return;
        }
        match act {
            OVER => self.leave(link, side),
            SOON => {
                self.during_handshake(link, side, attack);
                self.after_connecting(link, side, attack);
            }
            ESTABLISHED if is_second => {}
            ESTABLISHED => self.after_handshake(link, side, attack),
            round => self.round(link, side, attack, round - ROUNDS),
        }
    }

    /// While the handshake is held.
    fn during_handshake(&mut self, link: usize, side: Side, attack: Attack) {
        let (stream, profile) = (self.stream_id(0), self.profile(link));
        match attack {
            Attack::ManySubstreams => {
                for _ in 0..70 {
                    self.open(link, side, stream.clone(), Purpose::Junk);
                }
                self.net.count_attack(self.run, link);
            }
            Attack::Early | Attack::Hasty | Attack::NoHandshake => {
                self.open(link, side, stream, Purpose::Stream);
            }
            Attack::TwoProtocols => {
                let other = match profile {
                    Profile::V1 => Profile::V1Go,
                    _ => Profile::V1,
                };
                self.open(link, side, ProtocolId::Handshake(other), Purpose::Junk);
                self.net.count_attack(self.run, link);
            }
            Attack::SecondHandshake => {
                self.open(link, side, ProtocolId::Handshake(profile), Purpose::Junk);
                self.net.count_attack(self.run, link);
            }
            Attack::FutureProtocol => {
                self.open(link, side, ProtocolId::Handshake(Profile::V2), Purpose::Junk);
                self.net.count_attack(self.run, link);
            }
            Attack::UnknownStreams
            | Attack::LongStreamName
            | Attack::EmptyName
            | Attack::LongName
            | Attack::BinaryName
            | Attack::HalfName => self.name_badly(link, side, attack),
            Attack::NameBomb | Attack::CreepingNames | Attack::ProbeFlood => {
                self.again(link, side, attack, rounds(attack));
            }
            _ => {}
        }
    }

    /// Once the handshake is over, unless the peer takes its time.
    fn after_handshake(&mut self, link: usize, side: Side, attack: Attack) {
        let profile = self.profile(link);
        match attack {
            Attack::LateHandshake => {
                self.open(link, side, ProtocolId::Handshake(profile), Purpose::Junk);
                self.net.count_attack(self.run, link);
            }
            Attack::TalksOn => self.keep_talking_in_handshake(link, side),
            Attack::Quiet => self.net.count_attack(self.run, link),
            Attack::Churn | Attack::AbortedSubstreams => {
                self.again(link, side, attack, rounds(attack));
            }
            Attack::MuteProbes | Attack::FalseProbes => self.connect_beside(link, side, attack),
            Attack::Rejoiner => {
                self.net.count_attack(self.run, link);
                self.leave(link, side);
            }
            _ if payload::is_on_stream(attack) && !self.spoils_handshake(link, attack) => {
                self.open(link, side, self.stream_id(0), Purpose::Stream);
            }
            _ => {}
        }
        if attack == Attack::ReplayElsewhere {
            self.open(link, side, self.stream_id(1), Purpose::OtherStream);
        }
    }

    /// An attack that is done bit by bit goes on, `left` times more.
    fn round(&mut self, link: usize, side: Side, attack: Attack, left: u64) {
        let done = rounds(attack).saturating_sub(left);
        match attack {
            Attack::NameBomb => self.bomb_names(link, side, done),
            Attack::CreepingNames => self.creep_names(link, side, done),
            Attack::CreepingFrame => self.creep(link, side),
            Attack::ProbeFlood => {
                for _ in 0..10 {
                    self.open(link, side, ProtocolId::Probe, Purpose::Junk);
                }
                self.net.count_attack(self.run, link);
            }
            Attack::Churn | Attack::AbortedSubstreams => self.churn(link, side, attack),
            _ => return,
        }
        if left > 1 && !self.run.is_calm {
            self.again(link, side, attack, left - 1);
        }
    }

    /// Has another round come, of so many.
    fn again(&mut self, link: usize, side: Side, attack: Attack, left: u64) {
        let pause = match attack {
            Attack::CreepingNames | Attack::CreepingFrame => 1_000_000,
            _ => 200_000,
        };
        self.run.push(self.run.now + pause, Wake::Script(link, side, ROUNDS + left));
    }

    /// The protocol is broken for all to see.
    pub(super) fn offend(&mut self, link: usize, offence: Offence) {
        if let Some(script) = &mut self.net.links[link].script {
            script.offence = Some(offence);
        }
    }

    fn stream_id(&self, stream: usize) -> ProtocolId {
        Profile::V1.stream_id(self.run.streams[stream].clone())
    }

    fn profile(&self, link: usize) -> Profile {
        self.net.links[link].script.as_ref().map_or(Profile::V1, |script| script.profile)
    }

    /// Returns the substream that the adversary has opened for the handshake.
    fn handshake_pipe(&self, link: usize) -> Option<usize> {
        let script = self.net.links[link].script.as_ref()?;
        let own = script.opened.iter().find(|(_, purpose)| *purpose == Purpose::Handshake);
        own.map(|(pipe, _)| *pipe).filter(|pipe| script.named.contains(pipe))
    }

    /// Returns whether it is the handshake substream on which this attack is done.
    fn spoils_handshake(&self, link: usize, attack: Attack) -> bool {
        let is_either = frames::can_be_in_handshake(attack) || attack == Attack::TwoProtocols;
        is_either
            && self.net.links[link].script.as_ref().is_some_and(|script| script.spoils_handshake)
    }
}

/// Returns whether an adversary that dials opens a handshake.
const fn shakes_hands(attack: Attack) -> bool {
    !matches!(
        attack,
        Attack::NoHandshake
            | Attack::IdleDuplicates
            | Attack::PendingDial
            | Attack::HeldBack
            | Attack::WrongAnswer
    )
}

/// Returns whether the peer has something to say to an adversary, or the attack would be none.
const fn is_talked_to(attack: Attack) -> bool {
    matches!(
        attack,
        Attack::Reflect
            | Attack::NeverReads
            | Attack::Resetter
            | Attack::Refuser
            | Attack::Stopper
            | Attack::HalfCloser
            | Attack::Unanswering
    )
}

/// How often a attack that is done bit by bit goes on.
const fn rounds(attack: Attack) -> u64 {
    match attack {
        Attack::NameBomb | Attack::ProbeFlood => 12,
        Attack::CreepingFrame => 25,
        _ => 15,
    }
}

/// Acts, as they are numbered: what comes behind them counts rounds that are left.
const SOON: u64 = 0;
const ESTABLISHED: u64 = 1;
pub(super) const OVER: u64 = 2;
const ROUNDS: u64 = 10;

/// Microseconds after which the handshake is over with all but the slowest applications.
const AFTER_HANDSHAKE: u64 = 8_000_000;
/// Microseconds after which an adversary hangs up.
const ENOUGH: u64 = 40_000_000;
