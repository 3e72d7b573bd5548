//! What an adapter reports of a connection.

use crate::crypto::PublicKey;
use crate::id::DialId;
use crate::session::Naming;

/// A connection that could carry a session.
///
/// ```
/// # use glueberry_proto::*;
/// # let (identity, seed) = (Identity::from_seed(&[1; 32]), Seed::from_bytes([2; 32]));
/// # let mut node = Node::new(Instant::ZERO, identity, Config::default(), seed)?;
/// # let peer = Identity::from_seed(&[3; 32]).public_key();
/// let connection = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
/// match node.handle_connection(Instant::ZERO, connection) {
///     Admission::Accept(session) => assert_eq!(session.peer(), peer),
///     Admission::Refuse(reason) => println!("close it: {reason}"),
///     _ => {}
/// }
/// # Ok::<(), ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "an input that adapters build")]
pub struct NewConnection {
    /// The peer, as the transport has authenticated it.
    pub peer: PublicKey,
    /// How it came about.
    pub origin: Origin,
    /// Whether the transport negotiates a name for each substream.
    pub naming: Naming,
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an input that adapters build")]
pub enum Origin {
    /// By the dial of [`NodeAction::Dial`](crate::NodeAction::Dial).
    Dialled(DialId),
    /// The peer dialled, or opened a handshake substream on a connection that it shares with
    /// others.
    Accepted,
}
