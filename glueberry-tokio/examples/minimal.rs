//! Two nodes, one message.

use glueberry_tokio::{Handshake, Node, identity::Keypair};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Bob listens on a free port. Both accept every peer that proves its key.
    let node = || Node::builder(Keypair::generate_ed25519()).streams(["chat"]);
    let bob = node().listen("/ip4/127.0.0.1/udp/0/quic-v1".parse()?);
    let bob = bob.handshake(Handshake::accept_all()).build().await?;
    let alice = node().handshake(Handshake::accept_all()).build().await?;
    let mut inbox = bob.messages().expect("the first call gets them");

    // Alice dials him by an address that ends with his id.
    let peer = alice.dial(bob.dial_addrs().remove(0)).await?;
    alice.wait_established(peer).await?;

    // Encrypted, ordered, whole messages.
    alice.send(peer, "chat", "hello, Bob").await?;
    assert_eq!(inbox.recv().await.expect("the node runs").data, "hello, Bob");
    alice.shutdown().await;
    Ok(())
}
