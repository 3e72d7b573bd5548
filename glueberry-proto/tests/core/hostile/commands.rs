//! Commands that come too early, too late or with the wrong argument.

use bytes::Bytes;
use glueberry_proto::crypto::AgreementError;
use glueberry_proto::{HandshakeError, Naming, Origin, PublicKey, SendError, SubstreamEnd};

use super::{each_wire, only};
use crate::support::{A, B, Raw, accept, identity, key, name, names, stranger};

const SMALL: Bytes = Bytes::from_static(b"small");

#[test]
fn only_the_key_of_the_peer_is_accepted() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["chat"]));
        let stranger = stranger(77);
        for given in [stranger, key(A)] {
            let refused = raw.session.prepare_streams(raw.now, given, &names(&["chat"]));
            assert_eq!(refused, Err(HandshakeError::WrongKey { given, peer: key(B) }));
        }
        assert_eq!(raw.session.finalize_handshake(raw.now), Err(HandshakeError::NotPrepared));
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn our_own_key_with_the_other_sign_agrees_on_nothing() {
    let mut negated = *identity(A).public_key().as_bytes();
    negated[31] ^= 0x80;
    let peer = PublicKey::from_bytes(&negated).unwrap();
    let mut raw = Raw::inbound(Naming::Negotiated, only(glueberry_proto::Profile::V1, &[]));
    raw.session = accept(&mut raw.node, raw.now, peer, Origin::Accepted);
    raw.open(raw.profile.handshake_id());
    let refused = raw.session.prepare_streams(raw.now, peer, &names(&["chat"]));
    assert_eq!(refused, Err(HandshakeError::Agreement(AgreementError::OwnKey)));
    assert_eq!(raw.session.finalize_handshake(raw.now), Err(HandshakeError::NotPrepared));
    raw.node_is_usable();
}

#[test]
fn what_is_prepared_is_some_streams_and_not_too_many() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &[]);
        config.max_streams = 2;
        let (mut raw, _) = Raw::connected(naming, config);
        let none = raw.session.prepare_streams(raw.now, raw.peer, &[]);
        assert_eq!(none, Err(HandshakeError::NoStreams));
        let three = raw.session.prepare_streams(raw.now, raw.peer, &names(&["a", "b", "c"]));
        assert_eq!(three, Err(HandshakeError::TooManyStreams { requested: 3, limit: 2 }));
        raw.prepare(&["a", "b", "a"]);
        let third = raw.session.prepare_streams(raw.now, raw.peer, &names(&["c"]));
        assert_eq!(third, Err(HandshakeError::TooManyStreams { requested: 3, limit: 2 }));
        raw.finalize();
        raw.carries_messages("b");
        let refused = raw.session.send(raw.now, &name("c"), SMALL);
        assert_eq!(refused, Err(SendError::UnknownStream));
        raw.node_is_usable();
    }
}

#[test]
fn before_a_handshake_substream_is_agreed_nothing_can_be_asked_for() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::outbound(naming, only(profile, &["chat"]));
        let (now, peer) = (raw.now, raw.peer);
        let chat = names(&["chat"]);
        assert_eq!(raw.session.send_handshake(now, SMALL), Err(SendError::NotEstablished));
        assert_eq!(raw.session.send(now, &chat[0], SMALL), Err(SendError::NotEstablished));
        let prepared = raw.session.prepare_streams(now, peer, &chat);
        assert_eq!(prepared, Err(HandshakeError::NotConnected));
        assert_eq!(raw.session.finalize_handshake(now), Err(HandshakeError::NotConnected));
        raw.session.reject_handshake(now, "nothing to reject");
        assert!(!raw.session.is_closed());
        raw.agree(&profile.handshake_id());
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn sending_needs_established_and_a_prepared_stream_and_a_limit() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        config.max_message_size = 100;
        let (mut raw, _) = Raw::connected(naming, config);
        let (now, chat) = (raw.now, name("chat"));
        assert_eq!(raw.session.send(now, &chat, SMALL), Err(SendError::NotEstablished));
        raw.prepare(&["chat"]);
        assert_eq!(raw.session.send(now, &chat, SMALL), Err(SendError::NotEstablished));
        raw.finalize();
        let unknown = raw.session.send(now, &name("never"), SMALL);
        assert_eq!(unknown, Err(SendError::UnknownStream));
        let large = raw.session.send(now, &chat, Bytes::from(vec![0; 101]));
        assert_eq!(large, Err(SendError::TooLarge { size: 101, limit: 100 }));
        raw.session.send(now, &chat, Bytes::from(vec![0; 100])).unwrap();
        raw.node_is_usable();
    }
}

