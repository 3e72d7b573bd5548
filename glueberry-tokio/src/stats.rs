//! What was exchanged with each peer, and for how long it was connected.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use glueberry_proto::{ConnectionState, Direction, Instant};
use libp2p_identity::PeerId;
use serde::Serialize;

use crate::mailbox::lock;

/// What was exchanged with a peer. Bytes are those of messages, before they are sealed.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = pair().await?;
/// let mut inbox = bob.messages().expect("the first call gets them");
/// alice.send(bob.peer_id(), "chat", "hello").await?;
/// inbox.recv().await;
/// let stats = alice.peer_statistics(bob.peer_id()).expect("it was connected");
/// assert_eq!((stats.messages_sent, stats.bytes_sent), (1, 5));
/// assert_eq!(stats.streams["chat"].messages_sent, 1);
/// assert!(stats.is_connected && stats.is_outbound);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerStats {
    /// The peer.
    #[serde(serialize_with = "as_text")]
    pub peer: PeerId,
    /// Whether it is Established.
    pub is_connected: bool,
    /// Whether this node dialled the latest connection.
    pub is_outbound: bool,
    /// When the peer was last Established; `None` if it never was.
    pub connected_at: Option<SystemTime>,
    /// How long it was Established in all, up to now.
    pub total_connect_time: Duration,
    /// Messages sent, handshake messages among them.
    pub messages_sent: u64,
    /// Messages received, handshake messages among them.
    pub messages_received: u64,
    /// Bytes of the messages sent.
    pub bytes_sent: u64,
    /// Bytes of the messages received.
    pub bytes_received: u64,
    /// The same by stream.
    pub streams: BTreeMap<String, StreamStats>,
    /// When the last message was sent or received.
    pub last_message_at: Option<SystemTime>,
    /// How often the peer came to be Established.
    pub connection_count: u64,
    /// How often it could not be reached, or was lost, or its handshake failed.
    pub failure_count: u64,
    /// Since when it is Established, if it is, by the clock that never jumps.
    #[serde(skip)]
    established_at: Option<Instant>,
    /// When anything of this last changed.
    #[serde(skip)]
    touched_at: Instant,
}

/// What was exchanged on one stream with one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamStats {
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of the messages sent.
    pub bytes_sent: u64,
    /// Bytes of the messages received.
    pub bytes_received: u64,
    /// When the last message was sent.
    pub last_sent_at: Option<SystemTime>,
    /// When the last message was received.
    pub last_received_at: Option<SystemTime>,
}

/// What one task has counted on a stream since it last reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: (u64, u64),
    pub(crate) received: (u64, u64),
}

impl Tally {
    pub(crate) fn sent(&mut self, bytes: usize) {
        add(&mut self.sent, bytes);
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        add(&mut self.received, bytes);
    }

    /// Counts messages, of `bytes` bytes in all.
    pub(crate) fn sent_many(&mut self, messages: usize, bytes: usize) {
        add_many(&mut self.sent, messages, bytes);
    }

    pub(crate) fn received_many(&mut self, messages: usize, bytes: usize) {
        add_many(&mut self.received, messages, bytes);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.sent.0 == 0 && self.received.0 == 0
    }
}

fn add(counts: &mut (u64, u64), bytes: usize) {
    add_many(counts, 1, bytes);
}

fn add_many(counts: &mut (u64, u64), messages: usize, bytes: usize) {
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    counts.0 = counts.0.saturating_add(wide(messages));
    counts.1 = counts.1.saturating_add(wide(bytes));
}

/// When something happened, by the calendar, which may be set at any time, and by the core's clock.
pub(crate) type Moment = (SystemTime, Instant);

/// The statistics of all peers.
#[derive(Debug)]
pub(crate) struct Statistics {
    max_peers: usize,
    /// Ordered, because a comparison of ids costs less than a hash of one.
    peers: Mutex<BTreeMap<PeerId, PeerStats>>,
}

