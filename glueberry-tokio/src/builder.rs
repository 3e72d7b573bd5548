//! How a node comes about.

use std::path::PathBuf;
use std::sync::Arc;

use glueberry_proto::Profile;
use libp2p_identity::Keypair;
use multiaddr::Multiaddr;

use crate::adapter::{Fabric, Parts};
use crate::address::{AddressError, AddressProblem, named_peer};
use crate::config::Config;
use crate::error::{Error, ErrorCode, Misuse};
use crate::greet::Handshake;
use crate::metrics::{Metrics, NoMetrics};
use crate::node::{Node, stream_name};
use crate::runtime::{Runtime, default_runtime};

/// Builds a [`Node`]: see [`Node::builder`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::{Config, Node, identity::Keypair};
///
/// let mut config = Config::default();
/// config.core.max_message_size = 64 * 1024;
/// let node = Node::builder(Keypair::generate_ed25519())
///     .config(config)
///     .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)
///     .streams(["chat"])
///     .build()
///     .await?;
/// assert_eq!(node.addrs().len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    identity: Keypair,
    config: Config,
    listen: Vec<Multiaddr>,
    streams: Vec<String>,
    profiles: Option<Vec<Profile>>,
    runtime: Option<Arc<dyn Runtime>>,
    book: Option<PathBuf>,
    metrics: Arc<dyn Metrics>,
    handshake: Option<Handshake>,
}

impl Node {
    /// Starts to build a node with the given Ed25519 identity.
    pub fn builder(identity: Keypair) -> Builder {
        Builder::new(identity)
    }
}

impl Builder {
    pub(crate) fn new(identity: Keypair) -> Self {
        Self {
            identity,
            config: Config::default(),
            listen: Vec::new(),
            streams: Vec::new(),
            profiles: None,
            runtime: None,
            book: None,
            metrics: Arc::new(NoMetrics),
            handshake: None,
        }
    }