#[test]
fn what_is_said_in_a_handshake_is_bounded() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        config.max_handshake_size = 100;
        let (mut raw, handshake) = Raw::connected(naming, config);
        let large = raw.session.send_handshake(raw.now, Bytes::from(vec![0; 101]));
        assert_eq!(large, Err(SendError::TooLarge { size: 101, limit: 100 }));
        raw.session.send_handshake(raw.now, Bytes::from(vec![1; 100])).unwrap();
        let more = raw.session.send_handshake(raw.now, Bytes::from_static(b"x"));
        assert_eq!(more, Err(SendError::Backpressure));
        assert_eq!(raw.said(handshake), [[1; 100]]);
        // Written is not enough: it may have to be repeated, until there is an answer.
        let more = raw.session.send_handshake(raw.now, Bytes::from_static(b"x"));
        assert_eq!(more, Err(SendError::Backpressure));
        raw.feed(handshake, &crate::support::frame(profile, b"answer"));
        raw.session.send_handshake(raw.now, Bytes::from_static(b"x")).unwrap();
        assert_eq!(raw.said(handshake), [b"x"]);
        raw.node_is_usable();
    }
}

#[test]
fn after_finalize_the_handshake_is_over() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["chat"]));
        let (now, peer) = (raw.now, raw.peer);
        assert_eq!(raw.session.finalize_handshake(now), Err(HandshakeError::NotPrepared));
        raw.prepare(&["chat"]);
        raw.finalize();
        assert_eq!(raw.session.finalize_handshake(now), Err(HandshakeError::AlreadyFinalized));
        let prepared = raw.session.prepare_streams(now, peer, &names(&["more"]));
        assert_eq!(prepared, Err(HandshakeError::AlreadyFinalized));
        assert_eq!(raw.session.send_handshake(now, SMALL), Err(SendError::HandshakeOver));
        raw.session.reject_handshake(now, "too late");
        assert!(raw.session.is_established());
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_closed_session_takes_no_command() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let (now, peer, chat) = (raw.now, raw.peer, names(&["chat"]));
        raw.session.close(now);
        raw.settle();
        assert!(raw.session.is_closed());
        assert_eq!(raw.session.send(now, &chat[0], SMALL), Err(SendError::Closed));
        assert_eq!(raw.session.send_handshake(now, SMALL), Err(SendError::Closed));
        assert_eq!(raw.session.finalize_handshake(now), Err(HandshakeError::Closed));
        let prepared = raw.session.prepare_streams(now, peer, &chat);
        assert_eq!(prepared, Err(HandshakeError::Closed));
        raw.session.reject_handshake(now, "too late");
        raw.session.close(now);
        assert_eq!(raw.closed().reason, glueberry_proto::CloseReason::Disconnected);
        raw.node_is_usable();
    }
}

#[test]
fn a_session_that_drains_accepts_nothing_new() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        raw.send("chat", b"queued");
        raw.session.close(raw.now);
        raw.settle();
        let (now, chat) = (raw.now, name("chat"));
        assert!(!raw.session.is_closed());
        assert_eq!(raw.session.send(now, &chat, SMALL), Err(SendError::Closed));
        assert_eq!(raw.session.send_handshake(now, SMALL), Err(SendError::Closed));
        assert_eq!(raw.session.finalize_handshake(now), Err(HandshakeError::Closed));
        let id = raw.agree(&profile.stream_id(chat));
        assert_eq!(raw.sent(id), [b"queued"]);
        assert!(raw.was_finished(id));
        raw.acknowledge(id);
        raw.end(id, SubstreamEnd::Finished);
        let closed = raw.closed();
        assert_eq!((closed.unsent, closed.in_doubt), (0, 0));
        raw.node_is_usable();
    }
}
