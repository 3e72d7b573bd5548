//! Which substream carries what: two of one name, resets, repeats, ends.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{
    Action, CloseReason, Config, ConnectionLost, Event, Naming, Profile, ResetCode, SubstreamEnd,
    SubstreamId,
};

use crate::support::{BOTH, Raw, config, frame, name};

pub(crate) fn only(profile: Profile) -> Config {
    let mut config = config(&["chat"]);
    config.profiles = vec![profile];
    config
}

fn say(raw: &mut Raw, message: &'static [u8]) {
    raw.session.send_handshake(raw.now, Bytes::from_static(message)).unwrap();
    raw.settle();
}

/// A session that we dialled, with its own handshake substream agreed.
pub(crate) fn dialled(naming: Naming, profile: Profile) -> (Raw, SubstreamId) {
    let mut raw = Raw::outbound(naming, only(profile));
    let own = raw.agree(&profile.handshake_id());
    (raw, own)
}

// ---- handshake substreams -----------------------------------------------------------------------

#[test]
fn what_was_said_on_a_substream_that_is_reset_is_said_again_on_the_peers() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let (mut raw, own) = dialled(naming, profile);
            say(&mut raw, b"one");
            say(&mut raw, b"two");
            assert_eq!(raw.said(own), [b"one", b"two"]);
            say(&mut raw, b"three");
            let peers = raw.open(profile.handshake_id());
            assert!(raw.said(peers).is_empty());
            raw.end(own, SubstreamEnd::Aborted);
            assert_eq!(raw.said(peers), [&b"one"[..], b"two", b"three"]);
            raw.wait(Duration::from_secs(15));
            assert!(!raw.session.is_closed());
        }
    }
}

#[test]
fn what_was_answered_is_not_said_again() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1);
    say(&mut raw, b"one");
    raw.written(own);
    raw.feed(own, &frame(Profile::V1, b"answer"));
    say(&mut raw, b"two");
    raw.written(own);
    let peers = raw.open(Profile::V1.handshake_id());
    raw.end(own, SubstreamEnd::Stopped);
    assert_eq!(raw.said(peers), [b"two"]);
}

#[test]
fn a_handshake_waits_for_the_peers_substream_after_its_own_was_reset() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1Go);
    say(&mut raw, b"one");
    raw.written(own);
    raw.end(own, SubstreamEnd::Aborted);
    raw.wait(Duration::from_secs(9));
    let peers = raw.open(Profile::V1Go.handshake_id());
    assert_eq!(raw.said(peers), [b"one"]);
    raw.end(peers, SubstreamEnd::Aborted);
    raw.wait(Duration::from_millis(9_999));
    assert!(!raw.session.is_closed());
    raw.wait(Duration::from_millis(1));
    assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
}

/// Over TCP its end is all that a Go node shows when it gives up a handshake.
#[test]
fn a_go_node_that_ends_the_handshake_before_streams_are_prepared_has_given_up() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1Go);
    say(&mut raw, b"one");
    raw.written(own);
    raw.end(own, SubstreamEnd::Finished);
    assert!(raw.was_finished(own));
    let peers = raw.open(Profile::V1Go.handshake_id());
    assert_eq!(raw.said(peers), [b"one"]);
    raw.end(peers, SubstreamEnd::Finished);
    raw.wait(Duration::from_secs(10));
    assert_eq!(raw.closed().reason, CloseReason::HandshakeLost);
    // Once they are, it ends its half because it has all that it needs.
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, only(Profile::V1Go));
    raw.prepare(&["chat"]);
    raw.end(handshake, SubstreamEnd::Finished);
    raw.wait(Duration::from_secs(10));
    raw.finalize();
    raw.carries_messages("chat");
}

#[test]
fn the_last_word_survives_a_reset_after_finalize() {
    for profile in [Profile::V1, Profile::V1Go] {
        let (mut raw, own) = dialled(Naming::Negotiated, profile);
        let peers = raw.open(profile.handshake_id());
        raw.prepare(&["chat"]);
        say(&mut raw, b"complete");
        raw.finalize();
        assert_eq!(raw.said(own), [b"complete"]);
        assert!(raw.was_finished(own) && !raw.was_finished(peers));
        raw.end(own, SubstreamEnd::Aborted);
        assert_eq!(raw.said(peers), [b"complete"]);
        assert!(raw.was_finished(peers));
        raw.acknowledge(peers);
        raw.end(peers, SubstreamEnd::Finished);
        raw.carries_messages("chat");
    }
}

