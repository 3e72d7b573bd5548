//! The limits of every node, and the configuration that they make.

use std::time::Duration;

use glueberry_proto::{Config, Profile, Suite};
use serde::{Deserialize, Serialize};

use super::{Plan, stream_names};
use crate::profiles::{Wires, padding};

/// Limits of every node, where they differ from the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) high_watermark: usize,
    pub(crate) receive_queue: usize,
    pub(crate) receive_queue_bytes: usize,
    pub(crate) max_message_size: usize,
    pub(crate) max_dials: usize,
    pub(crate) max_sessions: usize,
    /// In microseconds, as all that follow.
    pub(crate) dial_timeout: u64,
    pub(crate) handshake_timeout: u64,
    pub(crate) negotiation_timeout: u64,
    pub(crate) drain_timeout: u64,
    pub(crate) cooldown: u64,
    pub(crate) refusal: u64,
    /// How long an application waits before it connects again; up to twice that.
    pub(crate) retry: u64,
    /// Longest wait of a node before it connects again.
    pub(crate) backoff: u64,
    /// How often a node connects again; zero for as often as it takes.
    pub(crate) attempts: u32,
    /// A node connects to all that it knows.
    pub(crate) autoconnect: bool,
    /// Limits that plans stored earlier leave at their defaults.
    #[serde(default)]
    pub(crate) more: MoreLimits,
}

/// Limits of every node that were not varied at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MoreLimits {
    pub(crate) high_watermark_bytes: usize,
    /// Low watermarks of queues, in thousandths of the high ones.
    pub(crate) low_share: usize,
    /// Current sessions down to which, and above which, sessions are pruned.
    pub(crate) sessions_low: usize,
    pub(crate) sessions_high: usize,
    /// Hosts that all others protect from being pruned, as bits.
    pub(crate) protected: u64,
    pub(crate) max_parked: usize,
    /// How records of v2 are padded: to a multiple of so many bytes, or by Padmé if that is one.
    pub(crate) padding: u16,
    /// Bytes of each message of a handshake.
    pub(crate) word: usize,
    pub(crate) max_handshake_size: usize,
    pub(crate) max_substreams: usize,
    pub(crate) stream_attempts: u32,
    /// In microseconds, as all that follow.
    pub(crate) settle_time: u64,
    pub(crate) probe_timeout: u64,
    /// A session that has lasted so long makes the count of attempts begin anew.
    pub(crate) stable_after: u64,
    pub(crate) retry_delay: u64,
    /// Most that it takes to store a book.
    pub(crate) disk_delay: u64,
}

impl Default for MoreLimits {
    fn default() -> Self {
        Self {
            high_watermark_bytes: 8 << 20,
            low_share: 500,
            sessions_low: 100,
            sessions_high: 400,
            protected: 0,
            max_parked: 4,
            padding: 0,
            word: 24,
            max_handshake_size: 64 << 10,
            max_substreams: 64,
            stream_attempts: 10,
            settle_time: 1_000_000,
            probe_timeout: 3_000_000,
            stable_after: 60_000_000,
            retry_delay: 100_000,
            disk_delay: 50_000,
        }
    }
}

impl Limits {
    /// Returns the messages and the bytes at which a full queue accepts again.
    pub(crate) const fn low_watermarks(&self) -> (usize, usize) {
        let share = self.more.low_share;
        (self.high_watermark * share / 1000, self.more.high_watermark_bytes * share / 1000)
    }
}

impl Plan {
    /// Returns the configuration of a host.
    pub(crate) fn config(&self, host: usize) -> Config {
        let limits = &self.limits;
        let mut config = Config::default();
        let wires = self.hosts[host].wires;
        if wires == Wires::V2 {
            config.min_profile = Profile::V2;
        }
        config.profiles = match wires {
            // The floor takes out the others.
            Wires::V2 => Wires::All.profiles().to_vec(),
            other => other.profiles().to_vec(),
        };
        // Whatever else the build has: a seed gives the same run in each.
        config.suites = vec![Suite::ChaCha20Poly1305];
        config.padding = padding(limits.more.padding);
        config.streams = stream_names();
        config.high_watermark = limits.high_watermark;
        config.receive_queue = limits.receive_queue;
        config.receive_queue_bytes = limits.receive_queue_bytes;
        config.max_message_size = limits.max_message_size;
        config.max_dials = limits.max_dials;
        config.max_sessions = limits.max_sessions;
        config.dial_timeout = Duration::from_micros(limits.dial_timeout);
        config.handshake_timeout = Duration::from_micros(limits.handshake_timeout);
        config.negotiation_timeout = Duration::from_micros(limits.negotiation_timeout);
        config.drain_timeout = Duration::from_micros(limits.drain_timeout);
        config.cooldown = Duration::from_micros(limits.cooldown);
        config.refuse_after_disconnect = Duration::from_micros(limits.refusal);
        config.reconnect.initial_backoff = Duration::from_micros(limits.backoff.min(1_000_000));
        config.reconnect.max_backoff = Duration::from_micros(limits.backoff);
        config.reconnect.max_attempts = Some(limits.attempts).filter(|most| *most > 0);
        config.autoconnect = limits.autoconnect;
        let more = &limits.more;
        config.high_watermark_bytes = more.high_watermark_bytes;
        (config.low_watermark, config.low_watermark_bytes) = limits.low_watermarks();
        (config.sessions_low, config.sessions_high) = (more.sessions_low, more.sessions_high);
        config.max_parked = more.max_parked;
        config.retry_delay = Duration::from_micros(more.retry_delay);
        config.max_handshake_size = match self.hosts[host].talk.room {
            0 => more.max_handshake_size,
            room => room,
        };
        config.max_substreams = more.max_substreams;
        config.max_streams = config.max_streams.min(more.max_substreams / 2);
        config.max_stream_attempts = more.stream_attempts;
        config.settle_time = Duration::from_micros(more.settle_time);
        config.probe_timeout = Duration::from_micros(more.probe_timeout);
        config.stable_after = Duration::from_micros(more.stable_after);
        config
    }
}
