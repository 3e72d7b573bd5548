//! Times that are longer than any clock can tell.

use std::time::Duration;

use glueberry_tokio::{Config, ConnectionState};
use serde_json::Value;

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

/// Sets each number of a configuration to `number`, unless it is refused alone.
fn all_at_once(number: u64) -> Config {
    let mut config = serde_json::to_value(quick()).unwrap();
    let mut fields = Vec::new();
    numbers(&config, String::new(), &mut fields);
    assert!(fields.len() > 30, "{fields:?}");
    for field in fields {
        let before = config.pointer(&field).cloned().unwrap();
        *config.pointer_mut(&field).unwrap() = number.into();
        let read = serde_json::from_value::<Config>(config.clone());
        if read.is_err() || read.is_ok_and(|read| read.check().is_err()) {
            *config.pointer_mut(&field).unwrap() = before;
        }
    }
    serde_json::from_value(config).unwrap()
}

/// Collects the paths of all numbers.
fn numbers(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| numbers(field, format!("{path}/{name}"), found));
        }
        Value::Number(_) => found.push(path),
        _ => {}
    }
}

#[test]
fn limits_that_are_never_reached_work() {
    run(async {
        for number in [u64::MAX, u64::MAX / 2, u32::MAX.into()] {
            let config = all_at_once(number);
            let (a, mut b) = pair(config).await;
            a.node.send(b.id(), STREAM, vec![7; 100_000]).await.unwrap();
            assert_eq!(b.message().await.data, vec![7; 100_000]);
            a.node.debug_state().await.unwrap();
            a.node.shutdown().await;
            b.node.shutdown().await;
        }
    });
}
