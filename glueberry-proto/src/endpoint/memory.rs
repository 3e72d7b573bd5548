//! The account of what peers make an endpoint hold, and the time that a message may take.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::buffer::{READ_CHUNK, SubstreamBuffer};
use crate::config::Config;
use crate::crypto::PublicKey;
use crate::id::ConnectionId;
use crate::memory::MemoryLimits;
use crate::time::Instant;

/// Bytes that are held, of all peers and of each.
///
/// Where a limit is reached, substreams are not read, so that flow control slows the sender. A peer
/// that holds little is always read. A long message is charged with its whole length before more of
/// it is read: those that have begun never wait for each other.
#[derive(Debug)]
pub(super) struct Account {
    limits: MemoryLimits,
    message_timeout: Duration,
    used: usize,
    peers: BTreeMap<PublicKey, usize>,
    /// Connections that wait for room.
    starved: BTreeSet<ConnectionId>,
}

/// What one connection may be charged more.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    /// The peer holds little.
    is_free: bool,
    pub(super) message_timeout: Duration,
}

impl Account {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: config.memory_limits(),
            message_timeout: config.message_timeout,
            used: 0,
            peers: BTreeMap::new(),
            starved: BTreeSet::new(),
        }
    }

    /// Returns the room for a connection. A session that is not Established has proven nothing.
    pub(super) fn room(&self, peer: Option<PublicKey>, is_established: bool) -> Room {
        let limit = if is_established { self.limits.node } else { self.limits.strangers };
        let of_peer = peer.and_then(|peer| self.peers.get(&peer)).copied().unwrap_or(0);
        let left = limit.saturating_sub(self.used);
        Room {
            left: left.min(self.limits.peer.saturating_sub(of_peer)),
            is_free: of_peer < FREE,
            message_timeout: self.message_timeout,
        }
    }

    /// Changes what a connection is charged. Returns whether there is more room now.
    pub(super) fn change(&mut self, peer: PublicKey, before: usize, after: usize) -> bool {
        self.used = self.used.saturating_sub(before).saturating_add(after);
        let of_peer = self.peers.entry(peer).or_default();
        *of_peer = of_peer.saturating_sub(before).saturating_add(after);
        if *of_peer == 0 {
            self.peers.remove(&peer);
        }
        after < before
    }

    pub(super) fn note_starved(&mut self, id: ConnectionId) {
        self.starved.insert(id);
    }

    /// Removes and returns the connections that wait for room.
    pub(super) fn take_starved(&mut self) -> BTreeSet<ConnectionId> {
        core::mem::take(&mut self.starved)
    }

    pub(super) const fn used(&self) -> usize {
        self.used
    }
}

/// The message that is being received on a substream.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Bytes that are charged ahead, until the session has taken them: as many as it had then.
    reserved: (usize, u64),
    /// Since when the message is being received: as many bytes as the session had taken then.
    since: Option<(Instant, u64)>,
    /// When it must be complete.
    until: Option<Instant>,
    is_starved: bool,
}

impl Part {
    /// Returns what is charged ahead. What came without, a window has room for, which is not charged:
    /// those that hold a window and no more could keep each other from going on.
    pub(super) fn charge(&self, buffer: &SubstreamBuffer) -> usize {
        let (bytes, taken) = self.reserved;
        let is_valid = taken == buffer.taken() && !buffer.is_read_over();
        if is_valid { bytes } else { 0 }
    }

    /// Returns whether the substream may be read on, and lets the time of its message run if so.
    pub(super) fn may_read(
        &mut self,
        buffer: &SubstreamBuffer,
        now: Instant,
        room: &mut Room,
    ) -> bool {
        let may_read = buffer.wants_read() && self.has_room(buffer, room);
        self.is_starved = buffer.wants_read() && !may_read;
        let taken = buffer.taken();
        if may_read && buffer.held() > 0 {
            // It begins anew with each message.
            let (since, _) =
                self.since.filter(|(_, before)| *before == taken).unwrap_or((now, taken));
            self.since = Some((since, taken));
            let chunks = u64::try_from(buffer.wanted() / READ_CHUNK).unwrap_or(u64::MAX);
            let time = room.message_timeout.saturating_add(Duration::from_secs(chunks));
            self.until = Some(since + time);
        } else {
            (self.since, self.until) = (None, None);
        }
        may_read
    }

    pub(super) const fn is_starved(&self) -> bool {
        self.is_starved
    }

    /// Returns when the message must be complete.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.until
    }

    fn has_room(&mut self, buffer: &SubstreamBuffer, room: &mut Room) -> bool {
        let wanted = buffer.wanted();
        if wanted <= SMALL {
            return room.is_free || room.left > 0;
        }
        let more = wanted.saturating_sub(self.charge(buffer));
        let fits = more <= room.left;
        if fits {
            room.left -= more;
            self.reserved = (wanted, buffer.taken());
        }
        fits
    }
}

/// Bytes that a peer may always hold.
const FREE: usize = 128 * 1024;
/// A message is charged before it is read if it is longer.
const SMALL: usize = READ_CHUNK + 64;
