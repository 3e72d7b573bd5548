//! Each path by its exact outcome.

use super::*;
use crate::crypto::PublicKeyError;
use crate::version::VersionError;

#[test]
fn from_hello_to_done() {
    let mut greeting = greeting(None);
    assert_eq!(greeting.drain(), [sent(&[1])]);
    assert_eq!(greeting.receives(&[1]), [sent(&pub_key_of(ME))]);
    assert_eq!(greeting.receives(&pub_key_of(PEER)), [Output::Prepare(key(PEER)), sent(&[3])]);
    assert!(!greeting.is_over());
    assert_eq!(greeting.receives(&[3]), [Output::Finalize, Output::Done { version: None }]);
    assert!(greeting.is_over());
    assert_eq!(greeting.poll_timeout(), None);
}

#[test]
fn messages_in_another_order_are_remembered() {
    let end = [
        sent(&pub_key_of(ME)),
        Output::Prepare(key(PEER)),
        sent(&[3]),
        Output::Finalize,
        Output::Done { version: None },
    ];
    let messages = [vec![1], pub_key_of(PEER), vec![3]];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut greeting = greeting(None);
        assert_eq!(greeting.drain(), [sent(&[1])]);
        let mut came = Vec::new();
        for at in order {
            assert!(!greeting.is_over());
            came.extend(greeting.receives(&messages[at]));
        }
        assert_eq!(came, end, "{order:?}");
    }
}

#[test]
fn nothing_is_answered_twice() {
    let mut greeting = greeting(None);
    greeting.drain();
    greeting.receives(&[1]);
    assert_eq!(greeting.receives(&[1]), []);
    greeting.receives(&pub_key_of(PEER));
    for message in [vec![1], pub_key_of(PEER)] {
        assert_eq!(greeting.receives(&message), []);
    }
    greeting.receives(&[3]);
    // Late and repeated, and by now whatever else.
    for message in [vec![3], vec![1], pub_key_of(PEER), pub_key_of(STRANGER), vec![2], vec![9]] {
        assert_eq!(greeting.receives(&message), []);
    }
}

#[test]
fn empty_and_unknown_messages_are_ignored() {
    let mut greeting = greeting(Some("1.2.9"));
    greeting.drain();
    let foreign = [&[][..], &[0], &[4], &[0x14, 0x80, 0x01, 0x10, 0x01, 0, 0], &[255; 300]];
    for message in foreign {
        assert_eq!(greeting.receives(message), []);
    }
    assert_eq!(greeting.receives(&[1]), [sent(&pub_key_of(ME))]);
}

#[test]
fn bytes_behind_complete_are_ignored() {
    let mut greeting = greeting(None);
    greeting.receives(&[1]);
    greeting.receives(&pub_key_of(PEER));
    let end = greeting.receives(&[3, 1, 2, 3]);
    assert_eq!(end, [Output::Finalize, Output::Done { version: None }]);
}

// ---- the key ------------------------------------------------------------------------------------

#[test]
fn a_key_that_is_not_the_peers_rejects() {
    for who in [STRANGER, ME] {
        let mut greeting = greeting(None);
        greeting.drain();
        let reason = RejectReason::WrongKey { given: key(who), peer: key(PEER) };
        assert_eq!(greeting.receives(&pub_key_of(who)), [Output::Reject(reason)]);
        assert!(greeting.is_over());
        assert_eq!(greeting.poll_timeout(), None);
    }
}

#[test]
fn a_second_key_that_is_not_the_peers_rejects() {
    let mut greeting = greeting(None);
    greeting.receives(&[1]);
    greeting.receives(&pub_key_of(PEER));
    let reason = RejectReason::WrongKey { given: key(STRANGER), peer: key(PEER) };
    assert_eq!(greeting.receives(&pub_key_of(STRANGER)), [Output::Reject(reason)]);
    assert_eq!(greeting.receives(&[3]), []);
}

#[test]
fn bytes_that_are_no_key_reject() {
    let mut long = pub_key_of(PEER);
    long.push(0);
    let cases = [
        (vec![2], PublicKeyError::Length { got: 0 }),
        (pub_key_of(PEER)[..32].to_vec(), PublicKeyError::Length { got: 31 }),
        (long, PublicKeyError::Length { got: 33 }),
        (vec![2; 33], PublicKey::from_bytes(&[2; 32]).unwrap_err()),
    ];
    for (message, error) in cases {
        let mut greeting = greeting(None);
        greeting.drain();
        let reject = Output::Reject(RejectReason::NotAKey(error));
        assert_eq!(greeting.receives(&message), [reject], "{message:?}");
    }
}

// ---- the version --------------------------------------------------------------------------------

#[test]
fn a_version_is_sent_and_received() {
    let mut greeting = greeting(Some("1.2.9"));
    assert_eq!(greeting.drain(), [sent(b"\x01\x001.2.9")]);
    assert_eq!(greeting.receives(b"\x01\x001.30.0"), [sent(&pub_key_of(ME))]);
    greeting.receives(&pub_key_of(PEER));
    let version = Some(ProtocolVersion::new(1, 30, 0));
    assert_eq!(greeting.receives(&[3]), [Output::Finalize, Output::Done { version }]);
}

