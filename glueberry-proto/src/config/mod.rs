//! The configuration of a node and of its sessions: every limit, with its unit and its reason.

#[cfg(feature = "serde")]
pub mod duration;
mod error;
mod reconnect;

use core::time::Duration;

pub use self::error::{ConfigError, Problem};
pub use self::reconnect::ReconnectPolicy;
use crate::book;
use crate::prelude::*;
use crate::v2::{Padding, Suite};
use crate::wire::{Profile, StreamName};

/// The limits and timeouts of a [`Node`](crate::Node) and its sessions.
///
/// A plain value with the defaults of the architecture document: the value in the text of a field, such as
/// `60 s`, is its default. [`Node::new`](crate::Node::new)
/// checks it and takes it over: the configuration of a running node does not change.
///
/// With the feature `serde` it can be read from a file. A missing field has its default, an unknown
/// one is an error, and times are written like `1m 30s` or `250ms`.
///
/// ```
/// use glueberry_proto::Config;
///
/// let mut config = Config::default();
/// config.max_message_size = 64 * 1024;
/// assert!(config.check().is_ok());
/// config.low_watermark = config.high_watermark;
/// assert_eq!(config.check().unwrap_err().field, "low_watermark");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Config {
    /// Wire profiles that this node supports, in the order in which a dialler offers them. v2, v1,
    /// v1-go.
    pub profiles: Vec<Profile>,
    /// The lowest profile of a session: v1-go is below v1, and v1 below v2. Profiles in
    /// [`profiles`](Self::profiles) that are below it are neither offered nor accepted. v1-go, so all are
    /// allowed.
    pub min_profile: Profile,
    /// Time for which a peer in the address book that has spoken v2 is held to it, renewed by each
    /// session of v2. 90 days. Until it is over no session of an earlier profile begins with the peer:
    /// such an attempt ends with [`CloseReason::Downgrade`](crate::CloseReason::Downgrade).
    /// [`Node::clear_pin`](crate::Node::clear_pin) ends it for a peer. Zero: no peer is held to v2, not
    /// even one of which the book says so. It has no effect unless [`profiles`](Self::profiles) has v2.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub pin_time: Duration,
    /// Whether the processor has instructions for AES and for carry-less multiplication, so that v2
    /// may offer AES-256-GCM. False: only an adapter can know, and glueberry-tokio sets it. What seals
    /// must have it too, see [`Aead::aes_256_gcm`](crate::crypto::Aead::aes_256_gcm).
    pub hardware_aes: bool,
    /// Cipher suites that v2 may use; the best that both sides have is chosen, whatever the order. All. A
    /// node of which none is available, for want of instructions or of features, is not made.
    pub suites: Vec<Suite>,
    /// How the lengths of what is sent in v2 are hidden. [`Padding::None`].
    pub padding: Padding,
    /// The name of the network that the node belongs to, at most 1024 bytes. Empty. In v2, nodes with
    /// different names have no session with each other.
    pub network: String,
    /// Names of the streams that peers may open. A substream of one of them that arrives before
    /// `prepare_streams` waits unread. Other names are refused until they are prepared.
    pub streams: Vec<StreamName>,
    /// Largest message in bytes, sent or received, on a named stream. 10 MiB.
    pub max_message_size: usize,
    /// Largest handshake message, and the sum of all that a session holds in each direction, in
    /// bytes. 64 KiB: the peer has proven nothing yet. In v2 none that is longer than 64 KiB can be
    /// sent, and every one up to that is received.
    pub max_handshake_size: usize,
    /// Messages queued per stream and peer at which `send` returns backpressure. 1000.
    pub high_watermark: usize,
    /// Messages to which a queue must drain before `send` accepts again. 500.
    pub low_watermark: usize,
    /// Bytes queued per stream and peer at which `send` returns backpressure. 8 MiB. The message
    /// that reaches the mark is still accepted.
    pub high_watermark_bytes: usize,
    /// Bytes to which a queue must drain before `send` accepts again. 4 MiB.
    pub low_watermark_bytes: usize,
    /// Received messages held per stream until the application takes them. 1000. Beyond it the
    /// substream is not read, so that the transport's flow control slows the sender.
    pub receive_queue: usize,
    /// Received bytes held per stream until the application takes them. 1 MiB. One message is
    /// always admitted to an empty queue.
    pub receive_queue_bytes: usize,
    /// Bytes that all peers together make a node hold: parts of messages, messages that the
    /// application has not taken, what ended sessions have left, and windows. 256 MiB.
    ///
    /// The adapter keeps the account, because the sessions live in tasks of their own; the core
    /// bounds each session. Where it is full, substreams are not read. Strangers have half of it.
    pub node_memory: usize,
    /// Bytes of [`node_memory`](Self::node_memory) that one peer may have, over all its sessions.
    /// 32 MiB. See [`memory_limits`](Self::memory_limits).
    pub peer_memory: usize,
    /// Time for a message to arrive, and a second more for each 64 KiB of it. 60 s. If it takes
    /// longer, its substream is reset.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub message_timeout: Duration,
    /// Substreams of configured names that wait for `prepare_streams` in a session. 4. Further ones
    /// are refused, and a peer that runs this library proposes them again.
    pub max_parked: usize,
    /// Named streams per session. 32.
    pub max_streams: usize,
    /// Substreams of all kinds that each side may have open at once in a session. 64: one per
    /// stream, one for the handshake, and as many again that are ending. 65,536 at most.
    pub max_substreams: usize,
    /// Time for a substream to be negotiated, for the peer to open its own handshake substream once
    /// it has refused ours, and for a peer that has dialled to open one at all. 10 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub negotiation_timeout: Duration,
    /// Wait before a refused or broken substream is opened again; doubles up to
    /// [`negotiation_timeout`](Self::negotiation_timeout). 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub retry_delay: Duration,
    /// Times that a stream is proposed to a peer that refuses it, before its messages are returned
    /// as unsent. 10. A peer whose handshake is known to be over is asked once.
    pub max_stream_attempts: u32,
    /// Time that written messages are kept in case their substream breaks: to a Go node, because it
    /// may reset our substream in favour of its own, and in v2. 1 s. They are then sent again unchanged; a peer that runs this library recognises
    /// those that it has read, and delivers none twice.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub settle_time: Duration,
    /// Time that a closing session waits for the transport to take and acknowledge what was
    /// queued. 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub drain_timeout: Duration,
    /// Records that fail to open before the session ends. 16.
    pub max_rejected_records: u32,
    /// Time for a dial to succeed, on all addresses together. 30 s. A transport that gets no answer
    /// may give up sooner: raw QUIC does after as much silence as makes a connection lost.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub dial_timeout: Duration,
    /// Time from Connected to Established. 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub handshake_timeout: Duration,
    /// Time after a failed handshake in which there is no session with the peer. 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub cooldown: Duration,
    /// Time after a local disconnect in which connections from the peer are refused. 30 s. Without
    /// it the peer's automatic reconnection would undo the disconnect.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub refuse_after_disconnect: Duration,
    /// Time for which a session must be Established to reset the count of reconnection attempts.
    /// 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub stable_after: Duration,
    /// Time for a session to prove that it is alive after its peer has connected again. 3 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub probe_timeout: Duration,
    /// When a lost peer is dialled again. A policy per peer overrides it.
    pub reconnect: ReconnectPolicy,
    /// Whether peers are dialled as soon as they are added. False. See also
    /// [`Node::autoconnect`](crate::Node::autoconnect).
    pub autoconnect: bool,
    /// Longest time before a peer's last-seen time is stored. 30 s. All other changes of the address book
    /// are stored at once.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub book_flush_interval: Duration,
    /// Bytes of all keys and values of a peer's metadata. 4096.
    pub max_metadata_size: usize,
    /// Bytes of an address book that is read or written. 64 MiB.
    pub max_book_size: usize,
    /// Dials at one time. 16. Further dials wait in a queue, in which those that the application
    /// asks for go first.
    pub max_dials: usize,
    /// Connected peers down to which strangers are pruned that have not become Established within
    /// [`negotiation_timeout`](Self::negotiation_timeout). 100. No other peer is pruned below
    /// [`sessions_high`](Self::sessions_high).
    pub sessions_low: usize,
    /// Connected peers above which sessions are pruned. 400.
    ///
    /// A *stranger* is a peer that has dialled this node, is not in the address book, and is not
    /// [protected](crate::Node::protect). Pruned first are strangers that are not Established, of
    /// these the oldest; then strangers that are, the youngest first; then peers in the book, then
    /// those that were dialled; and no more than are too many. Protected peers stay. A peer that
    /// was pruned may come back at once.
    pub sessions_high: usize,
    /// Sessions at one time. 512: [`sessions_high`](Self::sessions_high),
    /// [`max_pending_sessions`](Self::max_pending_sessions) and
    /// [`reserved_sessions`](Self::reserved_sessions).
    ///
    /// Strangers never take the places of others: sessions of theirs are ended as soon as a peer
    /// in the book, a dialled or a protected one needs the place. Sessions that end because of that
    /// may for a moment exist beyond this number.
    pub max_sessions: usize,
    /// Sessions of [`max_sessions`](Self::max_sessions) that strangers cannot take, at most half of them.
    /// 48.
    pub reserved_sessions: usize,
    /// Sessions with strangers that are not current: no handshake substream is agreed yet, or they
    /// wait for another to end. 64. A further one ends the oldest of them.
    pub max_pending_sessions: usize,
    /// Sessions at one time with one peer, until one of them is chosen. 4.
    pub max_sessions_per_peer: usize,
    /// Sessions that one peer may open in a minute, or at once. 60.
    pub max_sessions_per_minute: usize,
    /// Peers that a node holds addresses or state for. 10,000. If there are as many, strangers of
    /// which only a cooldown or a refusal is remembered are forgotten first.
    pub max_peers: usize,
    /// Peers of which nothing is known but a ban, beside [`max_peers`](Self::max_peers). 10,000. A further
    /// ban lifts the ban of the peer that was seen the longest time ago.
    pub max_bans: usize,
    /// Addresses held per peer. 16.
    pub max_addresses: usize,
    /// Events that a node holds until they are polled. While the queue is full no session is
    /// admitted and no dial starts. 1024.
    pub event_queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::V2, Profile::V1, Profile::V1Go],
            min_profile: Profile::V1Go,
            pin_time: Duration::from_secs(90 * 24 * 60 * 60),
            hardware_aes: false,
            suites: Suite::RANKED.to_vec(),
            padding: Padding::None,
            network: String::new(),
            streams: Vec::new(),
            max_message_size: 10 * MIB,
            max_handshake_size: 64 * KIB,
            high_watermark: 1000,
            low_watermark: 500,
            high_watermark_bytes: 8 * MIB,
            low_watermark_bytes: 4 * MIB,
            receive_queue: 1000,
            receive_queue_bytes: MIB,
            node_memory: 256 * MIB,
            peer_memory: 32 * MIB,
            message_timeout: Duration::from_secs(60),
            max_parked: 4,
            max_streams: 32,
            max_substreams: 64,
            negotiation_timeout: Duration::from_secs(10),
            retry_delay: Duration::from_millis(100),
            max_stream_attempts: 10,
            settle_time: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(5),
            max_rejected_records: 16,
            dial_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(60),
            cooldown: Duration::from_secs(60),
            refuse_after_disconnect: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
            probe_timeout: Duration::from_secs(3),
            reconnect: ReconnectPolicy::default(),
            autoconnect: false,
            book_flush_interval: Duration::from_secs(30),
            max_metadata_size: 4 * KIB,
            max_book_size: 64 * MIB,
            max_dials: 16,
            sessions_low: 100,
            sessions_high: 400,
            max_sessions: 512,
            reserved_sessions: 48,
            max_pending_sessions: 64,
            max_sessions_per_peer: 4,
            max_sessions_per_minute: 60,
            max_peers: 10_000,
            max_bans: 10_000,
            max_addresses: 16,
            event_queue: 1024,
        }
    }
}

