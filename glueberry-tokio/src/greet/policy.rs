//! Which peers a node accepts in its ready-made handshake.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use glueberry_proto::greeting::GreetingConfig;
use glueberry_proto::{ConfigError, Direction, Problem, PublicKey};
use libp2p_identity::PeerId;

/// The ready-made handshake of a node; see [`Builder::handshake`](crate::Builder::handshake).
///
/// The node holds the architecture document's greeting (Hello, PubKey, Complete) with each peer
/// that it accepts, prepares all streams of [`Builder::streams`](crate::Builder::streams) and
/// finalizes. A side is Established once the other has prepared its streams. All variants say the
/// same on the wire, so they meet each other, and the original's applications written in Go.
///
/// A peer that is not accepted is rejected: its state is
/// [`Cooldown`](crate::ConnectionState::Cooldown), and it is left alone for
/// [`Config::cooldown`](glueberry_proto::Config::cooldown).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{Direction, Handshake, Node, identity::Keypair};
///
/// let bob = Node::builder(Keypair::generate_ed25519())
///     .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)
///     .streams(["chat"])
///     .handshake(Handshake::accept_if(|candidate| match candidate.direction {
///         Direction::Outbound => Ok(()),
///         _ => Err("only peers that this node has dialled".to_owned()),
///     }))
///     .build()
///     .await?;
/// let alice = Node::builder(Keypair::generate_ed25519())
///     .streams(["chat"])
///     .handshake(Handshake::accept_only([bob.peer_id()]))
///     .build()
///     .await?;
/// // Bob may reject her even before her dial is done.
/// let dialled = alice.dial(bob.dial_addrs().remove(0)).await;
/// let is_established = dialled.is_ok() && alice.wait_established(bob.peer_id()).await.is_ok();
/// assert!(!is_established, "Bob has not dialled her");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing unless a builder gets it"]
pub struct Handshake {
    policy: Policy,
    pub(super) greeting: GreetingConfig,
}

#[derive(Clone)]
enum Policy {
    All,
    Only(BTreeSet<PeerId>),
    If(Arc<Decide>),
    OnRequest,
}

type Decide = dyn Fn(&Candidate) -> Result<(), String> + Send + Sync;

/// A peer that is Connected, and whose handshake is about to begin.
///
/// See [`Handshake::accept_if`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Candidate {
    /// The peer, as the transport has authenticated it.
    pub peer: PeerId,
    /// Its key.
    pub key: PublicKey,
    /// The side that dialled.
    pub direction: Direction,
}

/// What becomes of a peer.
pub(super) enum Verdict {
    Accept,
    Reject(String),
    /// The application will say.
    Later,
}

impl Handshake {
    /// Accepts every peer. The transport has authenticated its key; a ban and the limits of the
    /// configuration hold all the same.
    pub fn accept_all() -> Self {
        Self::of(Policy::All)
    }

    /// Accepts these peers and rejects all others.
    pub fn accept_only(peers: impl IntoIterator<Item = PeerId>) -> Self {
        Self::of(Policy::Only(peers.into_iter().collect()))
    }

    /// Accepts the peers for which `decide` returns `Ok`, and rejects the others with the text that it
    /// returns, which is for people and stays on this side.
    ///
    /// `decide` runs in a task of the node and must not block. If it panics, the peer is rejected.
    /// To decide by something that takes time, see [`on_request`](Self::on_request).
    pub fn accept_if(
        decide: impl Fn(&Candidate) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Policy::If(Arc::new(decide)))
    }

    /// Begins with a peer only when the application calls [`Node::greet`](crate::Node::greet), which
    /// it does once the peer is [`Connected`](crate::ConnectionState::Connected) and it has made up
    /// its mind. A peer that it does not want it rejects by
    /// [`Node::reject_handshake`](crate::Node::reject_handshake).
    pub fn on_request() -> Self {
        Self::of(Policy::OnRequest)
    }

    /// Replaces what the greeting announces, and how long it waits.
    pub const fn greeting(mut self, greeting: GreetingConfig) -> Self {
        self.greeting = greeting;
        self
    }

    fn of(policy: Policy) -> Self {
        Self { policy, greeting: GreetingConfig::default() }
    }

    pub(crate) const fn check(&self) -> Result<(), ConfigError> {
        match self.greeting.retry_after.is_zero() {
            true => Err(ConfigError::new("retry_after", Problem::Zero)),
            false => Ok(()),
        }
    }

    pub(super) fn judge(&self, candidate: &Candidate) -> Verdict {
        match &self.policy {
            Policy::All => Verdict::Accept,
            Policy::OnRequest => Verdict::Later,
            Policy::Only(peers) if peers.contains(&candidate.peer) => Verdict::Accept,
            Policy::Only(_) => Verdict::Reject("the peer is not among those accepted".to_owned()),
            // The application's closure is asked for one peer; its panic must not end the others'
            // handshakes.
            Policy::If(decide) => match catch_unwind(AssertUnwindSafe(|| decide(candidate))) {
                Ok(Ok(())) => Verdict::Accept,
                Ok(Err(reason)) => Verdict::Reject(reason),
                Err(_) => Verdict::Reject("the application's decision panicked".to_owned()),
            },
        }
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Only(peers) => f.debug_tuple("Only").field(&peers.len()).finish(),
            Self::If(_) => f.write_str("If"),
            Self::OnRequest => f.write_str("OnRequest"),
        }
    }
}
