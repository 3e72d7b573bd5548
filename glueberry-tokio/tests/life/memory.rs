//! What peers make a node hold, measured as the resident memory of a process of its own.

use std::time::{Duration, Instant};

use glueberry_tokio::{Config, ConnectionState, Profile};

use crate::processes::Peer;
use crate::support::{Party, STREAM, STREAMS, keypair, quick};

/// The configuration of the node that is flooded: small, so that it is soon full.
pub(crate) fn small() -> Config {
    let mut config = quick();
    let core = &mut config.core;
    (core.node_memory, core.peer_memory) = (64 << 20, 16 << 20);
    core.max_message_size = 4 << 20;
    (core.max_sessions, core.max_peers, core.max_bans, core.event_queue) = (64, 100, 100, 100);
    config
}

/// Strangers send as fast as they can, and nobody reads. Memory stays within the bound, and a friend
/// is heard all the same.
#[cfg(target_os = "linux")]
#[test]
fn a_flood_that_nobody_reads_stays_within_the_bound_and_crowds_nobody_out() {
    crate::support::run(async {
        let flooded = Peer::start("hoard", &crate::support::any_port());
        let before = flooded.resident();
        let bound = small().core.node_memory_bound();
        let child = keypair(crate::processes::CHILD).public().to_peer_id();
        let payload = bytes::Bytes::from(vec![7; 3 << 20]);
        let mut strangers = Vec::new();
        for number in 0..16 {
            let mut config = small();
            // In v1 a message is charged as one, in v2 record by record.
            config.core.profiles = vec![[Profile::V1, Profile::V2][number % 2]];
            let mut stranger = Party::greeting(config).await;
            stranger.node.add_peer(child, [flooded.address.clone()]).await.unwrap();
            stranger.node.connect(child).await.unwrap();
            stranger.until(ConnectionState::Established).await;
            for stream in STREAMS {
                let (node, payload) = (stranger.node.clone(), payload.clone());
                tokio::spawn(async move {
                    while node.send(child, stream, payload.clone()).await.is_ok() {}
                });
            }
            strangers.push(stranger);
        }
        let until = Instant::now() + Duration::from_secs(10);
        let mut most = 0;
        while Instant::now() < until {
            most = most.max(flooded.resident());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let growth = most.saturating_sub(before);
        println!("{} MiB more, the bound is {} MiB", growth >> 20, bound >> 20);
        assert!(growth > 24 << 20, "it is a flood");
        assert!(growth <= bound, "{growth} bytes more, the bound is {bound}");
        let mut friend = Party::of(keypair(crate::processes::PARENT), small(), |it| it).await;
        friend.greet();
        friend.node.add_peer(child, [flooded.address.clone()]).await.unwrap();
        friend.node.connect(child).await.unwrap();
        friend.until(ConnectionState::Established).await;
        friend.node.send(child, STREAM, payload.clone()).await.unwrap();
        assert_eq!(friend.message().await.data, payload);
    });
}
