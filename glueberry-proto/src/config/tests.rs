use super::*;
use crate::memory::MemoryLimits;

#[test]
fn defaults_are_valid() {
    assert_eq!(Config::default().check(), Ok(()));
}

#[cfg(feature = "serde")]
#[test]
fn a_file_names_what_differs_from_the_defaults() {
    let text = r#"{
        "profiles": ["v1"],
        "min_profile": "v1",
        "suites": ["aes-256-gcm", "chacha20-poly1305"],
        "padding": { "multiple": 256 },
        "pin_time": "30days",
        "streams": ["chat"],
        "handshake_timeout": "1m 30s",
        "reconnect": { "initial_backoff": "250ms", "max_attempts": null }
    }"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(config.handshake_timeout, Duration::from_secs(90));
    assert_eq!(config.suites, [Suite::Aes256Gcm, Suite::ChaCha20Poly1305]);
    assert_eq!(config.padding, Padding::Multiple(core::num::NonZeroU16::new(256).unwrap()));
    assert_eq!(config.pin_time, Duration::from_secs(30 * 86_400));
    assert_eq!(config.reconnect.initial_backoff, Duration::from_millis(250));
    assert_eq!(config.reconnect.max_backoff, Duration::from_secs(300));
    assert_eq!(config.reconnect.max_attempts, None);
    assert_eq!(config.high_watermark, 1000);
    let written = serde_json::to_string(&config).unwrap();
    let again: Config = serde_json::from_str(&written).unwrap();
    assert_eq!(format!("{config:?}"), format!("{again:?}"));
    for bad in [r#"{"colour": 1}"#, r#"{"cooldown": "soon"}"#, r#"{"streams": ["a/b"]}"#] {
        assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
    }
}

#[test]
fn each_bad_field_is_named() {
    type Break = fn(&mut Config);
    let cases: [(&str, Break); 49] = [
        ("sessions_low", |c| c.sessions_low = c.sessions_high),
        ("reconnect.initial_backoff", |c| c.reconnect.max_backoff = Duration::from_millis(1)),
        ("max_streams", |c| c.max_substreams = c.max_streams),
        ("profiles", |c| c.profiles.clear()),
        ("profiles", |c| (c.profiles, c.min_profile) = (vec![Profile::V1], Profile::V2)),
        ("suites", |c| c.suites.clear()),
        ("profiles", |c| (c.profiles, c.min_profile) = (vec![Profile::V1Go], Profile::V1)),
        ("max_message_size", |c| c.max_message_size = 0),
        ("max_message_size", |c| c.max_message_size = 64 * MIB),
        ("low_watermark", |c| c.low_watermark = c.high_watermark),
        ("low_watermark_bytes", |c| c.low_watermark_bytes = c.high_watermark_bytes),
        ("dial_timeout", |c| c.dial_timeout = Duration::ZERO),
        ("event_queue", |c| c.event_queue = 0),
        ("max_handshake_size", |c| c.max_handshake_size = 0),
        ("high_watermark", |c| c.high_watermark = 0),
        ("high_watermark_bytes", |c| c.high_watermark_bytes = 0),
        ("receive_queue", |c| c.receive_queue = 0),
        ("receive_queue_bytes", |c| c.receive_queue_bytes = 0),
        ("node_memory", |c| c.node_memory = 0),
        ("peer_memory", |c| c.peer_memory = 0),
        ("max_parked", |c| c.max_parked = 0),
        ("message_timeout", |c| c.message_timeout = Duration::ZERO),
        ("max_streams", |c| c.max_streams = 0),
        ("max_substreams", |c| c.max_substreams = 0),
        ("max_substreams", |c| c.max_substreams = (1 << 16) + 1),
        ("max_dials", |c| c.max_dials = 0),
        ("max_sessions", |c| c.max_sessions = 0),
        ("max_pending_sessions", |c| c.max_pending_sessions = 0),
        ("max_sessions_per_minute", |c| c.max_sessions_per_minute = 0),
        ("max_book_size", |c| c.max_book_size = 0),
        ("sessions_low", |c| c.sessions_low = 0),
        ("max_sessions_per_peer", |c| c.max_sessions_per_peer = 0),
        ("max_peers", |c| c.max_peers = 0),
        ("max_bans", |c| c.max_bans = 0),
        ("max_addresses", |c| c.max_addresses = 0),
        ("max_stream_attempts", |c| c.max_stream_attempts = 0),
        ("max_rejected_records", |c| c.max_rejected_records = 0),
        ("negotiation_timeout", |c| c.negotiation_timeout = Duration::ZERO),
        ("retry_delay", |c| c.retry_delay = Duration::ZERO),
        ("settle_time", |c| c.settle_time = Duration::ZERO),
        ("drain_timeout", |c| c.drain_timeout = Duration::ZERO),
        ("handshake_timeout", |c| c.handshake_timeout = Duration::ZERO),
        ("probe_timeout", |c| c.probe_timeout = Duration::ZERO),
        ("book_flush_interval", |c| c.book_flush_interval = Duration::ZERO),
        ("reconnect.initial_backoff", |c| c.reconnect.initial_backoff = Duration::ZERO),
        ("low_watermark", |c| c.low_watermark = usize::MAX),
        ("max_sessions", |c| c.max_sessions = 0),
        ("network", |c| c.network = "x".repeat(1025)),
        ("streams", |c| {
            c.max_streams = 1;
            c.streams = ["a", "b"].map(|n| StreamName::new(n).unwrap()).to_vec();
        }),
    ];
    for (field, spoil) in cases {
        let mut config = Config::default();
        spoil(&mut config);
        assert_eq!(config.check().unwrap_err().field, field);
    }
}