#[test]
fn both_handshake_substreams_are_finished_once_all_was_said() {
    let (mut raw, own) = dialled(Naming::Negotiated, Profile::V1);
    let peers = raw.open(Profile::V1.handshake_id());
    raw.prepare(&["chat"]);
    say(&mut raw, b"complete");
    raw.finalize();
    assert_eq!(raw.said(own), [b"complete"]);
    raw.acknowledge(own);
    assert!(raw.was_finished(peers));
}

// ---- with Go nodes ------------------------------------------------------------------------------

/// An Established session that has written the given messages on a substream of its own.
pub(crate) fn written_on_own(profile: Profile, messages: &[&[u8]]) -> (Raw, SubstreamId) {
    let mut raw = Raw::chat(Naming::Negotiated, profile);
    raw.events();
    for message in messages {
        raw.send("chat", message);
    }
    let own = raw.agree(&profile.stream_id(name("chat")));
    assert_eq!(raw.sent(own), messages);
    (raw, own)
}

pub(crate) fn interrupted(in_doubt: u64) -> Event {
    Event::StreamInterrupted { stream: name("chat"), in_doubt }
}

#[test]
fn a_go_node_that_closes_its_own_substream_goes_on_with_ours() {
    for naming in BOTH {
        let mut raw = Raw::chat(naming, Profile::V1Go);
        raw.send("chat", b"mine");
        let own = raw.agree(&Profile::V1Go.stream_id(name("chat")));
        let peers = raw.open_stream("chat");
        raw.end(peers, SubstreamEnd::Finished);
        let theirs = raw.message(b"theirs");
        raw.feed(own, &theirs);
        assert_eq!(raw.received("chat"), ["theirs"]);
        assert_eq!(raw.sent(own), [b"mine"]);
    }
}

#[test]
fn a_go_node_that_sends_without_a_handshake_gets_one_and_loses_nothing() {
    for naming in BOTH {
        let mut raw = Raw::inbound(naming, only(Profile::V1Go));
        let early = raw.open_stream("chat");
        let message = raw.message(b"sent at once");
        raw.feed(early, &message);
        let ours = raw.agree(&Profile::V1Go.handshake_id());
        say(&mut raw, b"hello");
        assert_eq!(raw.said(ours), [b"hello"]);
        raw.feed(ours, &frame(Profile::V1Go, b"hello from go"));
        assert_eq!(raw.heard(), ["hello from go"]);
        raw.prepare(&["chat"]);
        raw.finalize();
        assert_eq!(raw.received("chat"), ["sent at once"]);
        raw.send("chat", b"answer");
        assert_eq!(raw.sent(early), [b"answer"]);
    }
}

// ---- two substreams of one name -----------------------------------------------------------------

#[test]
fn the_later_substream_of_the_peer_waits_for_the_end_of_the_earlier() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut raw = Raw::chat(naming, profile);
            let (first, second) = (raw.open_stream("chat"), raw.open_stream("chat"));
            let (one, two, three) = (raw.message(b"1"), raw.message(b"2"), raw.message(b"3"));
            raw.feed(second, &three);
            assert!(raw.received("chat").is_empty());
            raw.feed(first, &one);
            raw.feed(first, &two);
            assert_eq!(raw.received("chat"), ["1", "2"]);
            raw.end(first, SubstreamEnd::Finished);
            assert_eq!(raw.received("chat"), ["3"]);
            assert!(!raw.session.is_closed());
        }
    }
}

#[test]
fn a_substream_of_the_peer_that_ends_unused_holds_nothing_up() {
    for end in [SubstreamEnd::Finished, SubstreamEnd::Reset, SubstreamEnd::Aborted] {
        let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
        let (first, second) = (raw.open_stream("chat"), raw.open_stream("chat"));
        let message = raw.message(b"on the second");
        raw.feed(second, &message);
        raw.end(first, end);
        assert_eq!(raw.received("chat"), ["on the second"]);
    }
}

#[test]
fn the_peers_direction_moves_from_its_own_substream_to_ours_in_order() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"mine"]);
    let peers = raw.open_stream("chat");
    let (one, two) = (raw.message(b"1"), raw.message(b"2"));
    raw.feed(peers, &one);
    raw.feed(own, &two);
    assert_eq!(raw.received("chat"), ["1"]);
    assert!(!raw.buffers[&own].wants_read());
    raw.end(peers, SubstreamEnd::Finished);
    assert_eq!(raw.received("chat"), ["2"]);
}

