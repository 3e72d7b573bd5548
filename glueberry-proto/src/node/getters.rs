//! What a node can be asked.

use super::Node;
use super::event::ConnectionState;
use super::peer::Peer;
use super::status::PeerStatus;
use super::timer::PeerTimer;
use crate::config::Config;
use crate::crypto::PublicKey;
use crate::id::SessionId;
use crate::owed::Owed;
use crate::prelude::*;
use crate::session::Direction;

impl Node {
    /// Returns this node's own key.
    pub const fn public_key(&self) -> PublicKey {
        self.env.own_key
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.env.config
    }

    /// Returns the state of a peer; `Disconnected` if it is unknown.
    pub fn state(&self, peer: PublicKey) -> ConnectionState {
        self.peers.get(peer).map_or(ConnectionState::Disconnected, Peer::state)
    }

    /// Returns who dialled the connection that the peer has or last had.
    pub fn direction(&self, peer: PublicKey) -> Option<Direction> {
        self.peers.get(peer)?.direction()
    }

    /// Returns the current session of the peer: the one to give commands to. A peer has one while
    /// it is Connected or Established.
    pub fn session_of(&self, peer: PublicKey) -> Option<SessionId> {
        self.peers.get(peer)?.current().map(|current| current.id)
    }

    /// Returns the status of a peer, or `None` if the node holds no state for it.
    pub fn peer_status(&self, key: PublicKey) -> Option<PeerStatus> {
        let peer = self.peers.get(key)?;
        Some(PeerStatus {
            state: peer.state(),
            since: peer.since(),
            direction: peer.direction(),
            session: peer.session_info(),
            sessions: peer.session_count(),
            is_dialling: peer.is_dialling(),
            attempts: peer.attempts(),
            next_attempt_at: peer.deadline(PeerTimer::Retry),
            cooldown_until: peer.deadline(PeerTimer::Cooldown),
            refused_until: peer.refused_until(),
            is_blacklisted: self.is_blacklisted(key),
            is_protected: peer.is_protected,
        })
    }

    /// Returns the peers that the node holds a state for, in order of their keys. Others may be in
    /// the [book](Self::book).
    pub fn peers(&self) -> impl Iterator<Item = PublicKey> {
        self.peers.keys()
    }

    /// Returns whether nothing but the peer's own word speaks for it when it dials: it is not in the
    /// book, and not protected. Strangers give way to others, see
    /// [`Config::sessions_high`].
    pub fn is_stranger(&self, peer: PublicKey) -> bool {
        self.gate().is_stranger(peer, Direction::Inbound)
    }

    /// Returns whether nothing is left to wait for after [`shutdown`](Self::shutdown). False before it.
    pub fn is_idle(&self) -> bool {
        self.env.is_stopping && self.sessions.is_empty() && self.dials.count_under_way() == 0
    }

    /// Returns what the driver owes: what it was asked for and has not answered, the oldest first. An
    /// entry that stays is where a stall comes from. A debugging aid: nothing follows from it.
    ///
    /// ```
    /// # use glueberry_proto::*;
    /// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
    /// # let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
    /// # let peer = Identity::from_seed(&[3; 32]).public_key();
    /// node.add_peer(Instant::ZERO, peer, &[Address::new("somewhere")])?;
    /// node.connect(Instant::ZERO, peer)?;
    /// assert_eq!(node.owed()[0].to_string(), "1 actions were not taken since 0.000000s");
    /// _ = node.poll_action();
    /// assert_eq!(node.owed()[0].to_string(), "a dial was not answered since 0.000000s");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn owed(&self) -> Vec<Owed> {
        let mut owed: Vec<Owed> = self.out.owed().into_iter().collect();
        for peer in self.peers.iter() {
            peer.owed(&self.env.config, &mut |it| owed.push(it));
        }
        owed.sort_by_key(|it| it.since);
        owed
    }

    /// Returns how often the node has found itself in a state that it should not be able to reach.
    /// Anything but zero is a bug in this library; please report it.
    pub const fn internal_errors(&self) -> u64 {
        self.out.internal_errors()
    }
}