/// The defaults that the design names.
#[test]
fn defaults_are_those_of_the_design() {
    let config = Config::default();
    let seconds = Duration::from_secs;
    assert_eq!(config.dial_timeout, seconds(30));
    assert_eq!(config.handshake_timeout, seconds(60));
    assert_eq!(config.cooldown, seconds(60));
    assert_eq!(config.stable_after, seconds(60));
    assert_eq!(config.refuse_after_disconnect, seconds(30));
    assert_eq!(config.probe_timeout, seconds(3));
    assert_eq!(config.book_flush_interval, seconds(30));
    assert_eq!(config.max_dials, 16);
    assert_eq!((config.sessions_low, config.sessions_high), (100, 400));
    assert_eq!(config.max_rejected_records, 16);
    assert_eq!(config.max_handshake_size, 64 * KIB);
    assert_eq!(config.max_message_size, 10 * MIB);
    assert_eq!(config.max_metadata_size, 4 * KIB);
    assert_eq!((config.high_watermark, config.low_watermark), (1000, 500));
    let ReconnectPolicy { initial_backoff, max_backoff, max_attempts } = config.reconnect;
    assert_eq!((initial_backoff, max_backoff, max_attempts), (seconds(1), seconds(300), Some(10)));
    assert!(!config.autoconnect);
    assert_eq!((config.min_profile, config.pin_time), (Profile::V1Go, seconds(90 * 86_400)));
}

#[test]
fn profiles_below_the_floor_are_not_allowed() {
    let mut config = Config { profiles: Profile::ALL.to_vec(), ..Config::default() };
    for (floor, allowed) in [
        (Profile::V1Go, &Profile::ALL[..]),
        (Profile::V1, &[Profile::V2, Profile::V1]),
        (Profile::V2, &[Profile::V2]),
    ] {
        config.min_profile = floor;
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.allowed_profiles().collect::<Vec<_>>(), allowed);
    }
    config.profiles = vec![Profile::V1, Profile::V1Go];
    let error = config.check().unwrap_err();
    assert_eq!(error.problem, Problem::NoneReaches("min_profile"));
    let text = "configuration field `profiles` has no entry that reaches `min_profile`";
    assert_eq!(error.to_string(), text);
}

/// README and the crate docs name the figure.
#[test]
fn the_bound_of_the_defaults_is_what_the_docs_say() {
    let config = Config::default();
    assert_eq!(config.node_memory_bound() / MIB, 480, "rounded up: 481");
    let MemoryLimits { node, strangers, peer } = config.memory_limits();
    assert_eq!((node, strangers, peer), (256 * MIB, 128 * MIB, 32 * MIB));
    // Small limits leave room for messages.
    let mut config = Config::default();
    (config.node_memory, config.peer_memory) = (1, 1);
    let MemoryLimits { node, strangers, peer } = config.memory_limits();
    assert!(peer > 2 * config.max_message_size && strangers >= 2 * peer && node >= 4 * peer);
}

/// Waits that may be of no length, and peers that need no room.
#[test]
fn what_may_be_nothing_is_accepted() {
    let mut config = Config::default();
    (config.cooldown, config.refuse_after_disconnect) = (Duration::ZERO, Duration::ZERO);
    config.stable_after = Duration::ZERO;
    (config.low_watermark, config.low_watermark_bytes) = (0, 0);
    config.max_metadata_size = 0;
    config.pin_time = Duration::ZERO;
    config.reconnect = ReconnectPolicy::never();
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn a_limit_may_be_reached() {
    let mut config = Config { network: "x".repeat(1024), ..Config::default() };
    (config.max_message_size, config.max_substreams) = (64 * MIB - 64, 1 << 16);
    config.max_streams = 2;
    config.streams = ["a", "b"].map(|name| StreamName::new(name).unwrap()).to_vec();
    config.reconnect.initial_backoff = config.reconnect.max_backoff;
    assert_eq!(config.check(), Ok(()));
}