#[test]
fn an_incompatible_version_rejects() {
    for theirs in ["0.2.9", "2.0.0"] {
        let mut greeting = greeting(Some("1.2.9"));
        greeting.drain();
        let reason =
            RejectReason::IncompatibleVersion { ours: OURS, theirs: theirs.parse().unwrap() };
        let hello = [b"\x01\x00", theirs.as_bytes()].concat();
        assert_eq!(greeting.receives(&hello), [Output::Reject(reason)]);
        assert_eq!(greeting.receives(&[1]), []);
    }
}

#[test]
fn a_malformed_version_rejects() {
    let cases: [(&[u8], VersionError); 4] = [
        (b"\x01\x00", VersionError::Parts { got: 1 }),
        (b"\x01\x001.2.9 ", VersionError::NotANumber),
        (b"\x01\x001.2.\xff", VersionError::NotANumber),
        (b"\x01\x001.2.256", VersionError::TooLarge),
    ];
    for (hello, error) in cases {
        let mut greeting = greeting(Some("1.2.9"));
        greeting.drain();
        let reject = Output::Reject(RejectReason::MalformedVersion(error));
        assert_eq!(greeting.receives(hello), [reject]);
    }
}

#[test]
fn a_name_is_no_version() {
    for hello in [&b"\x01"[..], b"\x01alice", b"\x012.0.0", b"\x01\xff\xfe"] {
        let mut greeting = greeting(Some("1.2.9"));
        greeting.drain();
        assert_eq!(greeting.receives(hello), [sent(&pub_key_of(ME))], "{hello:?}");
        greeting.receives(&pub_key_of(PEER));
        assert_eq!(greeting.receives(&[3]), [Output::Finalize, Output::Done { version: None }]);
    }
}

#[test]
fn a_side_without_a_version_reads_none() {
    for hello in [&b"\x01\x002.0.0"[..], b"\x01\x00nonsense"] {
        let mut greeting = greeting(None);
        greeting.drain();
        assert_eq!(greeting.receives(hello), [sent(&pub_key_of(ME))]);
        greeting.receives(&pub_key_of(PEER));
        assert_eq!(greeting.receives(&[3]), [Output::Finalize, Output::Done { version: None }]);
    }
}

// ---- time ---------------------------------------------------------------------------------------

#[test]
fn all_messages_are_repeated_and_the_peer_is_then_rejected() {
    let mut greeting = greeting(Some("1.2.9"));
    greeting.drain();
    assert_eq!(greeting.poll_timeout(), Some(seconds(10)));
    greeting.handle_timeout(Instant::from_micros(9_999_999));
    assert_eq!(greeting.drain(), []);

    greeting.handle_timeout(seconds(10));
    assert_eq!(greeting.drain(), [sent(b"\x01\x001.2.9")]);
    assert_eq!(greeting.poll_timeout(), Some(seconds(20)));

    greeting.receives(&[1]);
    greeting.receives(&pub_key_of(PEER));
    greeting.handle_timeout(seconds(23));
    let all = [sent(b"\x01\x001.2.9"), sent(&pub_key_of(ME)), sent(&[3])];
    assert_eq!(greeting.drain(), all, "and not prepared again");
    assert_eq!(greeting.poll_timeout(), Some(seconds(33)));

    greeting.handle_timeout(seconds(33));
    let timed_out = Output::Reject(RejectReason::TimedOut { retries: 2 });
    assert_eq!(greeting.drain(), [timed_out]);
    assert_eq!(greeting.poll_timeout(), None);
    greeting.handle_timeout(seconds(1_000));
    assert_eq!(greeting.receives(&[3]), []);
}

#[test]
fn outputs_that_wait_are_not_repeated() {
    let mut greeting = greeting(None);
    greeting.handle_timeout(seconds(10));
    greeting.handle_message(seconds(10), &[1]);
    greeting.handle_timeout(seconds(20));
    assert_eq!(greeting.drain(), [sent(&[1]), sent(&pub_key_of(ME))]);
}

#[test]
fn a_message_after_the_last_repetition_comes_too_late() {
    let mut greeting = greeting(None);
    greeting.config.max_retries = 0;
    greeting.drain();
    greeting.handle_message(seconds(10), &[1]);
    assert_eq!(greeting.drain(), [Output::Reject(RejectReason::TimedOut { retries: 0 })]);
}

#[test]
fn a_retry_time_of_zero_is_refused() {
    let config = GreetingConfig { retry_after: Duration::ZERO, ..GreetingConfig::default() };
    let error = Greeting::new(Instant::ZERO, key(ME), key(PEER), config).unwrap_err();
    assert_eq!(error, ConfigError::new("retry_after", Problem::Zero));
}

#[test]
fn the_default_rejects_before_a_session_times_out() {
    let config = GreetingConfig::default();
    let in_all = config.retry_after * (config.max_retries + 1);
    assert!(in_all < crate::Config::default().handshake_timeout);
}

#[test]
fn the_end_of_time_is_an_end() {
    let end = Instant::from_micros(u64::MAX);
    let mut greeting = Greeting::new(end, key(ME), key(PEER), config(None)).unwrap();
    assert_eq!(greeting.poll_timeout(), None);
    assert_eq!(greeting.drain(), [sent(&[1])]);
    for _ in 0..3 {
        greeting.handle_timeout(end);
    }
    assert!(greeting.is_over());
}
