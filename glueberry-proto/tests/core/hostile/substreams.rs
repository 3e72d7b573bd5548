//! Substreams that nobody asked for, badly named, or too many.

use std::time::Duration;

use bytes::BytesMut;
use glueberry_proto::wire::{StreamVersion, emit_proposal};
use glueberry_proto::{
    Action, Event, Ingest, Instant, Naming, OpenError, Origin, PeerMisbehaved, Profile, ProtocolId,
    ResetCode, SendError, SubstreamEnd, SubstreamId, Timer,
};

use super::{each_wire, ended_for, only};
use crate::support::{A, B, BOTH, Raw, accept, config, exchange, frame, key, name, node};

#[test]
fn a_malformed_name_ends_the_session() {
    for bytes in [&[0][..], &[129], &[255, 1], &[2, 0xc3, 0x28]] {
        let (mut raw, _) = Raw::connected(Naming::Preamble, config(&["chat"]));
        let id = raw.accept(None);
        raw.feed(id, bytes);
        ended_for(raw, PeerMisbehaved::BadPreamble);
    }
}

#[test]
fn a_malformed_answer_ends_the_session() {
    for wrong in [&b"\x1a/glueberry/handshake/1.0.1"[..], b"hello", &[1]] {
        let mut raw = Raw::outbound(Naming::Preamble, config(&["chat"]));
        let (id, _) = raw.opening();
        raw.session.handle_opened(raw.now, id, None);
        raw.feed(id, wrong);
        ended_for(raw, PeerMisbehaved::BadPreamble);
    }
}

