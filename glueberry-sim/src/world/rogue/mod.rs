//! Peers that break the protocol: scripts that speak on the wire by themselves.

mod blame;
mod speech;
mod substreams;

use glueberry_proto::{Origin, Profile, ProtocolId};

use super::{Wake, World};
use crate::host::Flow;
use crate::link::{Side, Standing};
use crate::plan::Wires;
use crate::trick::Trick;

/// What a script knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Rogue {
    pub(crate) trick: Trick,
    profile: Profile,
    /// Of each substream that it has opened: what for.
    opened: Vec<(usize, Purpose)>,
    /// Substreams whose name is settled.
    named: Vec<usize>,
    /// The substream on which the protocol is broken for all to see, once that is written.
    offence: Option<usize>,
    /// It happens with the end of that.
    offends_by_end: bool,
    records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Handshake,
    Stream,
    Junk,
}

impl World {
    /// A rogue dials somebody to trick him.
    pub(super) fn begin_trick(&mut self, by: usize, to: usize, trick: Trick) {
        if !self.hosts[to].is_up() || self.hosts[to].is_rogue || by == to {
            return;
        }
        let link = self.connect_hosts(by, to, Origin::Accepted);
        let profile = self.common_profile(to);
        self.links[link].rogue = Some(Rogue::new(trick, profile));
    }

    fn common_profile(&self, to: usize) -> Profile {
        match self.plan.hosts[to].wires {
            Wires::Document | Wires::Both => Profile::V1,
            Wires::Go | Wires::BothGoFirst => Profile::V1Go,
        }
    }

    pub(super) fn rogue_arrives(&mut self, link: usize, side: Side) {
        let victim = self.links[link].ends[1 - side].host;
        if self.links[link].rogue.is_none() {
            // Somebody has dialled it.
            let trick = self.links[link].rng.pick(&PASSIVE);
            let profile = self.common_profile(victim);
            self.links[link].rogue = Some(Rogue::new(trick, profile));
        }
        self.links[link].ends[side].standing = Standing::Open;
        let Some(rogue) = &self.links[link].rogue else {
            return;
        };
        let trick = rogue.trick;
        self.faults.fire(trick.name());
        let hello = ProtocolId::Handshake(rogue.profile);
        if side == 0 && trick != Trick::UnknownStreams {
            self.rogue_open(link, side, hello, Purpose::Handshake);
        }
        if matches!(trick, Trick::Reflect | Trick::Deaf | Trick::Resetter | Trick::Refuser) {
            let to = self.links[link].ends[side].host;
            let (left, size, is_parked) = (2, 400, false);
            let flow =
                Flow { to, stream: 0, count: 10, burst: 2, left, size, every: 100_000, is_parked };
            self.begin_flow(victim, flow);
        }
        let soon = self.now + 10 * self.plan.net.delay + 100_000;
        self.queue.push(soon, Wake::Rogue(link, side, 0));
        self.queue.push(self.now + ESTABLISHED, Wake::Rogue(link, side, 1));
        self.queue.push(self.now + ENOUGH, Wake::Rogue(link, side, 2));
    }

    /// The next act: at once, after the handshake, at the end.
    pub(super) fn rogue_goes_on(&mut self, link: usize, side: Side, act: u64) {
        let Some(rogue) = self.links[link].rogue.clone() else {
            return;
        };
        if self.links[link].ends[side].standing != Standing::Open {
            return;
        }
        let stream = || self.streams[0].clone();
        let named = Profile::V1.stream_id(stream());
        match (act, rogue.trick) {
            (0, Trick::ManySubstreams) => {
                for _ in 0..70 {
                    self.rogue_open(link, side, named.clone(), Purpose::Junk);
                }
            }
            (0, Trick::UnknownStreams) => {
                for name in ["nobody", "knows", "these"] {
                    if let Ok(name) = glueberry_proto::StreamName::new(name) {
                        let id = Profile::V1.stream_id(name);
                        self.rogue_open(link, side, id, Purpose::Stream);
                    }
                }
            }
            (0, Trick::Early) => self.rogue_open(link, side, named, Purpose::Stream),
            (0, Trick::TwoProtocols) => {
                let other = match rogue.profile {
                    Profile::V1 => Profile::V1Go,
                    _ => Profile::V1,
                };
                self.rogue_open(link, side, ProtocolId::Handshake(other), Purpose::Junk);
            }
            (
                1,
                Trick::HugeFrame
                | Trick::BadRecords
                | Trick::Replay
                | Trick::ShortRecord
                | Trick::HalfFrame,
            ) => self.rogue_open(link, side, named, Purpose::Stream),
            (0, Trick::Hangup) | (2, _) => {
                self.links[link].ends[side].standing = Standing::Gone;
                self.hang_up(link, side, 0);
            }
            _ => {}
        }
    }
}

impl Rogue {
    const fn new(trick: Trick, profile: Profile) -> Self {
        Self {
            trick,
            profile,
            opened: Vec::new(),
            named: Vec::new(),
            offence: None,
            offends_by_end: false,
            records: 0,
        }
    }
}

/// What a rogue does to who dials it.
const PASSIVE: [Trick; 5] =
    [Trick::Silent, Trick::Refuser, Trick::Resetter, Trick::Deaf, Trick::Hangup];
/// Microseconds after which the handshake is over with all but the slowest applications.
const ESTABLISHED: u64 = 8_000_000;
/// Microseconds after which a rogue hangs up.
const ENOUGH: u64 = 40_000_000;