    /// Listens on an address such as `/ip4/0.0.0.0/udp/4001/quic-v1`; may be called again for
    /// more. A node that listens nowhere can only dial. An address may end with `/p2p/` and the node's
    /// own id, as [`dial_addrs`](Node::dial_addrs) has it; another peer's is an error.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Accepts streams of these names from peers, once they are prepared: names that are not
    /// known before a peer uses them are refused. Names are 1 to 64 of A-Z, a-z, 0-9, `-` and `_`;
    /// with Go nodes they may have any Unicode letters and digits.
    pub fn streams<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.streams.extend(names.into_iter().map(Into::into));
        self
    }

    /// Speaks these profiles, the first that the peer has too: v2, v1 and Go's unless this is called. It
    /// is [`profiles`](glueberry_proto::Config::profiles) of the core's configuration.
    ///
    /// [`Profile::V2`] has forward secrecy and confirms its keys; it has had no outside review.
    pub fn profiles(mut self, profiles: impl IntoIterator<Item = Profile>) -> Self {
        self.profiles = Some(profiles.into_iter().collect());
        self
    }

    /// Has the node hold the handshake with each peer by itself, for all
    /// [`streams`](Self::streams). Handshake messages then no longer come to
    /// [`Messages`](crate::Messages).
    ///
    /// Without this, the handshake is the application's: it sends and receives messages on
    /// [`HANDSHAKE`](crate::HANDSHAKE), then calls
    /// [`complete_handshake`](Node::complete_handshake).
    pub fn handshake(mut self, handshake: Handshake) -> Self {
        self.handshake = Some(handshake);
        self
    }

    /// Replaces the default configuration.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Runs on the given runtime, in place of the one that the caller is on.
    pub fn runtime(mut self, runtime: Arc<dyn Runtime>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Keeps the address book in a file: peers, their addresses and metadata, and bans. The node begins with
    /// what is in it. The format is that of Go nodes, so the file can move between the two. Without a
    /// file, the address book is lost when the node ends.
    ///
    /// The file is locked until the node has shut down. If it is no address book it is renamed;
    /// [`Node::address_book_findings`] then says so.
    pub fn address_book(mut self, path: impl Into<PathBuf>) -> Self {
        self.book = Some(path.into());
        self
    }

    /// Reports everything that is counted and measured to `metrics`.
    pub fn metrics(mut self, metrics: Arc<dyn Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Starts the node over raw QUIC.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorCode::InvalidConfig), naming the field,
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName),
    /// [`NoStreamsRequested`](ErrorCode::NoStreamsRequested) if the node is to hold the handshake and
    /// has no streams,
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the identity is not an Ed25519 key,
    /// [`InvalidAddress`](ErrorCode::InvalidAddress), [`ListenFailed`](ErrorCode::ListenFailed),
    /// [`AddressBookFailed`](ErrorCode::AddressBookFailed), among others if another process has
    /// the book.
    #[cfg(feature = "quic")]
    #[expect(clippy::unused_async, reason = "other transports need time to start")]
    pub async fn build(self) -> Result<Node, Error> {
        let parts = self.into_parts()?;
        let Parts { runtime, identity, listen, config, .. } = &parts;
        let endpoint = crate::quic::bind(&**runtime, identity, listen, config)?;
        let addrs = endpoint.addrs();
        parts.start(addrs, |shared| crate::quic::QuicTransport::start(endpoint, shared))
    }

    /// Starts the node over something else than raw QUIC, such as the `Libp2p` of the crate
    /// `glueberry-libp2p`.
    ///
    /// # Errors
    ///
    /// Those that a node over raw QUIC has, and the fabric's own.
    pub async fn build_over(self, fabric: impl Fabric) -> Result<Node, Error> {
        fabric.start(self.into_parts()?).await
    }

    /// Checks everything that does not depend on a transport.
    #[doc(hidden)]
    pub fn into_parts(self) -> Result<Parts, Error> {
        let config = self.checked_config()?;
        if let Some(handshake) = &self.handshake {
            handshake.check()?;
            if config.core.streams.is_empty() {
                return Err(Error::because(ErrorCode::NoStreamsRequested, Misuse::NoStreams));
            }
        }
        self.check_listen()?;
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => default_runtime()
                .ok_or_else(|| Error::because(ErrorCode::InvalidConfig, Misuse::NoRuntime))?,
        };
        Ok(Parts {
            identity: self.identity,
            config,
            listen: self.listen,
            runtime,
            book: self.book,
            metrics: self.metrics,
            handshake: self.handshake,
        })
    }

    /// Checks that no address says that another peer listens there.
    fn check_listen(&self) -> Result<(), Error> {
        let own = self.identity.public().to_peer_id();
        for address in &self.listen {
            if let Some(named) = named_peer(address).filter(|named| *named != own) {
                let problem = AddressProblem::OtherPeer(named);
                let error = AddressError { address: address.clone(), problem };
                return Err(Error::because(ErrorCode::InvalidAddress, error));
            }
        }
        Ok(())
    }

    fn checked_config(&self) -> Result<Config, Error> {
        let mut config = self.config.clone();
        if let Some(profiles) = &self.profiles {
            config.core.profiles.clone_from(profiles);
        }
        config.core.hardware_aes = has_aes_instructions();
        for name in &self.streams {
            let name = stream_name(name)?;
            if !config.core.allowed_profiles().any(|profile| profile.allows(&name)) {
                // It is none that these profiles allow, so there is an error.
                glueberry_proto::StreamName::new(name.as_str())
                    .map_err(|error| Error::because(ErrorCode::InvalidStreamName, error))?;
            }
            if !config.core.streams.contains(&name) {
                config.core.streams.push(name);
            }
        }
        config.check()?;
        Ok(config)
    }
}

/// Returns whether the processor has instructions for AES and for carry-less multiplication.
fn has_aes_instructions() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes")
        && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}
