//! What a substream leaves behind when it is refused, broken or over: places, waits, counts.

use std::time::Duration;

use glueberry_proto::{
    Action, CloseReason, Naming, Profile, ResetCode, SubstreamBuffer, SubstreamEnd, Timer, Waiting,
};

use crate::substreams::{dialled, interrupted, only, written_on_own};
use crate::support::{BOTH, Raw, config, frame, name};

fn is_opening(raw: &Raw) -> bool {
    raw.actions.iter().any(|action| matches!(action, Action::OpenSubstream { .. }))
}

/// Both halves have ended, in whichever order: its place is free.
#[test]
fn substreams_that_are_over_hold_no_places() {
    for naming in BOTH {
        for is_acknowledged_first in [true, false] {
            let mut config = only(Profile::V1);
            (config.max_streams, config.max_substreams) = (1, 2);
            let mut raw = Raw::established(naming, config, &["chat"]);
            for _ in 0..10 {
                let id = raw.open_stream("chat");
                assert!(!raw.was_reset(id, ResetCode::LimitReached));
                let message = raw.message(b"theirs");
                raw.feed(id, &message);
                assert_eq!(raw.received("chat"), ["theirs"]);
                if is_acknowledged_first {
                    // This side's half may end first where it was refused, or is stopped.
                    raw.end(id, SubstreamEnd::Stopped);
                    raw.end(id, SubstreamEnd::Finished);
                } else {
                    raw.end(id, SubstreamEnd::Finished);
                    raw.written(id);
                    raw.acknowledge(id);
                }
            }
        }
    }
}

/// The time that a refused substream has to end begins with its refusal.
#[test]
fn a_refused_substream_has_its_whole_time_to_end() {
    let (mut raw, _) = Raw::connected(Naming::Preamble, config(&["chat"]));
    let id = raw.accept(None);
    raw.wait(Duration::from_secs(9));
    raw.feed(id, b"\x10/ipfs/ping/1.0.0");
    assert!(raw.was_finished(id));
    raw.wait(Duration::from_millis(9_999));
    assert!(!raw.was_reset(id, ResetCode::Refused));
    raw.wait(Duration::from_millis(1));
    assert!(raw.was_reset(id, ResetCode::Refused));
}

/// A peer that has read that it is refused may reset its half, and acknowledges nothing then.
#[test]
fn a_refused_substream_that_the_peer_has_left_holds_no_place() {
    for is_written_first in [true, false] {
        let mut config = config(&["chat"]);
        (config.max_streams, config.max_substreams) = (1, 2);
        let (mut raw, _) = Raw::connected(Naming::Preamble, config);
        for _ in 0..10 {
            let id = raw.accept(None);
            assert!(!raw.was_reset(id, ResetCode::LimitReached));
            raw.feed(id, b"\x10/ipfs/ping/1.0.0");
            assert!(raw.was_finished(id));
            if is_written_first {
                raw.written(id);
                raw.end(id, SubstreamEnd::Reset);
            } else {
                raw.end(id, SubstreamEnd::Reset);
                assert!(!raw.written(id).is_empty(), "it is told all the same");
            }
        }
        assert!(raw.session.next_timer().is_none());
    }
}

/// Only a peer that ends its half in order has said all that it has to say.
#[test]
fn a_handshake_substream_that_is_reset_does_not_end_the_peers_handshake() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1);
    raw.prepare(&["chat"]);
    raw.finalize();
    raw.end(own, SubstreamEnd::Reset);
    raw.events();
    raw.send("chat", b"one");
    raw.refuse();
    assert!(raw.events().is_empty(), "it may yet prepare the stream");
    assert!(matches!(raw.session.next_timer(), Some((_, Timer::Retry(_)))));
}

/// A peer that has had the stream is leaving when it refuses another substream of it.
#[test]
fn a_stream_that_was_agreed_once_is_not_given_up_at_a_refusal() {
    for is_own in [true, false] {
        let (mut raw, handshake) = Raw::connected(Naming::Negotiated, only(Profile::V1));
        raw.prepare(&["chat"]);
        raw.finalize();
        raw.end(handshake, SubstreamEnd::Finished);
        if is_own {
            raw.send("chat", b"one");
            let own = raw.agree(&Profile::V1.stream_id(name("chat")));
            assert_eq!(raw.sent(own), [b"one"]);
            raw.end(own, SubstreamEnd::Aborted);
        } else {
            let peers = raw.open_stream("chat");
            raw.end(peers, SubstreamEnd::Aborted);
        }
        raw.events();
        raw.send("chat", b"two");
        raw.refuse();
        assert!(raw.events().is_empty(), "own {is_own}");
        assert!(matches!(raw.session.next_timer(), Some((_, Timer::Retry(_)))));
    }
}

/// What follows need not wait for another substream where the peer's is there.
#[test]
fn what_waits_behind_a_substream_that_breaks_goes_out_at_once_on_the_peers() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    let peers = raw.open_stream("chat");
    raw.send("chat", b"two");
    raw.end(own, SubstreamEnd::Stopped);
    assert_eq!(raw.sent(peers), [b"two"]);
    assert!(!is_opening(&raw));
    assert_eq!(raw.events(), [interrupted(1)]);
}

