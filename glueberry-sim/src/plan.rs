//! What a run consists of: every decision above the single draw of a delay, as a value.
//!
//! A seed gives a plan (`generate.rs`) and a plan gives a run. Replay, shrinking and regressions
//! work on the plan, never on the seed: a step that is taken out leaves all others as they were.

use glueberry_proto::StreamName;
use serde::{Deserialize, Serialize};

use crate::attack::Attack;
use crate::profiles::Wires;
use crate::talk::Talk;

mod limits;

pub(crate) use self::limits::{Limits, MoreLimits};

/// All that decides a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Feeds the draws that no step decides.
    pub(crate) seed: u64,
    pub(crate) profile: Mix,
    pub(crate) hosts: Vec<HostPlan>,
    pub(crate) net: Net,
    pub(crate) limits: Limits,
    /// When faults stop, in microseconds.
    pub(crate) calm_from: u64,
    /// Cryptography is real, and not only as strict as the real one.
    pub(crate) is_real: bool,
    pub(crate) steps: Vec<Step>,
}

/// Which kinds of steps a run is mixed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mix {
    /// Traffic and all faults, a different choice of them per seed.
    Default,
    /// Many nodes that mostly connect, part and meet again.
    Lifecycle,
    /// Messages on a network that mostly works.
    Traffic,
    /// Nothing goes wrong, so that nothing may be lost.
    Calm,
    /// Peers that break the protocol.
    Hostile,
    /// All faults but those of single substreams, over connections that are one ordered pipe each.
    Pipe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPlan {
    /// Which of the fixed identities it has; their keys are in no order.
    pub(crate) identity: u16,
    pub(crate) wires: Wires,
    pub(crate) handshake_style: HandshakeStyle,
    /// It runs no node, but scripts that break the protocol.
    pub(crate) is_adversary: bool,
    /// Streams that its application never prepares, as bits.
    #[serde(default)]
    pub(crate) skips: u8,
    #[serde(default)]
    pub(crate) talk: Talk,
}

/// How a host's application holds the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HandshakeStyle {
    /// Prepares and finalizes at once.
    Prompt,
    /// Prepares when it receives a greeting, finalizes when it learns that the peer is prepared.
    Polite,
    /// As polite, but each time after so many microseconds.
    Slow(u64),
}

/// The network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Net {
    pub(crate) naming: NamingMode,
    /// Least one-way delay in microseconds.
    pub(crate) delay: u64,
    /// What is added to it, on average, in microseconds.
    pub(crate) jitter: u64,
    pub(crate) family: Family,
    /// Bytes per second and direction of a connection; zero for any number.
    pub(crate) bandwidth: u64,
    /// Bytes that a substream holds in one direction.
    pub(crate) window: usize,
    pub(crate) cuts: Cuts,
    /// Silence after which the transport gives a connection up, in microseconds.
    pub(crate) idle: u64,
    /// A transport acknowledges what the peer has read, and not only what has reached it.
    pub(crate) acknowledges_reads: bool,
    /// Most microseconds that a message between a node and its sessions takes.
    pub(crate) message_delay: u64,
    /// The substreams of each connection share a pipe, by the core's mux.
    #[serde(default)]
    pub(crate) pipe: Option<Pipe>,
}

/// One ordered pipe of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pipe {
    /// Bytes that it holds in one direction.
    pub(crate) holds: usize,
    /// Most bytes of a substream in a frame of the mux.
    pub(crate) max_frame: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamingMode {
    Negotiated,
    Preamble,
    /// Each connection one or the other.
    Either,
}

/// How delays are distributed above their least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Family {
    Constant,
    Uniform,
    Exponential,
    /// One in twenty is ten times as long.
    Bimodal,
}

/// How bytes are cut into what arrives at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cuts {
    Whole,
    /// Pieces of up to so many bytes.
    UpTo(u64),
    /// Single bytes at the beginning of a chunk, then the rest.
    Crumbs,
}

/// Something that happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    /// In microseconds from the start.
    pub(crate) at: u64,
    pub(crate) what: What,
}

