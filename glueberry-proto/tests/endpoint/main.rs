//! Endpoints over pipes, and over substreams.

#![expect(clippy::unwrap_used, reason = "tests")]

mod by_hand;
mod driver;
mod net;
mod substreams;

use std::time::Duration;

use glueberry_proto::endpoint::Output;
use glueberry_proto::{
    CloseReason, ConnectionLost, ConnectionState, DialError, Event, Profile, SendError,
    StateReason, Waiting, mux,
};
use net::{A, B, Net, config, key, name};
use proptest::prelude::*;

fn small_mux() -> mux::Config {
    let mut mux = mux::Config::default();
    (mux.window, mux.connection_window, mux.max_frame) = (1000, 128 * 1000, 100);
    mux
}

#[test]
fn a_loss_says_in_its_text_what_is_in_doubt() {
    let mut net = Net::established(&mux::Config::default());
    net.send(A, "chat", b"one");
    net.run();
    net.send(A, "chat", b"two");
    net.take(A);
    net.send(A, "chat", b"three");
    let id = net.pipes[0].ids[A].unwrap();
    net.ends[A].handle_lost(net.now, id, ConnectionLost::Reset);
    net.take(A);
    let [closed] = &net.ended(A)[..] else { panic!() };
    assert_eq!(closed.to_string(), "connection lost: reset by the peer; 1 unsent, 2 in doubt");
}

#[test]
fn an_end_is_idle_only_behind_a_shutdown() {
    let mut net = Net::new(&mux::Config::default());
    assert!(!net.ends[A].is_idle(), "nothing was done yet");
    net = net.establish();
    let id = net.pipes[0].ids[A].unwrap();
    net.ends[A].handle_lost(net.now, id, ConnectionLost::Reset);
    net.take(A);
    assert_eq!(net.state(A), ConnectionState::Reconnecting);
    assert!(!net.ends[A].is_idle(), "it is to dial again");
    net.ends[A].shutdown(net.now);
    net.take(A);
    assert!(net.ends[A].is_idle());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn messages_arrive_whole_and_in_order(
        sent in prop::collection::vec((0..2_usize, 0..2_usize, 0..5_000_usize), 0..40),
        cuts in prop::collection::vec(1..3_000_usize, 1..5),
        is_small in any::<bool>(),
    ) {
        let mux = if is_small { small_mux() } else { mux::Config::default() };
        let mut net = Net::established(&mux);
        net.cuts = cuts;
        for (at, (side, stream, len)) in sent.iter().enumerate() {
            let message = vec![u8::try_from(at).unwrap(); *len];
            net.send(*side, ["chat", "bulk"][*stream], &message);
            if at % 3 == 0 {
                net.take(*side);
            }
        }
        net.run();
        for side in [A, B] {
            net.ends[side].shutdown(net.now);
        }
        net.run();
        for side in [A, B] {
            for (stream, text) in ["chat", "bulk"].into_iter().enumerate() {
                let is_its = |(_, it): &(usize, &(usize, usize, usize))| it.0 != side && it.1 == stream;
                let expected: Vec<_> = sent.iter().enumerate().filter(is_its)
                    .map(|(at, it)| vec![u8::try_from(at).unwrap(); it.2]).collect();
                prop_assert_eq!(net.messages(side, text), expected);
            }
            prop_assert_eq!(net.ends[side].node().internal_errors(), 0);
            prop_assert!(net.ends[side].is_idle());
        }
    }
}

#[test]
fn a_message_larger_than_every_window_arrives() {
    let mut net = Net::established(&small_mux());
    let message: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    net.send(A, "bulk", &message);
    net.run();
    assert!(net.messages(B, "bulk") == [message]);
}

#[test]
fn an_orderly_end_leaves_nothing_in_doubt() {
    // In v1, only the mux says what has arrived.
    for profile in [Profile::V1, Profile::V2] {
        let mut config = config();
        config.profiles = vec![profile];
        let mut net = Net::with(&mux::Config::default(), &config).establish();
        for number in 0..100_u8 {
            net.send(A, "chat", &[number; 1000]);
            net.send(B, "chat", &[number; 10]);
        }
        net.ends[A].shutdown(net.now);
        assert!(net.ends[A].send(net.now, key(B), &name("chat"), "late".into()).is_err());
        net.run();
        assert_eq!(net.messages(B, "chat").len(), 100);
        let [ref closed] = net.ended(A)[..] else { panic!("one session") };
        assert_eq!((closed.unsent, closed.in_doubt), (0, 0), "{profile:?}");
        assert_eq!(closed.reason, CloseReason::Disconnected);
        assert!(net.ends[A].is_idle());
        let told = match profile {
            Profile::V2 => CloseReason::EndedByPeer { code: 0 },
            _ => CloseReason::ConnectionLost(ConnectionLost::ClosedByPeer { code: 0 }),
        };
        assert_eq!(net.ended(B)[0].reason, told);
        assert!(net.pipes[0].closed == [true; 2]);
        // The other side, too, has been acknowledged what it has sent.
        assert_eq!((net.ended(B)[0].unsent, net.ended(B)[0].in_doubt), (0, 0), "{profile:?}");
    }
}