/// A Go node that ends its half of ours has read what is on it.
#[test]
fn what_was_written_on_ours_stays_there_when_a_go_node_ends_its_half() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one"]);
    raw.end(own, SubstreamEnd::Finished);
    assert!(!is_opening(&raw));
    let peers = raw.open_stream("chat");
    raw.send("chat", b"two");
    let sent = [raw.sent(own), raw.sent(peers)].concat();
    assert_eq!(sent, [b"two"], "nothing goes out twice");
}

/// The session's end has the sum of what each loss has told.
#[test]
fn what_was_to_go_out_again_in_vain_is_in_doubt_at_the_end() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    raw.end(own, SubstreamEnd::Aborted);
    raw.wait(Duration::from_secs(1));
    assert_eq!(raw.events(), [interrupted(2)]);
    raw.session.close(raw.now);
    raw.settle();
    assert_eq!(raw.closed().in_doubt, 2);
    // So it is if the stream is given up meanwhile.
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one"]);
    raw.end(own, SubstreamEnd::Aborted);
    raw.session.close(raw.now);
    raw.settle();
    raw.wait(Duration::from_secs(5));
    assert_eq!(raw.closed().in_doubt, 1);
}

/// A session that drains goes on with that, whoever asks again.
#[test]
fn a_second_close_does_not_end_what_the_first_has_begun() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.send("chat", b"two");
    for _ in 0..3 {
        raw.session.close(raw.now);
        raw.settle();
        raw.wait(Duration::from_secs(1));
        assert!(!raw.session.is_closed());
    }
    assert_eq!(raw.sent(own), [b"two"]);
    raw.wait(Duration::from_secs(2));
    assert!(raw.session.is_closed(), "five seconds after the first");
}

/// What the driver has not done may be why nothing was agreed in time.
#[test]
fn a_handshake_substream_that_the_driver_never_opens_is_blamed_on_it() {
    let mut raw = Raw::outbound(Naming::Negotiated, only(Profile::V1));
    let (id, _) = raw.opening();
    raw.wait(Duration::from_secs(10));
    let closed = raw.closed();
    assert_eq!(closed.reason, CloseReason::HandshakeLost);
    assert_eq!(closed.owed.map(|owed| owed.waiting), Some(Waiting::Opened(id)));
}

/// The end of the peer's half comes behind all that was sent before, though nobody reads that yet.
#[test]
fn an_end_waits_for_what_is_before_it() {
    for profile in [Profile::V1, Profile::V1Go] {
        let mut config = only(profile);
        config.receive_queue = 1;
        let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
        let id = raw.open_stream("chat");
        let all = [b"one", b"two"].map(|message| raw.message(message)).concat();
        raw.feed(id, &all);
        raw.end(id, SubstreamEnd::Finished);
        assert!(!raw.session.is_closed());
        assert_eq!(raw.received("chat"), ["one", "two"]);
        assert!(raw.was_finished(id));
    }
}

/// A half that broke has no place for what was to be written on it.
#[test]
fn nothing_is_left_to_be_written_on_a_half_that_was_stopped() {
    for end in [SubstreamEnd::Stopped, SubstreamEnd::Aborted] {
        let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
        raw.send("chat", b"one");
        let own = raw.agree(&Profile::V1.stream_id(name("chat")));
        let mut buffer = SubstreamBuffer::new(own);
        assert!(buffer.chunk(&mut raw.session).is_some());
        buffer.ended(&mut raw.session, raw.now, end);
        assert_eq!(buffer.chunk(&mut raw.session), None);
    }
}

/// It is read on once half of the queue is free, and not with each message that is taken.
#[test]
fn a_full_queue_is_read_on_when_half_of_it_is_free() {
    let mut config = only(Profile::V1);
    config.receive_queue = 4;
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    let id = raw.open_stream("chat");
    let all: Vec<Vec<u8>> = (0..9).map(|number| raw.message(&[number])).collect();
    raw.feed(id, &all.concat());
    for is_read in [false, true] {
        assert!(raw.session.poll_message(&name("chat")).is_some());
        raw.settle();
        let resumes = |action: &Action| matches!(action, Action::ResumeRead(of) if *of == id);
        assert_eq!(raw.actions.iter().any(resumes), is_read);
    }
}

/// What was not read of the handshake is dropped when that is over, and must not wait for ever.
#[test]
fn a_handshake_substream_that_was_paused_is_read_to_its_end() {
    let mut config = only(Profile::V1);
    config.max_handshake_size = 100;
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
    let message = frame(Profile::V1, &[7; 60]);
    raw.feed(handshake, &[&message[..]; 3].concat());
    raw.prepare(&["chat"]);
    raw.finalize();
    let resumes = |action: &Action| matches!(action, Action::ResumeRead(of) if *of == handshake);
    assert!(raw.actions.iter().any(resumes));
    raw.end(handshake, SubstreamEnd::Finished);
    raw.carries_messages("chat");
}