#[test]
fn an_unknown_name_is_refused_and_no_misbehaviour() {
    let foreign =
        ["/ipfs/ping/1.0.0", "/glueberry/stream/nobody/1.0.0", "/glueberry/handshake/2.0.0"];
    for id in foreign {
        let (mut raw, _) = Raw::connected(Naming::Preamble, config(&["chat"]));
        let substream = raw.accept(None);
        let mut proposal = vec![u8::try_from(id.len()).unwrap()];
        proposal.extend_from_slice(id.as_bytes());
        raw.feed(substream, &proposal);
        assert_eq!(raw.written(substream), [0]);
        assert!(raw.was_finished(substream));
        raw.feed(substream, b"whatever it sends before it has read that");
        raw.end(substream, SubstreamEnd::Finished);
        raw.acknowledge(substream);
        assert!(!raw.session.is_closed());
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn sixteen_negotiations_without_end_are_counted_and_the_next_ends_the_session() {
    for is_established in [false, true] {
        let (mut raw, _) = Raw::connected(Naming::Negotiated, config(&["chat"]));
        raw.prepare(&["chat"]);
        if is_established {
            raw.finalize();
        }
        for _ in 0..16 {
            raw.session.handle_endless_negotiation(raw.now);
            assert!(!raw.session.is_closed());
        }
        raw.session.handle_endless_negotiation(raw.now);
        raw.session.handle_endless_negotiation(raw.now);
        ended_for(raw, PeerMisbehaved::EndlessNegotiations { count: 17 });
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_reset() {
    let v2 = ProtocolId::Stream { version: StreamVersion::V2, name: name("chat") };
    let unknown = Profile::V1.stream_id(name("nobody"));
    for protocol in [Some(ProtocolId::Handshake(Profile::V2)), Some(v2), Some(unknown), None] {
        let (mut raw, _) = Raw::connected(Naming::Negotiated, config(&["chat"]));
        let known = raw.session.protocols();
        assert!(protocol.as_ref().is_none_or(|protocol| !known.contains(protocol)));
        let id = raw.accept(protocol);
        assert!(raw.was_reset(id, ResetCode::Refused));
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_refused_stream_is_proposed_again_and_its_messages_are_given_back_in_the_end() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        raw.events();
        raw.send("chat", b"one");
        raw.send("chat", b"two");
        let mut waited = Duration::ZERO;
        for attempt in 1..=10 {
            match naming {
                Naming::Negotiated => raw.refuse(),
                _ => {
                    let (id, _) = raw.opening();
                    raw.session.handle_opened(raw.now, id, None);
                    raw.feed(id, &[0]);
                    assert!(raw.was_reset(id, ResetCode::Refused));
                }
            }
            assert_eq!(raw.session.queued(&name("chat")).0 == 0, attempt == 10, "{attempt}");
            if attempt < 10 {
                let next = raw.session.poll_timeout().expect("it tries again");
                let wait = next.duration_since(raw.now);
                assert!(wait <= Duration::from_secs(10));
                raw.wait(wait);
                waited += wait;
            }
        }
        assert!(waited > Duration::from_secs(12) && waited < Duration::from_secs(60));
        let refused = Event::StreamRefused { stream: name("chat"), unsent: 2 };
        assert_eq!(raw.events(), [refused]);
        assert_eq!(raw.session.take_unsent(&name("chat")), ["one", "two"]);
        assert!(raw.session.take_unsent(&name("chat")).is_empty());
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_refused_stream_goes_out_on_the_peers_own() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        raw.send("chat", b"one");
        let (id, _) = raw.opening();
        raw.session.handle_open_failed(raw.now, id, OpenError::Failed);
        raw.settle();
        let peers = raw.open_stream("chat");
        assert_eq!(raw.sent(peers), [b"one"]);
        assert!(!matches!(raw.session.next_timer(), Some((_, Timer::Retry(_)))));
    }
}

#[test]
fn substreams_above_the_limit_are_reset() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        (config.max_streams, config.max_substreams) = (2, 4);
        let (mut raw, _) = Raw::connected(naming, config);
        let parked: Vec<SubstreamId> = (0..3).map(|_| raw.open_stream("chat")).collect();
        for _ in 0..100 {
            let protocol = (naming == Naming::Negotiated).then(|| profile.stream_id(name("chat")));
            let id = raw.accept(protocol);
            assert!(raw.was_reset(id, ResetCode::LimitReached));
        }
        assert!(parked.iter().all(|id| !raw.was_reset(*id, ResetCode::LimitReached)));
        raw.prepare(&["chat"]);
        raw.finalize();
        let message = raw.message(b"on the first");
        raw.feed(parked[0], &message);
        assert_eq!(raw.received("chat"), ["on the first"]);
        raw.node_is_usable();
    }
}

/// Who proposes another later, once streams are prepared, loses nothing.
#[test]
fn few_substreams_wait_for_their_stream_to_be_prepared() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &["chat"]));
        let stream = profile.stream_id(name("chat"));
        let most = raw.node.config().max_parked;
        let parked: Vec<SubstreamId> = (0..most).map(|_| raw.open_stream("chat")).collect();
        assert!(!raw.session.protocols().contains(&stream));
        if naming == Naming::Negotiated {
            // The transport may have agreed on some more at the same time.
            for at in 0..100 {
                let id = raw.accept(Some(stream.clone()));
                assert_eq!(raw.was_refused(id), at >= most, "{at}");
            }
        } else {
            let id = raw.open(stream.clone());
            assert!(raw.was_refused(id));
        }
        assert!(parked.iter().all(|id| !raw.was_refused(*id)));
        raw.prepare(&["chat"]);
        assert!(raw.session.protocols().contains(&stream));
        raw.open_stream("chat");
        raw.finalize();
        raw.node_is_usable();
    }
}

/// In v2 each is an instance, of which few wait behind the one that is read.
#[test]
fn few_instances_wait_unread_for_the_session_to_be_established() {
    let now = Instant::ZERO;
    let mut node = node(A, |config| {
        (config.profiles, config.max_parked) = (vec![Profile::V2], 100);
    });
    let mut session = accept(&mut node, now, key(B), Origin::Accepted);
    let _ = session.handle_accepted(now, Some(Profile::V2.handshake_id()));
    exchange(&mut node, now, &mut [&mut session]);
    for at in 0..10 {
        let id = session.handle_accepted(now, Some(Profile::V2.stream_id(name("chat"))));
        let is_reset =
            |action| matches!(action, Action::Reset { substream, .. } if substream == id);
        let was_reset = std::iter::from_fn(|| session.poll_action()).any(is_reset);
        assert_eq!(was_reset, at >= 3, "{at}");
    }
}

#[test]
fn the_limit_leaves_room_for_our_own_and_bounds_them_too() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        (config.max_streams, config.max_substreams) = (2, 4);
        let mut raw = Raw::established(naming, config, &["chat"]);
        let mut opened = 0;
        // The peer refuses to read each substream and never ends its half.
        for round in 0..50_u8 {
            raw.send("chat", &[round]);
            let is_opening =
                raw.actions.iter().any(|action| matches!(action, Action::OpenSubstream { .. }));
            if is_opening {
                opened += 1;
                let id = raw.agree(&profile.stream_id(name("chat")));
                raw.written(id);
                raw.end(id, SubstreamEnd::Stopped);
            }
            raw.wait(Duration::from_secs(1));
        }
        assert_eq!(opened, 4);
        assert!(raw.session.queued(&name("chat")).0 > 0);
        raw.carries_messages_towards("chat");
    }
}