/// What an application does, or what goes wrong. Times are microseconds, hosts are indices, and
/// `hosts` is a set of them as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    // What applications do.
    /// A host wants to be connected to another from now on.
    Want { by: usize, of: usize },
    /// A host disconnects another, and connects again after a while if it wants it.
    Disconnect { by: usize, of: usize },
    /// A host sends messages: `burst` of them, `count` times.
    Send { from: usize, to: usize, stream: usize, count: u64, burst: u64, size: u64, every: u64 },
    // What goes wrong.
    /// Nothing passes between `hosts` and the others, or only towards them.
    Partition { hosts: u64, one_way: bool, lasts: u64 },
    /// Nothing passes between two hosts, for a moment, several times.
    Flap { a: usize, b: usize, times: u64, every: u64 },
    /// Delays of a host's connections are so many times as long.
    Spike { host: usize, factor: u64, lasts: u64 },
    /// The connections between two hosts are reset, and what was on its way is gone.
    Reset { a: usize, b: usize },
    /// The next substream that carries bytes from one host to another breaks after so many.
    Break { from: usize, to: usize, after: u64 },
    /// Somebody between two hosts alters what one says to the other by v2, after so many more bytes.
    Tamper { from: usize, to: usize, after: u64, how: Tampering },
    /// No bytes arrive at a host from another, while the connection lives on.
    Stall { from: usize, to: usize, lasts: u64 },
    /// A host is killed after so many more inputs of its machines, and started again.
    Crash { host: usize, inputs: u64, down: u64, disk: Disk },
    /// A host stops for a while.
    Pause { host: usize, lasts: u64 },
    /// A host's wall clock jumps by so many microseconds.
    Clock { host: usize, by: i64 },
    /// A host's application takes one message each so often, or none for a while if that is zero.
    Sluggish { host: usize, every: u64, lasts: u64 },
    /// A host's application doesn't take its node's events for a while.
    Absent { host: usize, lasts: u64 },
    /// An application calls anything, in any order.
    CallBurst { host: usize, calls: u64 },
    /// The task of a session dies.
    Drop { host: usize },
    /// An address leads to another host.
    Mislead { host: usize, to: usize, lasts: u64 },
    /// Connections come about that no host dialled.
    Uninvited { a: usize, b: usize, count: u64 },
    /// A host bans another, for ever or by its wall clock, and lifts the ban after a while.
    Ban { by: usize, of: usize, by_clock: bool, lasts: u64 },
    /// A host's disk is full.
    FullDisk { host: usize, lasts: u64 },
    /// Dials of a host fail.
    Refuse { host: usize, lasts: u64 },
    /// An adversary does one of its attacks to a host.
    Attack { by: usize, to: usize, attack: Attack },
}

/// How sealed bytes are altered on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tampering {
    /// A bit is flipped.
    Flip,
    /// Some bytes are taken out.
    Drop,
    /// They come twice.
    Repeat,
    /// What was said before, perhaps on another substream or connection, comes in their place.
    Replay,
    /// What the other side has said comes in their place.
    Reflect,
}

/// What is left of a host's disk after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Disk {
    Intact,
    Stale,
    Lost,
    Torn,
    Flipped,
}

impl What {
    /// Returns the hosts that a step is about, but for those of a partition.
    pub(crate) fn hosts(&self) -> Vec<usize> {
        match *self {
            Self::Want { by, of } | Self::Disconnect { by, of } | Self::Ban { by, of, .. } => {
                vec![by, of]
            }
            Self::Send { from, to, .. }
            | Self::Break { from, to, .. }
            | Self::Tamper { from, to, .. }
            | Self::Stall { from, to, .. } => vec![from, to],
            Self::Flap { a, b, .. } | Self::Reset { a, b } | Self::Uninvited { a, b, .. } => {
                vec![a, b]
            }
            Self::Attack { by, to, .. } => vec![by, to],
            Self::Mislead { host, to, .. } => vec![host, to],
            Self::Partition { .. } => Vec::new(),
            Self::Spike { host, .. }
            | Self::Crash { host, .. }
            | Self::Pause { host, .. }
            | Self::Clock { host, .. }
            | Self::Sluggish { host, .. }
            | Self::Absent { host, .. }
            | Self::CallBurst { host, .. }
            | Self::Drop { host }
            | Self::FullDisk { host, .. }
            | Self::Refuse { host, .. } => vec![host],
        }
    }

    /// Returns whether nothing goes wrong by it.
    pub(crate) const fn is_wish(&self) -> bool {
        matches!(self, Self::Want { .. } | Self::Send { .. } | Self::Disconnect { .. })
    }
}