#[test]
fn a_substream_of_the_peer_is_used_and_ours_is_not_opened() {
    for profile in [Profile::V1, Profile::V1Go] {
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        let peers = raw.open_stream("chat");
        raw.send("chat", b"mine");
        assert!(!raw.actions.iter().any(|action| matches!(action, Action::OpenSubstream { .. })));
        assert_eq!(raw.sent(peers), [b"mine"]);
        assert!(!raw.was_finished(peers));
    }
}

/// A Go node has asked for what is repeated on its substream, so there the queue goes out first.
#[test]
fn the_end_of_a_go_nodes_half_is_answered_behind_what_is_queued() {
    let profile = Profile::V1Go;
    let mut raw = Raw::chat(Naming::Negotiated, profile);
    let peers = raw.open_stream("chat");
    raw.send("chat", b"written");
    assert_eq!(raw.sent(peers), [b"written"]);
    let theirs = raw.message(b"theirs");
    raw.feed(peers, &theirs);
    raw.send("chat", b"queued");
    raw.end(peers, SubstreamEnd::Finished);
    assert!(raw.was_finished(peers));
    raw.send("chat", b"in time");
    assert_eq!(raw.sent(peers), [&b"queued"[..], b"in time"]);
    // The transport has been told that there is no more: what comes now waits for another.
    raw.send("chat", b"too late");
    assert!(raw.sent(peers).is_empty());
    raw.acknowledge(peers);
    let own = raw.agree(&profile.stream_id(name("chat")));
    assert_eq!(raw.sent(own), [b"too late"]);
    assert!(!raw.was_finished(own));
    assert!(!raw.events().contains(&interrupted(1)));
}

#[test]
fn a_peer_that_ends_its_half_and_reads_no_more_leaves_what_was_written_in_doubt() {
    for profile in [Profile::V1, Profile::V1Go] {
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        let peers = raw.open_stream("chat");
        raw.send("chat", b"written");
        assert_eq!(raw.sent(peers), [b"written"]);
        let theirs = raw.message(b"theirs");
        raw.feed(peers, &theirs);
        raw.end(peers, SubstreamEnd::Finished);
        assert!(raw.sent(peers).is_empty());
        raw.send("chat", b"too late");
        raw.end(peers, SubstreamEnd::Stopped);
        assert!(raw.events().contains(&interrupted(1)));
        raw.wait(Duration::from_secs(1));
        let own = raw.agree(&profile.stream_id(name("chat")));
        assert_eq!(raw.sent(own), [b"too late"]);
    }
}

#[test]
fn both_open_at_once_and_nobody_resets_anything() {
    for naming in BOTH {
        for profile in [Profile::V1, Profile::V1Go] {
            let mut raw = Raw::chat(naming, profile);
            raw.send("chat", b"mine");
            let peers = raw.open_stream("chat");
            let own = raw.agree(&profile.stream_id(name("chat")));
            assert_eq!(raw.sent(own), [b"mine"]);
            assert!(raw.sent(peers).is_empty());
            let theirs = raw.message(b"theirs");
            raw.feed(peers, &theirs);
            assert_eq!(raw.received("chat"), ["theirs"]);
            let reset = |action: &Action| matches!(action, Action::Reset { .. });
            assert!(!raw.actions.iter().any(reset));
        }
    }
}

#[test]
fn an_unused_half_is_finished_when_the_peer_ends_its_own() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let peers = raw.open_stream("chat");
    let message = raw.message(b"the only one");
    raw.feed(peers, &message);
    raw.end(peers, SubstreamEnd::Finished);
    assert!(raw.was_finished(peers));
    raw.acknowledge(peers);
    assert_eq!(raw.received("chat"), ["the only one"]);
    assert!(!raw.was_reset(peers, ResetCode::Refused));
}

// ---- the end ------------------------------------------------------------------------------------

