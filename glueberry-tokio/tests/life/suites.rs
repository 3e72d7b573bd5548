//! Each cipher suite of v2 alone, by configuration, over real sockets.

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{ConnectionState, ErrorCode, Node, Profile, Suite};

use crate::support::{Party, quick, run};

#[test]
fn a_suite_can_be_the_only_one() {
    run(async {
        for suite in Suite::RANKED {
            let mut config = quick();
            config.core.profiles = vec![Profile::V2];
            config.core.suites = vec![suite];
            let built = Node::builder(Keypair::generate_ed25519()).config(config.clone()).build();
            if let Err(error) = built.await {
                // For want of instructions of the processor.
                assert!(matches!(suite, Suite::Aes256Gcm | Suite::MlKem768Aes256Gcm), "{suite}");
                assert_eq!(error.code(), ErrorCode::InvalidConfig);
                assert!(format!("{error:#}").contains("`suites` cannot be used"), "{error:#}");
                continue;
            }
            let (mut a, mut b) =
                (Party::greeting(config.clone()).await, Party::greeting(config).await);
            a.dial(&b).await;
            let state = a.until(ConnectionState::Established).await;
            let info = state.session.unwrap();
            assert_eq!(info.suite, Some(suite));
            assert_eq!(info.is_post_quantum, suite.is_post_quantum());
            b.until(ConnectionState::Established).await;
            a.node.send(b.id(), "chat", "sealed").await.unwrap();
            assert_eq!(b.message().await.data, "sealed");
        }
    });
}