impl Config {
    /// Checks each field, and the relations between fields.
    ///
    /// # Errors
    ///
    /// Names the first field at fault, and why.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_counts()?;
        self.check_times()?;
        let rules = [
            (self.max_streams < self.max_substreams, "max_streams", "max_substreams"),
            (self.low_watermark < self.high_watermark, "low_watermark", "high_watermark"),
            (self.sessions_low < self.sessions_high, "sessions_low", "sessions_high"),
            (
                self.low_watermark_bytes < self.high_watermark_bytes,
                "low_watermark_bytes",
                "high_watermark_bytes",
            ),
        ];
        for (holds, field, than) in rules {
            if !holds {
                return Err(ConfigError { field, problem: Problem::NotBelow(than) });
            }
        }
        self.reconnect.check()?;
        if self.network.len() > MAX_NETWORK {
            let problem = Problem::Unusable("it has more than 1024 bytes");
            return Err(ConfigError { field: "network", problem });
        }
        if self.profiles.is_empty() {
            return Err(ConfigError { field: "profiles", problem: Problem::Empty });
        }
        if self.suites.is_empty() {
            return Err(ConfigError { field: "suites", problem: Problem::Empty });
        }
        if self.allowed_profiles().next().is_none() {
            let problem = Problem::NoneReaches("min_profile");
            return Err(ConfigError { field: "profiles", problem });
        }
        if self.max_message_size > MAX_MESSAGE {
            return Err(ConfigError { field: "max_message_size", problem: Problem::AboveWire });
        }
        if self.max_substreams > MAX_SUBSTREAMS {
            let problem = Problem::Unusable("it is more than 65,536");
            return Err(ConfigError { field: "max_substreams", problem });
        }
        if self.streams.len() > self.max_streams {
            return Err(ConfigError { field: "streams", problem: Problem::Above("max_streams") });
        }
        Ok(())
    }

    /// Returns those of [`profiles`](Self::profiles) that reach [`min_profile`](Self::min_profile), in
    /// their order: the ones that are offered and accepted.
    pub fn allowed_profiles(&self) -> impl Iterator<Item = Profile> {
        self.profiles.iter().copied().filter(|profile| profile.reaches(self.min_profile))
    }

    /// True if peers that have spoken v2 are held to it.
    pub(crate) fn pins(&self) -> bool {
        !self.pin_time.is_zero() && self.profiles.contains(&Profile::V2)
    }

    /// Returns the limits of the address book.
    pub fn book_limits(&self) -> book::Limits {
        book::Limits {
            max_entries: self.max_peers,
            max_bans: self.max_bans,
            max_addresses: self.max_addresses,
            max_metadata: self.max_metadata_size,
            max_file: self.max_book_size,
        }
    }

    /// Returns how many places strangers never have.
    pub(crate) fn reserved_places(&self) -> usize {
        self.reserved_sessions.min(self.max_sessions / 2)
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        let counts = [
            ("max_message_size", self.max_message_size),
            ("max_handshake_size", self.max_handshake_size),
            ("high_watermark", self.high_watermark),
            ("high_watermark_bytes", self.high_watermark_bytes),
            ("receive_queue", self.receive_queue),
            ("receive_queue_bytes", self.receive_queue_bytes),
            ("node_memory", self.node_memory),
            ("peer_memory", self.peer_memory),
            ("max_parked", self.max_parked),
            ("max_streams", self.max_streams),
            ("max_substreams", self.max_substreams),
            ("max_dials", self.max_dials),
            ("max_sessions", self.max_sessions),
            ("max_pending_sessions", self.max_pending_sessions),
            ("max_sessions_per_minute", self.max_sessions_per_minute),
            ("max_book_size", self.max_book_size),
            ("sessions_low", self.sessions_low),
            ("max_sessions_per_peer", self.max_sessions_per_peer),
            ("max_peers", self.max_peers),
            ("max_bans", self.max_bans),
            ("max_addresses", self.max_addresses),
            ("event_queue", self.event_queue),
            ("max_stream_attempts", usize::try_from(self.max_stream_attempts).unwrap_or(1)),
            ("max_rejected_records", usize::try_from(self.max_rejected_records).unwrap_or(1)),
        ];
        match counts.into_iter().find(|(_, value)| *value == 0) {
            Some((field, _)) => Err(ConfigError { field, problem: Problem::Zero }),
            None => Ok(()),
        }
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        let times = [
            ("negotiation_timeout", self.negotiation_timeout),
            ("retry_delay", self.retry_delay),
            ("settle_time", self.settle_time),
            ("drain_timeout", self.drain_timeout),
            ("dial_timeout", self.dial_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("message_timeout", self.message_timeout),
            ("probe_timeout", self.probe_timeout),
            ("book_flush_interval", self.book_flush_interval),
        ];
        match times.into_iter().find(|(_, value)| value.is_zero()) {
            Some((field, _)) => Err(ConfigError { field, problem: Problem::Zero }),
            None => Ok(()),
        }
    }
}

/// QUIC implementations keep something for each stream that the peer may open.
const MAX_SUBSTREAMS: usize = 1 << 16;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Go nodes accept frames of 64 MiB, and a record and two varints must fit in beside the message.
const MAX_MESSAGE: usize = 64 * MIB - 64;

/// The longest application context of v2.
const MAX_NETWORK: usize = 1024;
#[cfg(test)]
mod tests;