#[test]
fn what_was_written_is_in_doubt_and_what_was_not_is_given_back() {
    for profile in [Profile::V1, Profile::V1Go] {
        let (mut raw, own) = written_on_own(profile, &[b"one", b"two"]);
        raw.send("chat", b"three");
        raw.session.handle_connection_lost(raw.now, ConnectionLost::Reset);
        let closed = raw.closed();
        assert_eq!((closed.unsent, closed.in_doubt), (1, 2));
        assert_eq!(closed.reason, CloseReason::ConnectionLost(ConnectionLost::Reset));
        assert_eq!(raw.session.take_unsent(&name("chat")), ["three"]);
        assert!(raw.sent(own).is_empty());
    }
}

#[test]
fn doubt_adds_up_over_substreams() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one", b"two"]);
    raw.end(own, SubstreamEnd::Stopped);
    raw.send("chat", b"three");
    let again = raw.agree(&Profile::V1.stream_id(name("chat")));
    raw.sent(again);
    raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
    assert_eq!(raw.closed().in_doubt, 3);
}

#[test]
fn a_drain_that_takes_too_long_says_what_remained() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one", b"two"]);
    raw.send("chat", b"three");
    raw.session.close(raw.now);
    raw.settle();
    assert!(raw.was_finished(own) && !raw.session.is_closed());
    raw.wait(Duration::from_secs(5));
    let closed = raw.closed();
    assert_eq!((closed.reason, closed.unsent, closed.in_doubt), (CloseReason::Disconnected, 1, 2));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["three"]);
}

#[test]
fn a_drain_opens_a_substream_for_what_is_queued_and_gives_up_if_refused() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    raw.send("chat", b"one");
    raw.session.close(raw.now);
    raw.settle();
    raw.refuse();
    raw.wait(Duration::from_millis(100));
    raw.refuse();
    raw.wait(Duration::from_millis(4_899));
    assert!(!raw.session.is_closed());
    raw.wait(Duration::from_millis(1));
    let closed = raw.closed();
    assert_eq!((closed.unsent, closed.in_doubt), (1, 0));
    assert_eq!(raw.session.take_unsent(&name("chat")), ["one"]);
}

#[test]
fn a_substream_that_breaks_while_draining_leaves_doubt_and_the_rest_goes_elsewhere() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.send("chat", b"two");
    raw.session.close(raw.now);
    raw.settle();
    raw.end(own, SubstreamEnd::Aborted);
    raw.wait(Duration::from_millis(100));
    let again = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [b"two"]);
    assert!(raw.was_finished(again));
    raw.acknowledge(again);
    raw.end(again, SubstreamEnd::Finished);
    let closed = raw.closed();
    assert_eq!((closed.unsent, closed.in_doubt), (0, 1));
}

/// The peer ends its half in answer; without that it would be in doubt about what it has sent.
#[test]
fn a_goodbye_is_waited_for_a_second_and_longer_only_while_something_comes() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.session.close(raw.now);
    raw.settle();
    assert!(raw.was_finished(own));
    raw.acknowledge(own);
    assert!(!raw.session.is_closed());
    raw.wait(Duration::from_millis(999));
    let late = raw.message(b"sent before the peer knew");
    raw.feed(own, &late);
    raw.wait(Duration::from_millis(999));
    assert!(!raw.session.is_closed());
    // What the peer begins now would not be read to its end.
    assert!(raw.session.protocols().is_empty());
    raw.wait(Duration::from_millis(1));
    let closed = raw.closed();
    assert_eq!((closed.reason, closed.in_doubt), (CloseReason::Disconnected, 0));
    assert_eq!(raw.received("chat"), ["sent before the peer knew"]);
}

#[test]
fn a_goodbye_is_over_with_the_answer_and_a_go_node_gives_none() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.session.close(raw.now);
    raw.settle();
    raw.acknowledge(own);
    raw.end(own, SubstreamEnd::Finished);
    assert_eq!(raw.closed().in_doubt, 0);
    let (mut raw, own) = written_on_own(Profile::V1Go, &[b"one"]);
    raw.session.close(raw.now);
    raw.settle();
    raw.acknowledge(own);
    assert_eq!(raw.closed().in_doubt, 0);
}

/// The peer reads no more, so this side's half ends behind what was written, and what comes next
/// waits for another substream.
#[test]
fn the_end_of_the_peers_half_is_answered_before_what_is_queued() {
    let (mut raw, own) = written_on_own(Profile::V1, &[b"one"]);
    raw.send("chat", b"two");
    raw.end(own, SubstreamEnd::Finished);
    raw.send("chat", b"three");
    assert!(raw.was_finished(own));
    assert!(raw.sent(own).is_empty());
    raw.acknowledge(own);
    let again = raw.agree(&Profile::V1.stream_id(name("chat")));
    assert_eq!(raw.sent(again), [&b"two"[..], b"three"]);
}

