// What the examples in the documentation begin with.

/// Two nodes on 127.0.0.1 that are Established with each other, on the stream `chat`.
async fn pair() -> Result<(glueberry_tokio::Node, glueberry_tokio::Node), glueberry_tokio::Error> {
    let (alice, bob) = (node().await?, node().await?);
    alice.add_peer(bob.peer_id(), bob.addrs()).await?;
    let mut connected = bob.events_for_states([glueberry_tokio::ConnectionState::Connected]);
    alice.connect(bob.peer_id()).await?;
    connected.recv().await;
    let streams = ["chat"];
    bob.complete_handshake(alice.peer_id(), alice.public_key(), &streams).await?;
    alice.complete_handshake(bob.peer_id(), bob.public_key(), &streams).await?;
    Ok((alice, bob))
}

/// A node on 127.0.0.1.
async fn node() -> Result<glueberry_tokio::Node, glueberry_tokio::Error> {
    glueberry_tokio::Node::builder(glueberry_tokio::identity::Keypair::generate_ed25519())
        .listen("/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("it is an address"))
        .streams(["chat"])
        .build()
        .await
}
