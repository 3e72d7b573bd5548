//! Peers that break the protocol: scripts that speak on the wire by themselves.
//!
//! What each of them does, `trick.rs` says in a line. Here is when it does it; the other files have
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
use crate::host::Flow;
use crate::link::EndState;
use crate::plan::Wires;
use crate::run::Run;
use crate::script::{Offence, Purpose, Script};
use crate::trick::{PASSIVE, Trick};
use crate::wake::{Side, Wake};
use crate::world::World;

impl World {
    pub(in crate::world) fn adversary_arrives(&mut self, link: usize, side: Side) {
        let [by, victim] = [side, 1 - side].map(|side| self.net.links[link].ends[side].host);
        if self.net.links[link].script.is_none() {
            // Somebody has dialled it.
            let trick = self.adversary().planned_trick(by, victim);
            let trick = trick.unwrap_or_else(|| self.net.links[link].rng.pick(PASSIVE));
            self.adversary().run_script(link, victim, trick, false);
        }
        self.net.links[link].ends[side].state = EndState::Open;
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let (trick, send_hello) = (script.trick, ProtocolId::Handshake(script.profile));
        if side == 0 && shakes_hands(trick) {
            self.adversary().open(link, side, send_hello, Purpose::Handshake);
        }
        if is_talked_to(trick) {
            let (to, left, size, is_parked) = (by, 2, 400, false);
            let flow =
                Flow { to, stream: 0, count: 10, burst: 2, left, size, every: 100_000, is_parked };
            self.apps().begin_flow(victim, flow);
        }
        self.adversary().connected(link, side, trick);
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
    fn run_script(&mut self, link: usize, victim: usize, trick: Trick, is_second: bool) {
        let profile = self.profile_for(victim, trick);
        let spoils_handshake = self.net.links[link].rng.chance(400);
        self.net.links[link].script = Some(Script {
            trick,
            profile,
            opened: Vec::new(),
            named: Vec::new(),
            offence: None,
            sealed: 0,
            delivered: 0,
            is_done: false,
            is_second,
            spoils_handshake,
        });
    }

    /// Returns a profile that a host speaks, and in which a trick can be done if there is one.
    fn profile_for(&self, host: usize, trick: Trick) -> Profile {
        match self.run.plan.hosts[host].wires {
            Wires::Document => Profile::V1,
            Wires::Both if trick.is_possible(Profile::V1) => Profile::V1,
            Wires::Both | Wires::Go | Wires::BothGoFirst => Profile::V1Go,
        }
    }

    /// The next act: at once, after the handshake, some more of it, at the end.
    pub(in crate::world) fn act(&mut self, link: usize, side: Side, act: u64) {
        let Some(script) = &self.net.links[link].script else {
            return;
        };
        let (trick, is_second) = (script.trick, script.is_second);
        if self.net.links[link].ends[side].state != EndState::Open {
            return;
        }
        match act {
            OVER => self.leave(link, side),
            SOON => {
                self.during_handshake(link, side, trick);
                self.after_connecting(link, side, trick);
            }
            ESTABLISHED if is_second => {}
            ESTABLISHED => self.after_handshake(link, side, trick),
            round => self.round(link, side, trick, round - ROUNDS),
        }
    }

    /// While the handshake is held.
    fn during_handshake(&mut self, link: usize, side: Side, trick: Trick) {
        let (stream, profile) = (self.stream_id(0), self.profile(link));
        match trick {
            Trick::ManySubstreams => {
                for _ in 0..70 {
                    self.open(link, side, stream.clone(), Purpose::Junk);
                }
                self.net.count_trick(self.run, link);
            }
            Trick::Early | Trick::Hasty | Trick::NoHandshake => {
                self.open(link, side, stream, Purpose::Stream);
            }
            Trick::TwoProtocols => {
                let other = match profile {
                    Profile::V1 => Profile::V1Go,
                    _ => Profile::V1,
                };
                self.open(link, side, ProtocolId::Handshake(other), Purpose::Junk);
                self.net.count_trick(self.run, link);
            }
            Trick::SecondHandshake => {
                self.open(link, side, ProtocolId::Handshake(profile), Purpose::Junk);
                self.net.count_trick(self.run, link);
            }
            Trick::FutureProtocol => {
                self.open(link, side, ProtocolId::Handshake(Profile::V2), Purpose::Junk);
                self.net.count_trick(self.run, link);
            }
            Trick::UnknownStreams
            | Trick::LongStreamName
            | Trick::EmptyName
            | Trick::LongName
            | Trick::BinaryName
            | Trick::HalfName => self.name_badly(link, side, trick),
            Trick::NameBomb | Trick::CreepingNames | Trick::ProbeFlood => {
                self.again(link, side, trick, rounds(trick));
            }
            _ => {}
        }
    }

    /// Once the handshake is over, unless the peer takes its time.
    fn after_handshake(&mut self, link: usize, side: Side, trick: Trick) {
        let profile = self.profile(link);
        match trick {
            Trick::LateHandshake => {
                self.open(link, side, ProtocolId::Handshake(profile), Purpose::Junk);
                self.net.count_trick(self.run, link);
            }
            Trick::TalksOn => self.keep_talking_in_handshake(link, side),
            Trick::Quiet => self.net.count_trick(self.run, link),
            Trick::Churn | Trick::AbortedSubstreams => {
                self.again(link, side, trick, rounds(trick));
            }
            Trick::MuteProbes | Trick::FalseProbes => self.connect_beside(link, side, trick),
            Trick::Rejoiner => {
                self.net.count_trick(self.run, link);
                self.leave(link, side);
            }
            _ if payload::is_on_stream(trick) && !self.spoils_handshake(link, trick) => {
                self.open(link, side, self.stream_id(0), Purpose::Stream);
            }
            _ => {}
        }
        if trick == Trick::ReplayElsewhere {
            self.open(link, side, self.stream_id(1), Purpose::OtherStream);
        }
    }

    /// A trick that is done bit by bit goes on, so many times more.
    fn round(&mut self, link: usize, side: Side, trick: Trick, left: u64) {
        let done = rounds(trick).saturating_sub(left);
        match trick {
            Trick::NameBomb => self.bomb_names(link, side, done),
            Trick::CreepingNames => self.creep_names(link, side, done),
            Trick::CreepingFrame => self.creep(link, side),
            Trick::ProbeFlood => {
                for _ in 0..10 {
                    self.open(link, side, ProtocolId::Probe, Purpose::Junk);
                }
                self.net.count_trick(self.run, link);
            }
            Trick::Churn | Trick::AbortedSubstreams => self.churn(link, side, trick),
            _ => return,
        }
        if left > 1 && !self.run.is_calm {
            self.again(link, side, trick, left - 1);
        }
    }

    /// Has another round come, of so many.
    fn again(&mut self, link: usize, side: Side, trick: Trick, left: u64) {
        let pause = match trick {
            Trick::CreepingNames | Trick::CreepingFrame => 1_000_000,
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

    /// Returns whether it is the handshake substream on which this trick is done.
    fn spoils_handshake(&self, link: usize, trick: Trick) -> bool {
        let is_either = frames::can_be_in_handshake(trick) || trick == Trick::TwoProtocols;
        is_either
            && self.net.links[link].script.as_ref().is_some_and(|script| script.spoils_handshake)
    }
}

/// Returns whether an adversary that dials opens a handshake.
const fn shakes_hands(trick: Trick) -> bool {
    !matches!(
        trick,
        Trick::NoHandshake
            | Trick::IdleDuplicates
            | Trick::PendingDial
            | Trick::HeldBack
            | Trick::WrongAnswer
    )
}

/// Returns whether the peer has something to say to an adversary, or the trick would be none.
const fn is_talked_to(trick: Trick) -> bool {
    matches!(
        trick,
        Trick::Reflect
            | Trick::NeverReads
            | Trick::Resetter
            | Trick::Refuser
            | Trick::Stopper
            | Trick::HalfCloser
            | Trick::Unanswering
    )
}

/// How often a trick that is done bit by bit goes on.
const fn rounds(trick: Trick) -> u64 {
    match trick {
        Trick::NameBomb | Trick::ProbeFlood => 12,
        Trick::CreepingFrame => 25,
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