#[test]
fn a_connection_that_is_lost_while_draining_ends_what_was_asked_for() {
    let (mut raw, _) = written_on_own(Profile::V1, &[b"one"]);
    raw.session.close(raw.now);
    raw.settle();
    raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut);
    let closed = raw.closed();
    assert_eq!((closed.reason, closed.in_doubt), (CloseReason::Disconnected, 1));
}

#[test]
fn the_last_word_of_the_handshake_is_sent_before_the_end() {
    for profile in [Profile::V1, Profile::V1Go] {
        let (mut raw, own) = dialled(Naming::Negotiated, profile);
        raw.prepare(&["chat"]);
        say(&mut raw, b"complete");
        raw.finalize();
        raw.session.close(raw.now);
        raw.settle();
        assert!(!raw.session.is_closed());
        assert_eq!(raw.said(own), [b"complete"]);
        raw.acknowledge(own);
        assert_eq!(raw.closed().reason, CloseReason::Disconnected);
    }
}

/// A Go node reads the handshake substream only until its own side of the handshake is over.
#[test]
fn the_last_word_of_the_handshake_is_not_unsent_because_the_peer_stops_reading() {
    for profile in [Profile::V1, Profile::V1Go] {
        let (mut raw, own) = dialled(Naming::Negotiated, profile);
        raw.prepare(&["chat"]);
        say(&mut raw, b"complete");
        raw.finalize();
        assert_eq!(raw.said(own), [b"complete"]);
        raw.end(own, SubstreamEnd::Stopped);
        raw.session.close(raw.now);
        raw.settle();
        assert_eq!(raw.closed().unsent, 0);
    }
}

#[test]
fn a_session_that_has_sent_nothing_has_the_peer_end_its_substreams() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let peers = raw.open_stream("chat");
    let message = raw.message(b"unread");
    raw.feed(peers, &message);
    raw.session.close(raw.now);
    raw.settle();
    assert!(raw.was_finished(peers) && !raw.session.is_closed());
    raw.end(peers, SubstreamEnd::Finished);
    assert!(raw.session.is_closed());
    assert_eq!(raw.received("chat"), ["unread"]);
}

#[test]
fn an_early_substream_that_was_reset_holds_nothing_up() {
    for end in [SubstreamEnd::Reset, SubstreamEnd::Stopped, SubstreamEnd::Aborted] {
        for naming in BOTH {
            let (mut raw, _) = Raw::connected(naming, only(Profile::V1));
            let early = raw.open_stream("chat");
            raw.end(early, end);
            let second = raw.open_stream("chat");
            let message = raw.message(b"on the second");
            raw.feed(second, &message);
            raw.prepare(&["chat"]);
            raw.finalize();
            if end == SubstreamEnd::Stopped {
                raw.end(early, SubstreamEnd::Finished);
            }
            assert_eq!(raw.received("chat"), ["on the second"]);
            raw.send("chat", b"mine");
            assert_eq!(raw.sent(second), [b"mine"]);
        }
    }
}

#[test]
fn once_a_profile_is_agreed_no_other_is_offered() {
    let (raw, _) = Raw::connected(Naming::Negotiated, config(&[]));
    assert_eq!(raw.session.protocols(), [Profile::V1.handshake_id()]);
    let raw = Raw::inbound(Naming::Negotiated, config(&[]));
    assert_eq!(raw.session.protocols(), [Profile::V1, Profile::V1Go].map(Profile::handshake_id));
}

#[test]
fn asking_for_no_bytes_changes_nothing() {
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let peers = raw.open_stream("chat");
    raw.session.send(raw.now, &name("chat"), "one".into()).unwrap();
    assert!(matches!(raw.session.poll_action(), Some(Action::WantWrite(id)) if id == peers));
    assert_eq!(raw.session.poll_write(peers, &mut bytes::BytesMut::new(), 0), 0);
    raw.session.send(raw.now, &name("chat"), "two".into()).unwrap();
    assert!(raw.session.poll_action().is_none(), "it was asked for already");
    assert_eq!(raw.sent(peers), [b"one", b"two"]);
}
