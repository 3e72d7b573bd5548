//! What tests of an application need: nodes without sockets, a peer that follows a script, and
//! captured metrics and logs.
//!
//! ```
//! use glueberry_tokio::test_util::{MemoryNetwork, ScriptedPeer};
//! use glueberry_tokio::{Config, Node, identity::Keypair};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = MemoryNetwork::new();
//! let peer = ScriptedPeer::new(&network, ["chat"]).await?;
//! peer.answer("chat", "ping", "pong");
//!
//! // What is under test: here a node alone.
//! let node = Node::builder(Keypair::generate_ed25519())
//!     .config(Config::for_tests())
//!     .streams(["chat"])
//!     .build_over(&network)
//!     .await?;
//! let mut messages = node.messages().expect("the first call gets them");
//! node.add_peer(peer.id(), [peer.addr()]).await?;
//! node.connect(peer.id()).await?;
//! node.complete_handshake(peer.id(), peer.key(), &["chat"]).await?;
//! node.send(peer.id(), "chat", "ping").await?;
//! assert_eq!(messages.recv().await.expect("it runs").data, "pong");
//! assert_eq!(peer.heard("chat"), ["ping"]);
//! # Ok(())
//! # }
//! ```

mod link;
mod log;
mod memory;
mod metrics;
mod peer;

use std::time::Duration;

pub use self::log::{LogCapture, LogEvent};
pub use self::memory::MemoryNetwork;
pub use self::metrics::{RecordedMetric, RecordingMetrics};
pub use self::peer::ScriptedPeer;
use crate::config::Config;

impl Config {
    /// Returns a configuration for tests: small queues, and times in which a test does not get
    /// bored. Only with the feature `test-util`.
    pub fn for_tests() -> Self {
        let mut config = Self {
            message_buffer: 64,
            event_buffer: 64,
            keep_alive: Duration::from_millis(500),
            ..Self::default()
        };
        let core = &mut config.core;
        core.dial_timeout = Duration::from_secs(2);
        core.handshake_timeout = Duration::from_secs(2);
        core.negotiation_timeout = Duration::from_secs(1);
        core.drain_timeout = Duration::from_secs(1);
        core.cooldown = Duration::from_millis(500);
        core.probe_timeout = Duration::from_millis(500);
        core.refuse_after_disconnect = Duration::from_millis(200);
        core.reconnect.initial_backoff = Duration::from_millis(50);
        core.reconnect.max_backoff = Duration::from_millis(500);
        config
    }
}
