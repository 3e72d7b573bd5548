//! The most bytes that a session and a node hold, from their configuration: the sums of rule C10.

use crate::address::MAX_ADDRESS;
use crate::buffer::{READ_CHUNK, WRITE_CHUNK};
use crate::config::Config;
use crate::node::MOST_RATES;
use crate::session::MAX_HELD_MESSAGES;
use crate::wire::{MAX_TRAILING_LEN, Profile};

/// The bounds of memory (rule C10).
impl Config {
    /// Returns the most bytes that the core and the [`SubstreamBuffer`](crate::SubstreamBuffer)s
    /// of one session hold, whatever the peer does and however the application lags (rule C10).
    ///
    /// It is the sum of
    ///
    /// - per stream, to send: the queue up to its high watermark and the message that crosses it,
    ///   twice, because it may have been returned as unsent, not taken, and queued anew; and, if
    ///   Go's profile or v2 is enabled, as much again that was written and may be repeated;
    /// - per stream, received: the queue, in which a message that is a view of its buffer counts
    ///   with the buffer's size; the buffer of the latest message, complete or not; and a buffer
    ///   that the message at the front keeps alive;
    /// - per stream, one buffer with the bytes that the transport takes next;
    /// - per substream, of both sides: the bytes read before it was paused;
    /// - for the handshake: unanswered and unread messages, and the buffers of two substreams;
    /// - per session, one more buffer while another grows; and bookkeeping of each of these.
    ///
    /// Messages from the application count with their own length. If they are views of a larger
    /// buffer, the rest of it belongs to the application. Actions are taken at once and not counted.
    pub fn session_memory_bound(&self) -> usize {
        let frame = sum(&[self.max_message_size, RECORD_OVERHEAD, MAX_TRAILING_LEN]);
        let buffer = frame.saturating_add(READ_CHUNK);
        let queued = sum(&[
            self.high_watermark_bytes,
            self.max_message_size,
            times(PER_MESSAGE, self.high_watermark),
        ]);
        let repeats = |profile| matches!(profile, &Profile::V1Go | &Profile::V2);
        let copies = if self.profiles.iter().any(repeats) { 3 } else { 2 };
        let received = sum(&[
            self.receive_queue_bytes,
            times(2, buffer),
            times(PER_MESSAGE, self.receive_queue),
        ]);
        let written = sum(&[frame, 2 * WRITE_CHUNK]);
        let per_stream = sum(&[times(copies, queued), received, written, BOOKKEEPING]);
        let per_substream = READ_CHUNK + BOOKKEEPING;
        let messages = sum(&[self.max_handshake_size, RECORD_OVERHEAD, MAX_TRAILING_LEN]);
        let handshake =
            sum(&[times(7, messages), 4 * WRITE_CHUNK, 2 * MAX_HELD_MESSAGES * PER_MESSAGE]);
        sum(&[
            times(self.max_streams, per_stream),
            times(times(2, self.max_substreams), per_substream),
            handshake,
            buffer,
            PER_SESSION,
        ])
    }

    /// Returns the most bytes that peers can make a node with its adapter hold, if the adapter keeps
    /// an account of [`node_memory`](Self::node_memory) over all sessions, as `glueberry-tokio` does
    /// (rule C10). 481 MiB by default.
    ///
    /// It is the sum of
    ///
    /// - that account;
    /// - per session, twice as many as [`max_sessions`](Self::max_sessions) because some are ending:
    ///   its bookkeeping, and what a peer may always have in flight, 128 KiB;
    /// - the states of strangers, of which as many may be remembered as of others, and bans;
    /// - queued events, and how often peers came lately.
    ///
    /// What the application itself hands over is not among it: the entries of the address book
    /// ([`node_state_bound`](Self::node_state_bound)), and messages that are queued to be sent, on
    /// each stream up to [`high_watermark_bytes`](Self::high_watermark_bytes) and a message.
    pub fn node_memory_bound(&self) -> usize {
        let per_session = PER_SESSION + IN_FLIGHT;
        sum(&[
            self.memory_limits().node,
            times(times(2, self.max_sessions), per_session),
            times(sum(&[self.max_peers, self.max_bans]), PER_PEER),
            self.events_and_rates(),
        ])
    }

    /// Returns the most bytes that the [`Node`](crate::Node) itself holds, without its sessions
    /// (rule C10).
    ///
    /// These are the peers with the addresses and metadata that the application has noted, bans, the
    /// unused parts of the address book's file (up to its largest size), and the queued events. When
    /// [`event_queue`](Self::event_queue) events are queued nothing new begins, but sessions and
    /// peers that exist may add up to four events each, and two.
    pub fn node_state_bound(&self) -> usize {
        let metadata = times(PER_METADATA_BYTE, self.max_metadata_size);
        // A peer may have a state, or an entry in the book, or both.
        let per_peer = sum(&[2 * PER_PEER, times(self.max_addresses, PER_ADDRESS), metadata]);
        sum(&[
            times(self.max_peers, per_peer),
            times(self.max_bans, PER_PEER),
            self.max_book_size,
            self.events_and_rates(),
        ])
    }

    fn events_and_rates(&self) -> usize {
        let events =
            sum(&[self.event_queue, times(8, self.max_sessions), times(2, self.max_peers)]);
        sum(&[times(PER_EVENT, events), times(MOST_RATES, PER_RATE)])
    }

    /// Returns the limits of an adapter's account of what peers make it hold.
    ///
    /// They are those of the configuration, raised to where a peer may have two messages of the
    /// longest kind, and all strangers together four.
    pub fn memory_limits(&self) -> MemoryLimits {
        let longest = sum(&[self.max_message_size, RECORD_OVERHEAD, MAX_TRAILING_LEN, IN_FLIGHT]);
        let peer = self.peer_memory.max(times(2, longest));
        let node = self.node_memory.max(times(4, peer));
        MemoryLimits { node, strangers: node / 2, peer }
    }
}

/// The limits of what peers make a node hold, in bytes: see [`Config::memory_limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimits {
    /// Of all peers.
    pub node: usize,
    /// Of all strangers.
    pub strangers: usize,
    /// Of one peer.
    pub peer: usize,
}

const KIB: usize = 1024;
/// Nonce, tag and the longest frame header.
const RECORD_OVERHEAD: usize = 64;
/// Bookkeeping of one queued message: a `Bytes`, what it shares, and its place in a queue that
/// doubles.
const PER_MESSAGE: usize = 192;
/// Bookkeeping of one stream or one substream, its events included.
const BOOKKEEPING: usize = 2 * KIB;
/// Bookkeeping of one session: keys, nonce windows, tables.
const PER_SESSION: usize = 64 * KIB;
/// What a peer may have in flight however full the account is: see glueberry-tokio.
const IN_FLIGHT: usize = 128 * KIB;
/// Bookkeeping of one peer.
const PER_PEER: usize = KIB;
/// One address with its bookkeeping.
const PER_ADDRESS: usize = MAX_ADDRESS + 64;
/// A byte of metadata, if each is a key of its own.
const PER_METADATA_BYTE: usize = 128;
/// How often a peer came lately, in a map and a set.
const PER_RATE: usize = 256;
/// One event of a node with its bookkeeping; the texts in it are an adapter's.
const PER_EVENT: usize = 512;

fn sum(parts: &[usize]) -> usize {
    parts.iter().fold(0, |sum, part| sum.saturating_add(*part))
}

const fn times(count: usize, of: usize) -> usize {
    count.saturating_mul(of)
}