impl Plan {
    /// Reads a plan that was stored, and makes sure that it can be run.
    ///
    /// # Errors
    ///
    /// If it is none, or names hosts, streams or identities that there are not.
    pub(crate) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let plan: Self = serde_json::from_str(text)?;
        match plan.flaw() {
            None => Ok(plan),
            Some(flaw) => Err(serde::de::Error::custom(flaw)),
        }
    }

    /// Says why a plan can't be run, if it can't.
    fn flaw(&self) -> Option<&'static str> {
        let count = self.hosts.len();
        let is_named = |step: &Step| step.what.hosts().into_iter().all(|host| host < count);
        let is_stream = |step: &Step| match step.what {
            What::Send { stream, .. } => stream < STREAMS.len(),
            _ => true,
        };
        if !(2..=MAX_HOSTS).contains(&count) {
            Some("a run has 2 to 1024 hosts")
        } else if !self.steps.iter().all(is_named) {
            Some("a step is about a host that there is not")
        } else if !self.steps.iter().all(is_stream) {
            Some("a step is about a stream that there is not")
        } else if self.config(0).check().is_err() {
            Some("its limits are no valid configuration")
        } else if self.net.pipe.is_some() && !self.suits_pipe() {
            Some("one pipe has names in preambles, a valid mux, and no adversaries")
        } else {
            None
        }
    }

    /// Returns whether two hosts have a wire profile in common.
    pub(crate) fn can_talk(&self, a: usize, b: usize) -> bool {
        let [ours, theirs] = [a, b].map(|host| self.hosts[host].wires.profiles());
        ours.iter().any(|profile| theirs.contains(profile))
    }

    /// Returns how long a session of v2 may take to end, in microseconds: it drains, says the last thing
    /// and hears the peer's.
    pub(crate) const fn time_to_end(&self) -> u64 {
        2 * self.limits.drain_timeout + ANSWER + FLUSH
    }

    /// Returns how long after the last fault every wanted pair must be Established, in
    /// microseconds.
    ///
    /// One round may be lost to each of: a connection that is dead and not yet noticed; a dial
    /// that are not answered; a handshake that comes to nothing, and its cooldown; a refusal after a
    /// disconnect. Then one attempt succeeds. Between two of them the node or its application
    /// waits.
    pub(crate) fn settling_time(&self) -> u64 {
        let (limits, net) = (&self.limits, &self.net);
        let round_trip = 2 * self.longest_delay();
        let wait = limits.backoff.max(2 * limits.retry);
        let attempt = limits.dial_timeout + limits.handshake_timeout + 2 * wait;
        net.idle
            + 2 * attempt
            + limits.negotiation_timeout
            + limits.cooldown
            + limits.refusal
            + self.time_to_end()
            + 2 * limits.more.probe_timeout
            + 16 * round_trip
    }

    /// Returns how long after a shutdown nothing may be left, in microseconds.
    pub(crate) fn time_to_stop(&self) -> u64 {
        let limits = &self.limits;
        let net = &self.net;
        self.time_to_end()
            + limits.cooldown.max(limits.refusal)
            + net.idle
            + 8 * self.longest_delay()
            + 3 * limits.more.disk_delay
            + 1_000_000
    }

    /// Returns a delay that practically none exceeds, in microseconds.
    pub(crate) fn longest_delay(&self) -> u64 {
        self.net.delay + 20 * self.net.jitter + self.net.message_delay
    }
}

/// Returns the names of the streams that every node serves.
pub(crate) fn stream_names() -> Vec<StreamName> {
    STREAMS.iter().filter_map(|name| StreamName::new(name).ok()).collect()
}

/// Streams of a program, at most.
pub(crate) const MAX_STREAMS: usize = 8;
/// Microseconds for which the peer that ends a session of v2 is still heard.
pub(crate) const ANSWER: u64 = 3_000_000;
/// Microseconds for which the last that is said in a session of v2 goes out.
const FLUSH: u64 = 1_000_000;
/// The streams that applications talk on.
pub(crate) const STREAMS: [&str; 3] = ["chat", "blocks", "state"];

/// Hosts that a set of bits can hold.
pub(crate) const MAX_HOSTS: usize = 1024;