impl Statistics {
    pub(crate) fn new(max_peers: usize) -> Self {
        Self { max_peers, peers: Mutex::default() }
    }

    pub(crate) fn get(&self, peer: &PeerId, now: Instant) -> Option<PeerStats> {
        lock(&self.peers).get(peer).map(|stats| stats.up_to(now))
    }

    pub(crate) fn all(&self, now: Instant) -> BTreeMap<PeerId, PeerStats> {
        lock(&self.peers).iter().map(|(peer, stats)| (*peer, stats.up_to(now))).collect()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.peers).len()
    }

    pub(crate) fn messages_sent(&self, peer: &PeerId) -> u64 {
        lock(&self.peers).get(peer).map_or(0, |stats| stats.messages_sent)
    }

    /// Adds what was counted on a stream.
    pub(crate) fn count(&self, peer: PeerId, stream: &str, tally: Tally, at: Moment) {
        self.change(peer, |stats| stats.count(stream, tally, at));
    }

    /// Takes note of a change of state.
    pub(crate) fn moved(
        &self,
        peer: PeerId,
        state: ConnectionState,
        direction: Option<Direction>,
        is_failure: bool,
        (at, now): Moment,
    ) {
        let is_worth_it = is_failure || state == ConnectionState::Established;
        if !is_worth_it && !lock(&self.peers).contains_key(&peer) {
            return;
        }
        self.change(peer, |stats| {
            stats.touched_at = now;
            stats.is_outbound = direction == Some(Direction::Outbound);
            stats.failure_count += u64::from(is_failure);
            if stats.is_connected && state != ConnectionState::Established {
                stats.total_connect_time = stats.up_to(now).total_connect_time;
                (stats.is_connected, stats.established_at) = (false, None);
            } else if state == ConnectionState::Established {
                (stats.is_connected, stats.established_at) = (true, Some(now));
                stats.connected_at = Some(at);
                stats.connection_count += 1;
            }
        });
    }

    /// Forgets peers that are not Established and that have been idle for so long.
    pub(crate) fn clean(&self, retention: Duration, now: Instant) {
        let is_stale = |stats: &PeerStats| {
            !stats.is_connected && now.duration_since(stats.touched_at) > retention
        };
        lock(&self.peers).retain(|_, stats| !is_stale(stats));
    }

    fn change(&self, peer: PeerId, change: impl FnOnce(&mut PeerStats)) {
        let mut peers = lock(&self.peers);
        if let Some(stats) = peers.get_mut(&peer) {
            return change(stats);
        }
        if peers.len() >= self.max_peers {
            let idle = peers.values().filter(|stats| !stats.is_connected);
            let oldest = idle.min_by_key(|stats| stats.touched_at).map(|stats| stats.peer);
            match oldest {
                Some(oldest) => drop(peers.remove(&oldest)),
                None => return,
            }
        }
        change(peers.entry(peer).or_insert_with(|| PeerStats::new(peer)));
    }
}

impl PeerStats {
    const fn new(peer: PeerId) -> Self {
        Self {
            peer,
            is_connected: false,
            is_outbound: false,
            connected_at: None,
            total_connect_time: Duration::ZERO,
            messages_sent: 0,
            messages_received: 0,
            bytes_sent: 0,
            bytes_received: 0,
            streams: BTreeMap::new(),
            last_message_at: None,
            connection_count: 0,
            failure_count: 0,
            established_at: None,
            touched_at: Instant::ZERO,
        }
    }

    fn up_to(&self, now: Instant) -> Self {
        let mut stats = self.clone();
        stats.total_connect_time +=
            self.established_at.map_or(Duration::ZERO, |at| now.duration_since(at));
        stats
    }

