//! Bad input on handshake substreams.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::wire::FrameError;
use glueberry_proto::{
    CloseReason, ConnectionState, Event, Ingest, Naming, PeerMisbehaved, Profile, READ_CHUNK,
    SubstreamEnd,
};

use super::{MALFORMED_FRAMES, each_wire, ended_for, only};
use crate::support::{BOTH, Raw, config, frame};

const LIMIT: usize = 64 * 1024;

#[test]
fn an_oversize_frame_is_refused_by_its_header() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        let whole = frame(profile, &vec![0; LIMIT + 2000]);
        raw.feed(handshake, &whole[..8]);
        assert!(raw.buffers[&handshake].is_read_over());
        let announced = match profile {
            Profile::V1 => LIMIT + 2000,
            // What the outer varint counts.
            _ => LIMIT + 2003,
        };
        let announced = u64::try_from(announced).unwrap();
        ended_for(raw, PeerMisbehaved::MessageTooLarge { stream: None, announced, limit: LIMIT });
    }
}

#[test]
fn the_longest_message_is_heard() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        let message = vec![5; LIMIT];
        raw.feed(handshake, &frame(profile, &message));
        assert_eq!(raw.heard(), [message]);
        raw.node_is_usable();
    }
}

#[test]
fn malformed_frames_end_the_session() {
    for naming in BOTH {
        for (bytes, error) in MALFORMED_FRAMES {
            let (mut raw, handshake) = Raw::connected(naming, only(Profile::V1Go, &[]));
            raw.feed(handshake, bytes);
            ended_for(raw, PeerMisbehaved::BadFrame { stream: None, error });
        }
    }
}

#[test]
fn a_frame_cut_off_by_a_clean_end_ends_the_session() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        let whole = frame(profile, b"only half of this");
        raw.feed(handshake, &whole[..whole.len() / 2]);
        raw.end(handshake, SubstreamEnd::Finished);
        let error = FrameError::Truncated;
        ended_for(raw, PeerMisbehaved::BadFrame { stream: None, error });
    }
}

#[test]
fn a_reset_inside_a_frame_is_no_misbehaviour() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        raw.feed(handshake, &frame(profile, b"only half of this")[..5]);
        raw.end(handshake, SubstreamEnd::Aborted);
        assert!(!raw.session.is_closed());
        raw.wait(Duration::from_secs(10));
        assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
        raw.node_is_usable();
    }
}

#[test]
fn two_handshake_protocols_end_the_session() {
    for naming in BOTH {
        let (mut raw, _) = Raw::connected(naming, config(&[]));
        assert_eq!(raw.session.profile(), Some(Profile::V1));
        // The first has ended, so that there could be another.
        let first = *raw.buffers.keys().next().unwrap();
        raw.end(first, SubstreamEnd::Finished);
        raw.open_badly(Profile::V1Go.handshake_id());
        ended_for(raw, PeerMisbehaved::TwoHandshakeProtocols);
    }
}

#[test]
fn the_other_protocol_on_a_second_substream_of_ours_ends_the_session() {
    for naming in BOTH {
        let mut raw = Raw::outbound(naming, config(&[]));
        raw.open(Profile::V1Go.handshake_id());
        match naming {
            Naming::Negotiated => {
                let (id, protocols) = raw.opening();
                raw.session.handle_opened(raw.now, id, Some(protocols[0].clone()));
                raw.settle();
            }
            _ => _ = raw.agree(&Profile::V1.handshake_id()),
        }
        ended_for(raw, PeerMisbehaved::TwoHandshakeProtocols);
    }
}

#[test]
fn a_second_handshake_substream_is_refused_while_the_first_lives() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        let second = raw.open(profile.handshake_id());
        assert!(raw.was_refused(second));
        raw.feed(handshake, &frame(profile, b"still here"));
        assert_eq!(raw.heard(), ["still here"]);
        raw.node_is_usable();
    }
}