#[test]
fn what_comes_behind_the_end_of_a_session_is_not_acknowledged() {
    let mut config = config();
    config.profiles = vec![Profile::V1Go];
    let mut net = Net::with(&mux::Config::default(), &config).establish();
    for side in [A, B] {
        net.send(side, "chat", b"opens the substream");
    }
    net.run();
    net.ends[A].shutdown(net.now);
    net.take(A);
    net.deliver();
    // A's session is over with the acknowledgement that goes ahead of this.
    net.send(B, "chat", b"too late");
    net.ends[B].shutdown(net.now);
    net.run();
    assert_eq!(net.messages(A, "chat").len(), 1);
    assert_eq!(net.ended(B)[0].in_doubt, 2, "all on the substream whose end was not acknowledged");
}

#[test]
fn two_orderly_ends_at_once_leave_nothing_in_doubt() {
    let mut net = Net::established(&mux::Config::default());
    for side in [A, B] {
        net.send(side, "chat", b"text");
    }
    net.run();
    for side in [A, B] {
        net.ends[side].shutdown(net.now);
    }
    net.run();
    for side in [A, B] {
        assert_eq!(net.messages(side, "chat").len(), 1);
        assert_eq!((net.ended(side)[0].unsent, net.ended(side)[0].in_doubt), (0, 0), "side {side}");
    }
}

#[test]
fn what_was_lost_is_dialled_again_and_what_was_not_sent_comes_back() {
    let mut net = Net::established(&small_mux());
    net.stuck = Some(A);
    for number in 0..20_u8 {
        net.send(A, "chat", &[number; 200]);
    }
    net.take(A);
    let id = net.pipes[0].ids[A].unwrap();
    let owed = net.ends[A].owed();
    assert!(
        matches!(owed[..], [ref it] if matches!(it.waiting, Waiting::Written { .. })),
        "{owed:?}"
    );
    assert_eq!(owed[0].connection, Some(id));
    net.ends[A].handle_lost(net.now, id, ConnectionLost::TimedOut);
    net.take(A);
    let unsent: usize = net.log[A]
        .iter()
        .map(|output| match output {
            Output::Unsent { messages, .. } => messages.len(),
            _ => 0,
        })
        .sum();
    let closed = &net.ended(A)[0];
    assert_eq!(closed.unsent, unsent);
    assert_eq!(u64::try_from(unsent).unwrap() + closed.in_doubt, 20);
    assert_eq!(net.state(A), ConnectionState::Reconnecting);
    net.stuck = None;
    net.pipes[0].closed[A] = true;
    net.run();
    net.advance(Duration::from_secs(5));
    assert_eq!(
        (net.state(A), net.state(B)),
        (ConnectionState::Established, ConnectionState::Established)
    );
}

#[test]
fn a_silent_pipe_is_found_out() {
    let mut net = Net::established(&mux::Config::default());
    net.pipes[0].closed[B] = true;
    net.take(A);
    net.now = net.now + Duration::from_secs(15);
    net.take(A);
    net.now = net.now + Duration::from_secs(15);
    net.take(A);
    let lost = CloseReason::ConnectionLost(ConnectionLost::TimedOut);
    assert_eq!(net.ended(A)[0].reason, lost);
}