    fn count(&mut self, stream: &str, tally: Tally, (at, now): Moment) {
        (self.last_message_at, self.touched_at) = (Some(at), now);
        self.messages_sent += tally.sent.0;
        self.bytes_sent = self.bytes_sent.saturating_add(tally.sent.1);
        self.messages_received += tally.received.0;
        self.bytes_received = self.bytes_received.saturating_add(tally.received.1);
        // The name is copied for the first message only.
        match self.streams.get_mut(stream) {
            Some(stream) => stream.count(tally, at),
            None => self.streams.entry(stream.to_owned()).or_default().count(tally, at),
        }
    }
}

impl StreamStats {
    const fn count(&mut self, tally: Tally, at: SystemTime) {
        self.messages_sent += tally.sent.0;
        self.bytes_sent = self.bytes_sent.saturating_add(tally.sent.1);
        self.messages_received += tally.received.0;
        self.bytes_received = self.bytes_received.saturating_add(tally.received.1);
        if tally.sent.0 > 0 {
            self.last_sent_at = Some(at);
        }
        if tally.received.0 > 0 {
            self.last_received_at = Some(at);
        }
    }
}

fn as_text<S: serde::Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// By both clocks.
    fn at(hours: u32) -> (SystemTime, Instant) {
        (SystemTime::UNIX_EPOCH + HOUR * hours, Instant::ZERO + HOUR * hours)
    }

    #[test]
    fn what_is_stale_is_cleaned_and_what_is_connected_stays() {
        let statistics = Statistics::new(10);
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for (hour, peer) in [(0, peers[0]), (0, peers[1]), (20, peers[2])] {
            let state = ConnectionState::Established;
            statistics.moved(peer, state, Some(Direction::Outbound), false, at(hour));
        }
        for peer in [peers[0], peers[2]] {
            statistics.moved(peer, ConnectionState::Disconnected, None, true, at(21));
        }
        let is_known = |peer| statistics.get(&peer, at(46).1).is_some();
        statistics.clean(24 * HOUR, at(45).1);
        assert!(is_known(peers[0]), "connected until hour 21");
        statistics.clean(24 * HOUR, at(46).1);
        assert!(!is_known(peers[0]));
        assert!(is_known(peers[1]), "still connected");
        assert!(!is_known(peers[2]));
    }

    #[test]
    fn a_calendar_that_is_set_changes_no_duration() {
        let statistics = Statistics::new(10);
        let (peer, state) = (PeerId::random(), ConnectionState::Established);
        // The calendar is set ahead by a year, and back by two.
        let [start, ahead, back] = [20_000, 30_000, 10_000].map(|hours| at(hours).0);
        statistics.moved(peer, state, None, false, (start, at(0).1));
        let connected = |hours| statistics.get(&peer, at(hours).1).unwrap().total_connect_time;
        assert_eq!(connected(2), 2 * HOUR);
        statistics.moved(peer, ConnectionState::Disconnected, None, true, (ahead, at(3).1));
        assert_eq!(connected(5), 3 * HOUR);
        statistics.clean(24 * HOUR, at(26).1);
        statistics.moved(peer, state, None, false, (back, at(26).1));
        statistics.moved(peer, ConnectionState::Disconnected, None, true, (back, at(27).1));
        assert_eq!(connected(27), 4 * HOUR);
        statistics.clean(24 * HOUR, at(52).1);
        assert!(statistics.get(&peer, at(52).1).is_none());
    }

    #[test]
    fn the_oldest_idle_peer_makes_room() {
        let statistics = Statistics::new(2);
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        for (hour, peer) in (0..).zip(&peers) {
            let mut tally = Tally::default();
            tally.sent(5);
            statistics.count(*peer, "chat", tally, at(hour));
        }
        assert_eq!(statistics.len(), 2);
        assert_eq!(statistics.messages_sent(&peers[0]), 0);
        let stats = statistics.get(&peers[2], at(2).1).unwrap();
        assert_eq!((stats.messages_sent, stats.bytes_sent), (1, 5));
        assert_eq!(stats.streams["chat"].last_sent_at, Some(at(2).0));
        assert_eq!(stats.streams["chat"].last_received_at, None);
    }
}
