//! Many nodes in one process, and programs with few descriptors: what `--test load` and `--test few`
//! have in common.

use std::process::Command;

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::proto::ReconnectPolicy;
use glueberry_tokio::{Config, Message, Node, PublicKey};
use tokio::runtime::{Builder, Runtime};

use crate::fabric::Fabric;
use crate::party::STREAM;

/// Returns this program again, with so many descriptors.
pub fn limited(descriptors: usize, words: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().expect("known"))
        .args(words)
        // Else glibc takes the large buffers of sockets from its heap after a while, and resident memory
        // tells more about that than about what is held.
        .env("MALLOC_MMAP_THRESHOLD_", "131072");
    command
}

/// Returns a runtime with so many threads.
pub fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

/// Starts a node of a new identity, which listens or not.
pub async fn node(fabric: Fabric, config: Config, listens: bool) -> Node {
    let mut node = Node::builder(Keypair::generate_ed25519()).config(config).streams([STREAM]);
    if listens {
        node = node.listen(fabric.listen());
    }
    fabric.build(node).await.expect("built")
}

/// Returns a configuration that never reconnects by itself.
pub fn once() -> Config {
    let mut config = Config::default();
    config.core.reconnect = ReconnectPolicy::never();
    config
}

/// The application of a hub: completes every handshake, and hands on what comes on streams.
pub async fn serve(node: Node, mut with: impl FnMut(&Node, Message)) {
    let mut messages = node.messages().expect("first");
    while let Some(message) = messages.recv().await {
        if message.is_handshake() {
            let (node, peer) = (node.clone(), message.peer);
            if let Ok(key) = PublicKey::from_bytes(&message.data) {
                // The session may be over by then.
                drop(tokio::spawn(
                    async move { node.complete_handshake(peer, key, &[STREAM]).await },
                ));
            }
        } else {
            with(&node, message);
        }
    }
}