#[test]
fn something_else_at_the_other_end_is_named() {
    let mut net = Net::new(&mux::Config::default());
    net.is_unreachable = true;
    net.connect();
    let connection = net.dial();
    net.ends[A].handle_connected(net.now, connection, key(B));
    net.ends[A].handle_bytes(net.now, connection, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let mut reasons = Vec::new();
    let mut is_closed = false;
    loop {
        match net.ends[A].poll_output(net.now) {
            Output::Transport(_) => net.ends[A].handle_written(net.now, connection),
            Output::State(event) => reasons.extend(event.reason.map(|reason| reason.to_string())),
            Output::Close { .. } => is_closed = true,
            Output::Timeout(Some(at)) if !is_closed => net.now = at,
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    assert!(reasons[0].contains("type 72"), "{reasons:?}");
}

#[test]
fn misuses_are_named_or_harmless() {
    let mut net = Net::new(&mux::Config::default());
    net.is_unreachable = true;
    net.connect();
    let owed = net.ends[A].owed();
    assert!(matches!(owed[0].waiting, Waiting::Outputs { .. }), "{owed:?}");
    net.take(A);
    let owed = net.ends[A].owed();
    assert_eq!(owed[0].waiting, Waiting::Dial);
    let connection = owed[0].connection.unwrap();
    assert_eq!(owed[0].to_string(), "a dial was not answered on connection-0 since 0.000000s");
    // The dial is given up; the connection that comes too late is closed.
    net.advance(Duration::from_secs(31));
    assert!(net.ends[A].owed().iter().all(|it| it.connection != Some(connection)));
    net.ends[A].handle_connected(net.now, connection, key(B));
    let late = net.ends[A].poll_output(net.now);
    assert_eq!(late, Output::Close { connection, code: 0 });
    // Inputs about what is not there.
    net.ends[A].handle_bytes(net.now, connection, b"bytes");
    net.ends[A].handle_written(net.now, connection);
    net.ends[A].handle_lost(net.now, connection, ConnectionLost::Reset);
    net.ends[A].handle_dial_failed(net.now, connection, DialError::TimedOut);
    let nobody = net.ends[A].send(net.now, key(B), &name("chat"), "text".into());
    assert_eq!(nobody, Err(SendError::NotEstablished));
}

#[test]
fn a_connection_whose_peer_stays_unknown_is_closed() {
    let mut net = Net::established(&mux::Config::default());
    let limit = config().max_pending_sessions;
    let ids: Vec<_> = (0..=limit).map(|_| net.ends[B].handle_incoming(net.now)).collect();
    // One more than may wait: the oldest gives way.
    let oldest = net.ends[B].poll_output(net.now);
    assert_eq!(oldest, Output::Close { connection: ids[0], code: 2 });
    assert_eq!(net.ends[B].owed().last().unwrap().waiting, Waiting::Peer);
    // One becomes known in time, and is a connection as any other.
    net.ends[B].handle_connected(net.now, ids[1], key(A));
    assert_eq!(
        net.ends[B].owed().iter().filter(|it| it.waiting == Waiting::Peer).count(),
        limit - 1
    );
    net.now = net.now + config().negotiation_timeout;
    let mut closed = Vec::new();
    loop {
        match net.ends[B].poll_output(net.now) {
            Output::Close { connection, .. } => closed.push(connection),
            Output::Timeout(_) => break,
            _ => {}
        }
    }
    assert_eq!(closed[..limit - 1], ids[2..]);
    net.ends[B].handle_connected(net.now, ids[2], key(A));
    assert_eq!(net.ends[B].poll_output(net.now), Output::Close { connection: ids[2], code: 0 });
}

#[test]
fn another_peer_than_was_dialled_is_closed() {
    let mut net = Net::new(&mux::Config::default());
    net.is_unreachable = true;
    net.connect();
    let connection = net.dial();
    let stranger = glueberry_proto::Identity::from_seed(&[9; 32]).public_key();
    net.ends[A].handle_connected(net.now, connection, stranger);
    assert_eq!(net.ends[A].poll_output(net.now), Output::Close { connection, code: 7 });
    net.take(A);
    let is_wrong = |output: &Output<_>| {
        matches!(output, Output::State(event) if matches!(
        event.reason, Some(StateReason::DialFailed(DialError::WrongPeer { .. }))))
    };
    assert!(net.log[A].iter().any(is_wrong), "{:?}", net.log[A]);
}

#[test]
fn a_paused_stream_holds_up_no_other_and_loses_nothing() {
    let mut net = Net::established(&mux::Config::default());
    net.ends[B].pause(key(A), &name("bulk"));
    for number in 0..200_u8 {
        net.send(A, "bulk", &[number; 20_000]);
        net.send(A, "chat", &[number]);
    }
    net.run();
    assert_eq!((net.messages(B, "bulk").len(), net.messages(B, "chat").len()), (0, 200));
    let (waiting, _) = net.ends[A].queued(key(B), &name("bulk"));
    assert!(waiting > 0, "the sender is slowed down");
    net.ends[B].resume(key(A), &name("bulk"));
    net.run();
    assert_eq!(net.messages(B, "bulk").len(), 200);
    // An end brings what has arrived, paused or not.
    net.ends[B].pause(key(A), &name("bulk"));
    net.send(A, "bulk", b"last");
    net.run();
    net.ends[A].shutdown(net.now);
    net.run();
    assert_eq!(net.messages(B, "bulk").len(), 201);
    assert_eq!(net.ended(A)[0].in_doubt, 0);
}

/// A pause is one of the session that was paused: the next one is not.
#[test]
fn an_end_resumes_a_paused_stream_of_the_next_session_too() {
    let mut net = Net::established(&mux::Config::default());
    net.ends[B].pause(key(A), &name("bulk"));
    net.ends[A].disconnect(net.now, key(B));
    net.run();
    assert_eq!(net.state(B), ConnectionState::Disconnected);
    net.advance(Duration::from_secs(60));
    net.connect();
    net.run();
    assert_eq!(net.state(B), ConnectionState::Established);
    net.send(A, "bulk", b"hello");
    net.run();
    assert_eq!(net.messages(B, "bulk"), [b"hello"]);
}

#[test]
fn a_full_queue_says_when_it_has_room() {
    let mut net = Net::established(&mux::Config::default());
    let mut count = 0;
    while net.ends[A].send(net.now, key(B), &name("chat"), "text".into()).is_ok() {
        count += 1;
    }
    assert_eq!(count, config().high_watermark);
    net.run();
    let is_writable =
        |output: &Output<_>| matches!(output, Output::Event { event: Event::Writable { .. }, .. });
    assert_eq!(net.log[A].iter().filter(|output| is_writable(output)).count(), 1);
    assert_eq!(net.messages(B, "chat").len(), count);
}

#[test]
fn a_ban_ends_the_session_at_once() {
    let mut net = Net::established(&mux::Config::default());
    net.ends[B].blacklist(net.now, key(A), None).unwrap();
    net.run();
    assert_eq!(net.ended(B)[0].reason, CloseReason::Blacklisted);
    assert_eq!(net.ended(A)[0].reason, CloseReason::EndedByPeer { code: 1 });
    net.advance(Duration::from_secs(60));
    assert_ne!(net.state(A), ConnectionState::Established);
}

#[test]
fn where_the_account_is_full_nothing_more_is_read_and_nothing_is_lost() {
    const MIB: usize = 1024 * 1024;
    let mut config = config();
    let streams: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    config.streams = streams.iter().map(|stream| name(stream)).collect();
    (config.max_message_size, config.peer_memory, config.node_memory) = (MIB, 1, 1);
    let limit = config.memory_limits().peer;
    assert!(limit < 10 * MIB, "{limit}");
    let mut net = Net::with(&mux::Config::default(), &config).establish();
    for stream in &streams {
        net.ends[B].pause(key(A), &name(stream));
        for _ in 0..2 {
            net.send(A, stream, &vec![7; MIB - 100]);
        }
    }
    net.run();
    let used = net.ends[B].memory_used();
    assert!(used > MIB && used <= limit, "{used} of {limit}");
    for stream in &streams {
        net.ends[B].resume(key(A), &name(stream));
    }
    net.run();
    for stream in &streams {
        assert_eq!(net.messages(B, stream).len(), 2, "{stream}");
    }
    assert_eq!(net.ends[B].memory_used(), 0);
}

#[test]
fn a_message_that_does_not_arrive_in_time_is_given_up() {
    let mut mux = mux::Config::default();
    mux.ping_after = None;
    let mut net = Net::established(&mux);
    net.send(A, "bulk", b"opens the substream");
    net.run();
    net.stuck = Some(A);
    net.send(A, "bulk", &[1; 400_000]);
    net.run();
    assert!(net.ends[B].memory_used() >= 400_000, "it is charged as a whole");
    net.advance(Duration::from_secs(59));
    assert!(net.ends[B].memory_used() >= 400_000);
    net.advance(Duration::from_secs(8));
    assert_eq!(net.ends[B].memory_used(), 0);
    let interrupted = Event::StreamInterrupted { stream: name("bulk"), in_doubt: 2 };
    assert!(net.log[A].contains(&Output::Event { peer: key(B), event: interrupted }));
    assert_eq!(net.state(A), ConnectionState::Established);
}
