//! Times that are longer than any clock can tell.

use std::time::Duration;

use glueberry_tokio::ConnectionState;

use crate::support::{Party, STREAM, eventually, pair, quick, run};

#[test]
fn times_that_never_end_are_waited_for() {
    run(async {
        let mut config = quick();
        let core = &mut config.core;
        for time in [
            &mut core.negotiation_timeout,
            &mut core.drain_timeout,
            &mut core.dial_timeout,
            &mut core.handshake_timeout,
            &mut core.message_timeout,
            &mut core.probe_timeout,
            &mut core.book_flush_interval,
            &mut core.refuse_after_disconnect,
            &mut core.cooldown,
        ] {
            *time = Duration::MAX;
        }
        config.stats_retention = Duration::MAX;
        let (a, mut b) = pair(config.clone()).await;
        a.node.send(b.id(), STREAM, "hello").await.unwrap();
        assert_eq!(b.message().await.data, "hello");
        // One that is refused.
        let c = Party::new(config).await;
        b.node.blacklist_peer(c.id(), None).await.unwrap();
        c.knows(&b).await;
        c.node.connect(b.id()).await.unwrap_err();
        assert!(b.node.health().await.is_healthy);
        a.node.shutdown().await;
        eventually("it is over", || b.state(&a) != ConnectionState::Established).await;
        b.node.shutdown().await;
    });
}
