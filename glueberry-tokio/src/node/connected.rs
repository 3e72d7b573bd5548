//! Who is there.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use glueberry_proto::{ConnectionState, Direction, Profile};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use serde::{Serialize, Serializer};

use super::{Node, on_stream};
use crate::error::Error;

/// A peer with a session; see [`Node::connected`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{ConnectionState, Direction};
///
/// let (alice, bob) = pair().await?;
/// let peers = alice.connected();
/// assert_eq!(peers.len(), 1);
/// assert_eq!((peers[0].peer, peers[0].direction), (bob.peer_id(), Direction::Outbound));
/// assert_eq!(peers[0].state, ConnectionState::Established);
/// assert_eq!(peers[0].address.as_ref(), bob.addrs().first());
/// assert!(peers[0].round_trip.is_some(), "QUIC measures it");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConnectedPeer {
    /// The peer.
    #[serde(serialize_with = "as_text")]
    pub peer: PeerId,
    /// [`Connected`](ConnectionState::Connected) or [`Established`](ConnectionState::Established).
    #[serde(serialize_with = "as_text")]
    pub state: ConnectionState,
    /// The side that dialled.
    #[serde(serialize_with = "direction")]
    pub direction: Direction,
    /// The peer's address on this connection, if the transport knows it.
    #[serde(serialize_with = "optional_text")]
    pub address: Option<Multiaddr>,
    /// The wire profile that both sides agreed on.
    pub profile: Option<Profile>,
    /// The time to the peer and back, if the transport measures it.
    pub round_trip: Option<Duration>,
    /// When the peer came into this state, by this machine's calendar clock.
    pub since: SystemTime,
}

impl Node {
    /// Returns the peers that are Connected or Established, in the order of their ids.
    pub fn connected(&self) -> Vec<ConnectedPeer> {
        let mut peers: Vec<ConnectedPeer> = self
            .shared()
            .views
            .sessions()
            .into_iter()
            .map(|(changed, session)| ConnectedPeer {
                peer: changed.peer,
                state: changed.state,
                direction: changed.direction.unwrap_or(Direction::Inbound),
                address: session.path().and_then(|path| path.address()),
                profile: session.info().map(|info| info.profile),
                round_trip: session.path().and_then(|path| path.round_trip()),
                since: changed.at,
            })
            .collect();
        peers.sort_by_key(|connected| connected.peer);
        peers
    }

    /// Sends a message to every peer that is Established; returns the peers that it was not queued
    /// for, each with the reason. Waits for no peer: one whose queue is full is among those, with
    /// [`Backpressure`](crate::ErrorCode::Backpressure).
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/doctest/pair.rs"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (alice, bob) = pair().await?;
    /// assert!(alice.broadcast("chat", "hello, all").is_empty());
    /// let failed = alice.broadcast("news", "a peer without this stream");
    /// assert_eq!(failed[0].0, bob.peer_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn broadcast(&self, stream: &str, message: impl Into<Bytes>) -> Vec<(PeerId, Error)> {
        let message = message.into();
        let sessions = self.shared().views.sessions().into_iter();
        sessions
            .filter(|(changed, _)| changed.state == ConnectionState::Established)
            .filter_map(|(changed, session)| {
                let error = session.send(stream, &mut message.clone()).err()?;
                Some((changed.peer, on_stream(error, changed.peer, stream)))
            })
            .collect()
    }
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn optional_text<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn direction<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match direction {
        Direction::Outbound => "outbound",
        _ => "inbound",
    })
}
