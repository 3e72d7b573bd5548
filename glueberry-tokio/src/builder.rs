//! How a node comes about.

use std::sync::Arc;

use glueberry_proto::{Identity, Seed};
use libp2p_identity::Keypair;
use multiaddr::Multiaddr;
use zeroize::Zeroizing;

use crate::adapter::{Fabric, Parts};
use crate::clock::Clock;
use crate::config::Config;
use crate::driver::NodeDriver;
use crate::error::{Error, ErrorCode};
use crate::events::EventHub;
use crate::inbox::Inbox;
use crate::mailbox::Mailbox;
use crate::node::{Node, Shared, stream_name};
use crate::routes::Routes;
use crate::runtime::{Runtime, default_runtime};
use crate::transport::Transport;

/// Builds a [`Node`]: see [`Node::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct Builder {
    identity: Keypair,
    config: Config,
    listen: Vec<Multiaddr>,
    streams: Vec<String>,
    runtime: Option<Arc<dyn Runtime>>,
}

impl Builder {
    pub(crate) fn new(identity: Keypair) -> Self {
        Self {
            identity,
            config: Config::default(),
            listen: Vec::new(),
            streams: Vec::new(),
            runtime: None,
        }
    }

    /// Listens on an address such as `/ip4/0.0.0.0/udp/4001/quic-v1`; may be called again for
    /// more. A node that listens nowhere can only dial.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Accepts streams of these names from peers, once they are prepared: names that are not
    /// known before a peer uses them are refused.
    pub fn streams<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.streams.extend(names.into_iter().map(Into::into));
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

    /// Starts the node over raw QUIC.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorCode::InvalidConfig), naming the field,
    /// [`InvalidStreamName`](ErrorCode::InvalidStreamName),
    /// [`InvalidPublicKey`](ErrorCode::InvalidPublicKey) if the identity is not an Ed25519 key,
    /// [`InvalidAddress`](ErrorCode::InvalidAddress), [`ListenFailed`](ErrorCode::ListenFailed).
    #[cfg(feature = "quic")]
    #[expect(clippy::unused_async, reason = "other transports need time to start")]
    pub async fn build(self) -> Result<Node, Error> {
        let parts = self.into_parts()?;
        let Parts { runtime, identity, listen, config } = &parts;
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
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => default_runtime().ok_or_else(|| {
                Error::because(ErrorCode::InvalidConfig, "no runtime: see `Builder::runtime`")
            })?,
        };
        Ok(Parts { identity: self.identity, config, listen: self.listen, runtime })
    }

    fn checked_config(&self) -> Result<Config, Error> {
        let mut config = self.config.clone();
        for name in &self.streams {
            let name = stream_name(name)?;
            if !config.core.streams.contains(&name) {
                config.core.streams.push(name);
            }
        }
        config.check()?;
        Ok(config)
    }
}

/// Starts a node over any transport.
pub(crate) fn start<T: Transport + Unpin>(
    identity: &Keypair,
    config: Config,
    runtime: Arc<dyn Runtime>,
    addrs: Vec<Multiaddr>,
    transport: impl FnOnce(&Arc<Shared>) -> T,
) -> Result<Node, Error> {
    let identity = Identity::try_from(identity)
        .map_err(|error| Error::because(ErrorCode::InvalidPublicKey, error))?;
    let key = identity.public_key();
    let inbox = Inbox::new(config.message_buffer);
    let shared = Arc::new(Shared {
        mailbox: Mailbox::new(),
        routes: Routes::new(inbox.clone()),
        events: EventHub::new(config.event_buffer),
        addrs: addrs.into(),
        clock: Clock::starting_at(runtime.now()),
        limits: config.limits(),
        message_buffer: config.message_buffer,
        max_substreams: config.core.max_substreams,
        max_incoming: config.max_incoming,
        negotiation_timeout: config.core.negotiation_timeout,
        runtime,
    });
    let core = glueberry_proto::Node::new(shared.now(), identity, config.core, seed()?)?;
    let driver = NodeDriver::new(core, shared.clone(), transport(&shared));
    shared.runtime.spawn(Box::pin(driver));
    Ok(Node::new(shared, key, inbox))
}

fn seed() -> Result<Seed, Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| Error::because(ErrorCode::Internal, error))?;
    Ok(Seed::from_bytes(*bytes))
}