#[test]
fn a_substream_that_nobody_names_is_given_up() {
    let (mut raw, _) = Raw::connected(Naming::Preamble, config(&["chat"]));
    let id = raw.accept(None);
    raw.feed(id, b"\x1c/glueberry");
    raw.wait(Duration::from_secs(10));
    assert!(raw.was_reset(id, ResetCode::Refused));
    assert!(!raw.session.is_closed());
    raw.node_is_usable();
}

#[test]
fn a_refused_substream_that_never_ends_is_given_up() {
    let (mut raw, _) = Raw::connected(Naming::Preamble, config(&["chat"]));
    let id = raw.open(Profile::V1.stream_id(name("nobody")));
    raw.feed(id, b"and on");
    raw.wait(Duration::from_secs(10));
    assert!(raw.was_reset(id, ResetCode::Refused));
    raw.node_is_usable();
}

#[test]
fn a_named_substream_without_a_handshake_gets_one_handshake_substream_from_us() {
    for naming in BOTH {
        let mut raw = Raw::inbound(naming, config(&["chat", "other"]));
        raw.open(Profile::V1.stream_id(name("chat")));
        let (id, protocols) = raw.opening();
        assert_eq!(protocols, [Profile::V1, Profile::V1Go].map(Profile::handshake_id));
        raw.session.handle_opened(raw.now, id, None);
        raw.open(Profile::V1.stream_id(name("other")));
        let again = |action: &Action| matches!(action, Action::OpenSubstream { .. });
        assert!(!raw.actions.iter().any(again), "{:?}", raw.actions);
    }
}

#[test]
fn inputs_about_substreams_that_do_not_exist_do_nothing() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        let mut other = Raw::chat(naming, profile);
        for _ in 0..5 {
            other.open_stream("chat");
        }
        let foreign = other.open_stream("chat");
        raw.events();
        raw.actions.clear();
        let mut buf = BytesMut::from(&b"whose is this?"[..]);
        assert_eq!(raw.ingest(foreign, &mut buf), Ingest::Discard);
        assert!(buf.is_empty());
        let ends = [
            SubstreamEnd::Finished,
            SubstreamEnd::Reset,
            SubstreamEnd::Stopped,
            SubstreamEnd::Aborted,
        ];
        for end in ends {
            raw.session.handle_substream_end(raw.now, foreign, end, b"unread");
        }
        raw.session.handle_opened(raw.now, foreign, Some(profile.handshake_id()));
        raw.session.handle_open_failed(raw.now, foreign, OpenError::Refused);
        raw.acknowledge(foreign);
        assert_eq!(raw.session.poll_write(foreign, &mut buf, 100), 0);
        assert!(raw.actions.is_empty() && raw.events().is_empty());
        raw.carries_messages("chat");
    }
}

#[test]
fn a_proposal_and_the_first_message_may_come_together() {
    let mut raw = Raw::chat(Naming::Preamble, Profile::V1);
    let id = raw.accept(None);
    let mut bytes = BytesMut::new();
    emit_proposal(&Profile::V1.stream_id(name("chat")), &mut bytes);
    let record = raw.record(b"at once");
    bytes.extend_from_slice(&frame(Profile::V1, &record));
    raw.feed(id, &bytes);
    assert_eq!(raw.received("chat"), ["at once"]);
}

#[test]
fn a_full_queue_towards_a_peer_that_does_not_read_says_so() {
    for (naming, profile) in each_wire() {
        let mut config = only(profile, &["chat"]);
        (config.high_watermark, config.low_watermark) = (3, 1);
        let mut raw = Raw::established(naming, config, &["chat"]);
        for _ in 0..3 {
            raw.send("chat", b"x");
        }
        let refused = raw.session.send(raw.now, &name("chat"), "x".into());
        assert_eq!(refused, Err(SendError::Backpressure));
        assert_eq!(raw.session.queued(&name("chat")), (3, 3));
        raw.node_is_usable();
    }
}
