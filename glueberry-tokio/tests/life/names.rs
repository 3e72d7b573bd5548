//! Names of streams that only Go nodes allow.

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{ConnectionState, ErrorCode, Node, Profile};

use crate::support::{Party, any_port, eventually, key, quick, run};

const GO: &str = "größe";

#[test]
fn a_name_that_only_go_allows_is_carried_where_go_is_spoken() {
    run(async {
        let mut config = quick();
        config.core.profiles = vec![Profile::V1Go];
        let of = |config| {
            Party::of(Keypair::generate_ed25519(), config, |builder| builder.streams([GO]))
        };
        let (a, mut b) = (of(config.clone()).await, of(config).await);
        a.dial(&b).await;
        eventually("connected", || b.state(&a) == ConnectionState::Connected).await;
        a.node.complete_handshake(b.id(), key(b.id()), &[GO]).await.unwrap();
        b.node.complete_handshake(a.id(), key(a.id()), &[GO]).await.unwrap();
        a.node.send(b.id(), GO, "hello").await.unwrap();
        let message = b.message().await;
        assert_eq!((message.stream(), &message.data[..]), (GO, &b"hello"[..]));
    });
}

#[test]
fn a_name_that_only_go_allows_is_refused_where_go_is_not_spoken() {
    run(async {
        let (a, b) = (Party::new(quick()).await, Party::new(quick()).await);
        a.dial(&b).await;
        // The two have agreed on the document's profile.
        let error = a.node.prepare_streams(b.id(), key(b.id()), &[GO]).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidStreamName);
        assert!(format!("{error:#}").contains(GO), "{error:#}");
        let mut config = quick();
        config.core.profiles = vec![Profile::V1];
        let built = Node::builder(Keypair::generate_ed25519())
            .config(config)
            .listen(any_port())
            .streams([GO])
            .build()
            .await;
        assert_eq!(built.unwrap_err().code(), ErrorCode::InvalidStreamName);
    });
}
