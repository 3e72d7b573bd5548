//! What goes out again, as a Go node wants it, when the substream that it went out on is reset.

use std::time::Duration;

use glueberry_proto::{ConnectionLost, Event, Naming, Profile, SubstreamEnd};

use crate::substreams::{interrupted, only, written_on_own};
use crate::support::{Raw, name};

#[test]
fn a_go_node_that_resets_in_favour_of_its_own_substream_gets_everything_there() {
    // A transport may tell of both halves at once, or of one after the other.
    for ends in [&[SubstreamEnd::Aborted][..], &[SubstreamEnd::Reset, SubstreamEnd::Stopped]] {
        let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
        let peers = raw.open_stream("chat");
        raw.send("chat", b"three");
        for end in ends {
            raw.end(own, *end);
            assert!(!raw.was_finished(own));
        }
        raw.send("chat", b"four");
        assert_eq!(raw.sent(peers), [&b"one"[..], b"two", b"three", b"four"]);
        assert!(raw.events().is_empty());
        raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
        assert_eq!(raw.closed().in_doubt, 4);
    }
}

/// So it is known again by whoever had read it: see the next one.
#[test]
fn what_goes_out_again_is_sealed_no_second_time() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1Go);
    raw.send("chat", b"one");
    raw.send("chat", b"two");
    let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    let first = raw.written(own);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert_eq!(raw.written(peers), first);
}

/// Go nodes reset a substream unread in favour of their own; a node of ours had perhaps read from
/// it when it broke, and the peer cannot tell.
#[test]
fn what_was_read_before_its_substream_broke_is_not_delivered_again() {
    for read in 0..=3 {
        let mut raw = Raw::chat(Naming::Negotiated, Profile::V1Go);
        raw.send("chat", b"ours");
        let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
        raw.sent(own);
        let messages: Vec<Vec<u8>> = [&b"0"[..], b"1", b"2", b"3"].map(|m| raw.message(m)).into();
        let peers = raw.open_stream("chat");
        for message in &messages[..read] {
            raw.feed(peers, message);
        }
        raw.end(peers, SubstreamEnd::Aborted);
        raw.feed(own, &messages.concat());
        assert_eq!(raw.received("chat"), ["0", "1", "2", "3"], "{read} were read");
        // It has come back to where it was: what follows is new.
        let again = raw.message(b"4");
        raw.feed(own, &again);
        assert_eq!(raw.received("chat"), ["4"]);
        let is_rejection = |event: &Event| matches!(event, Event::RecordRejected { .. });
        assert!(!raw.events().iter().any(is_rejection));
    }
}

#[test]
fn messages_are_in_doubt_if_the_session_ends_before_they_have_gone_out_again() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    raw.open_stream("chat");
    raw.send("chat", b"three");
    raw.end(own, SubstreamEnd::Aborted);
    raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
    let closed = raw.closed();
    assert_eq!((closed.unsent, closed.in_doubt), (1, 2));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["three"]);
}

/// Over TCP the reset of ours comes before the Go node writes on its own, and so shows it.
#[test]
fn what_was_reset_before_the_peers_substream_shows_waits_for_it() {
    for ends in [&[SubstreamEnd::Aborted][..], &[SubstreamEnd::Reset, SubstreamEnd::Stopped]] {
        let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
        for end in ends {
            raw.end(own, *end);
        }
        raw.send("chat", b"three");
        raw.wait(Duration::from_millis(900));
        assert_eq!(raw.session.queued(&name("chat")), (3, 11));
        let peers = raw.open_stream("chat");
        raw.send("chat", b"four");
        assert_eq!(raw.sent(peers), [&b"one"[..], b"two", b"three", b"four"]);
        assert!(raw.events().is_empty());
    }
}

#[test]
fn messages_are_in_doubt_if_the_peers_substream_does_not_come() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    raw.end(own, SubstreamEnd::Aborted);
    raw.send("chat", b"three");
    assert_eq!(raw.session.queued(&name("chat")), (3, 11));
    raw.wait(Duration::from_secs(1));
    assert_eq!(raw.events(), [interrupted(2)]);
    let again = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [b"three"]);
}

/// A Go node that adopts our substream ends its own, which was on its way.
#[test]
fn what_was_written_on_a_spare_substream_of_the_peer_goes_out_again() {
    let ends = [
        &[SubstreamEnd::Finished][..],
        &[SubstreamEnd::Stopped, SubstreamEnd::Finished],
        &[SubstreamEnd::Aborted],
    ];
    for ends in ends {
        let mut raw = Raw::chat(Naming::Negotiated, Profile::V1Go);
        raw.events();
        let spare = raw.open_stream("chat");
        raw.send("chat", b"one");
        raw.send("chat", b"two");
        assert_eq!(raw.sent(spare), [b"one", b"two"]);
        for end in ends {
            raw.end(spare, *end);
        }
        let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
        assert_eq!(raw.sent(own), [b"one", b"two"]);
        assert!(raw.events().is_empty());
    }
}

