//! Two nodes, one message.

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{HANDSHAKE, Multiaddr, Node, PublicKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Two nodes that listen on a free port and accept the stream `chat`.
    let listen: Multiaddr = "/ip4/127.0.0.1/udp/0/quic-v1".parse()?;
    let build =
        || Node::builder(Keypair::generate_ed25519()).listen(listen.clone()).streams(["chat"]);
    let (alice, bob) = (build().build().await?, build().build().await?);
    let mut inbox = bob.messages().expect("the first call gets them");

    // Alice dials Bob. What is said in the handshake is yours: here, Alice tells her key.
    alice.add_peer(bob.peer_id(), bob.addrs()).await?;
    alice.connect(bob.peer_id()).await?;
    alice.send(bob.peer_id(), HANDSHAKE, alice.public_key().as_bytes().to_vec()).await?;

    // Both prepare the streams with the other's key, and consent.
    let hello = inbox.recv().await.ok_or("stopped")?;
    bob.complete_handshake(hello.peer, PublicKey::from_bytes(&hello.data)?, &["chat"]).await?;
    alice.complete_handshake(bob.peer_id(), bob.public_key(), &["chat"]).await?;

    // Encrypted, ordered, whole messages.
    alice.send(bob.peer_id(), "chat", "hello, Bob").await?;
    let message = inbox.recv().await.ok_or("stopped")?;
    assert_eq!((message.stream(), &message.data[..]), ("chat", &b"hello, Bob"[..]));
    alice.shutdown().await;
    bob.shutdown().await;
    Ok(())
}