#[test]
fn a_handshake_substream_after_established_is_refused() {
    for (naming, profile) in each_wire() {
        let mut raw = Raw::chat(naming, profile);
        assert!(!raw.session.protocols().contains(&profile.handshake_id()));
        let late = raw.open(profile.handshake_id());
        assert!(raw.was_refused(late));
        assert!(raw.session.is_established());
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_handshake_message_after_finalize_is_no_error() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &["chat"]));
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.feed(handshake, &frame(profile, b"complete, but late"));
        raw.end(handshake, SubstreamEnd::Finished);
        assert!(raw.session.is_established());
        assert!(raw.heard().is_empty());
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn what_was_said_before_finalize_goes_out_although_the_peer_speaks_first() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &["chat"]));
        raw.prepare(&["chat"]);
        raw.session.send_handshake(raw.now, Bytes::from_static(b"complete")).unwrap();
        raw.finalize();
        raw.feed(handshake, &frame(profile, b"complete, too"));
        assert_eq!(raw.said(handshake), [b"complete"]);
        raw.node_is_usable();
    }
}

#[test]
fn half_a_handshake_message_at_finalize_is_no_error() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &["chat"]));
        raw.prepare(&["chat"]);
        raw.feed(handshake, &frame(profile, b"never to be whole")[..9]);
        raw.finalize();
        raw.end(handshake, SubstreamEnd::Finished);
        assert!(raw.session.is_established(), "{:?}", raw.events());
        raw.carries_messages("chat");
    }
}

#[test]
fn a_flood_of_handshake_bytes_after_finalize_costs_the_substream_only() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &["chat"]));
        raw.prepare(&["chat"]);
        raw.finalize();
        for _ in 0..2 {
            raw.feed(handshake, &[0; LIMIT / 2]);
            assert!(!raw.buffers[&handshake].is_read_over());
        }
        raw.feed(handshake, &[0; 1]);
        assert!(raw.buffers[&handshake].is_read_over());
        assert!(raw.was_reset(handshake, glueberry_proto::ResetCode::Refused));
        raw.carries_messages("chat");
        raw.node_is_usable();
    }
}

#[test]
fn a_flood_of_handshake_messages_is_left_unread() {
    for (naming, profile) in each_wire() {
        let (mut raw, handshake) = Raw::connected(naming, only(profile, &[]));
        let message = frame(profile, &[7; 1000]);
        let mut fed = 0;
        while raw.buffers[&handshake].wants_read() {
            raw.feed(handshake, &message);
            fed += 1;
            assert!(fed < 200, "nothing stops the peer");
        }
        let mut buf = message.as_slice().into();
        assert_eq!(raw.ingest(handshake, &mut buf), Ingest::Paused);
        assert_eq!(buf.len(), message.len());
        assert!(fed * 1000 <= LIMIT + 1000 + READ_CHUNK);
        assert_eq!(raw.heard().len(), fed);
        assert!(raw.buffers[&handshake].wants_read());
        raw.node_is_usable();
    }
}

#[test]
fn many_empty_handshake_messages_are_left_unread_too() {
    let (mut raw, handshake) = Raw::connected(BOTH[0], only(Profile::V1, &[]));
    raw.feed(handshake, &frame(Profile::V1, b"").repeat(10_000));
    assert!(!raw.buffers[&handshake].wants_read());
    assert_eq!(raw.heard().len(), 10_000);
    raw.node_is_usable();
}

#[test]
fn a_rejected_handshake_ends_in_cooldown() {
    for (naming, profile) in each_wire() {
        let (mut raw, _) = Raw::connected(naming, only(profile, &[]));
        raw.session.reject_handshake(raw.now, "wrong version");
        raw.settle();
        assert_eq!(raw.closed().reason, CloseReason::Rejected("wrong version".to_owned()));
        assert_eq!(raw.node.state(raw.peer), ConnectionState::Cooldown);
        raw.node_is_usable();
    }
}

#[test]
fn a_session_that_nobody_agrees_on_times_out() {
    for naming in BOTH {
        let mut raw = Raw::outbound(naming, config(&[]));
        raw.wait(Duration::from_secs(10));
        assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
        raw.node_is_usable();
        let mut raw = Raw::inbound(naming, config(&[]));
        raw.wait(Duration::from_secs(60));
        assert_eq!(raw.closed().reason, CloseReason::HandshakeTimeout);
        raw.node_is_usable();
    }
}

#[test]
fn events_of_a_flood_are_few_although_nobody_takes_them() {
    let (mut raw, handshake) = Raw::connected(BOTH[0], only(Profile::V1, &[]));
    for _ in 0..10_000 {
        raw.feed(handshake, &frame(Profile::V1, b"x"));
        assert_eq!(raw.heard(), ["x"]);
    }
    assert_eq!(raw.events(), [Event::HandshakeReadable]);
}