#[test]
fn what_is_to_go_out_again_survives_the_end_of_the_other_substream() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    raw.end(peers, SubstreamEnd::Aborted);
    let again = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [b"one", b"two"]);
    // And once more, after it has gone out again.
    let peers = raw.open_stream("chat");
    raw.end(again, SubstreamEnd::Aborted);
    assert_eq!(raw.sent(peers), [b"one", b"two"]);
    assert!(raw.events().is_empty());
}

#[test]
fn messages_are_in_doubt_once_the_peer_has_answered_on_their_substream() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    let answer = raw.message(b"answer");
    raw.feed(own, &answer);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert!(raw.sent(peers).is_empty());
    assert!(raw.events().contains(&interrupted(2)));
}

#[test]
fn messages_are_in_doubt_once_they_have_settled() {
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one", b"two"]);
    assert_eq!(raw.session.poll_timeout(), Some(raw.now + Duration::from_secs(1)));
    raw.wait(Duration::from_secs(1));
    assert_eq!(raw.session.poll_timeout(), None);
    raw.send("chat", b"three");
    assert_eq!(raw.sent(own), [b"three"]);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert!(raw.sent(peers).is_empty());
    assert_eq!(raw.events(), [interrupted(3)]);
}

#[test]
fn messages_are_in_doubt_at_once_if_the_profile_is_the_documents() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.end(own, SubstreamEnd::Aborted);
    assert_eq!(raw.events(), [interrupted(1)]);
    raw.send("chat", b"two");
    let again = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [b"two"]);
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert!(raw.sent(peers).is_empty());
    assert_eq!(raw.events(), [interrupted(1)]);
}

#[test]
fn more_than_is_kept_for_repeating_is_in_doubt_as_a_whole() {
    let mut config = only(Profile::V1Go);
    (config.high_watermark, config.low_watermark) = (4, 2);
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    raw.events();
    raw.send("chat", b"0");
    let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    for number in 1..6_u8 {
        raw.sent(own);
        raw.send("chat", &[number]);
    }
    raw.sent(own);
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert!(raw.sent(peers).is_empty());
    assert_eq!(raw.events(), [interrupted(6)]);
}

#[test]
fn what_goes_out_again_counts_against_the_queue() {
    let mut config = only(Profile::V1Go);
    (config.high_watermark, config.low_watermark) = (4, 2);
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    for number in 0..3_u8 {
        raw.send("chat", &[number]);
    }
    let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    raw.written(own);
    for number in 3..6_u8 {
        raw.send("chat", &[number]);
    }
    let peers = raw.open_stream("chat");
    raw.end(own, SubstreamEnd::Aborted);
    assert_eq!(raw.session.queued(&name("chat")).0, 6);
    let refused = raw.session.send(raw.now, &name("chat"), "x".into());
    assert_eq!(refused, Err(glueberry_proto::SendError::Backpressure));
    assert_eq!(raw.sent(peers).len(), 6);
    raw.send("chat", b"x");
}

/// Nothing is left to be written then, which else makes room.
#[test]
fn a_queue_that_only_repeats_have_filled_accepts_again_when_they_are_given_up() {
    let mut config = only(Profile::V1Go);
    (config.high_watermark, config.low_watermark) = (4, 2);
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    for number in 0..4_u8 {
        raw.send("chat", &[number]);
    }
    let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
    assert_eq!(raw.sent(own).len(), 4);
    raw.events();
    raw.end(own, SubstreamEnd::Aborted);
    let refused = raw.session.send(raw.now, &name("chat"), "x".into());
    assert_eq!(refused, Err(glueberry_proto::SendError::Backpressure));
    raw.wait(Duration::from_secs(1));
    assert_eq!(raw.events(), [interrupted(4), Event::Writable { stream: name("chat") }]);
    raw.send("chat", b"x");
}

/// What was to go out again is given up with the rest, and counted.
#[test]
fn a_stream_that_is_refused_holds_nothing_to_go_out_again() {
    let mut config = only(Profile::V1Go);
    config.max_stream_attempts = 2;
    let mut raw = Raw::established(Naming::Negotiated, config, &["chat"]);
    raw.events();
    let spare = raw.open_stream("chat");
    raw.send("chat", b"one");
    assert_eq!(raw.sent(spare), [b"one"]);
    raw.end(spare, SubstreamEnd::Finished);
    raw.end(spare, SubstreamEnd::Stopped);
    raw.send("chat", b"two");
    for _ in 0..2 {
        raw.refuse();
        raw.wait(Duration::from_millis(100));
    }
    let refused = Event::StreamRefused { stream: name("chat"), unsent: 1 };
    assert_eq!(raw.events(), [interrupted(1), refused]);
    assert_eq!(raw.session.queued(&name("chat")), (0, 0));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["two"]);
    // And counted once.
    raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
    assert_eq!(raw.closed().in_doubt, 1);
}
