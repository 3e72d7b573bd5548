//! C1, C2 and C3: inputs, the end, and commands that fail.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{
    ConnectionLost, ConnectionState, Event, HandshakeError, Naming, Profile, SendError, Session,
    SubstreamEnd, SubstreamId,
};
use proptest::prelude::*;

use super::nodes::{NodeOp, Whom, make_peace};
use super::plan::{Commands, Op, Run, STREAMS, any_start, disturb, hostile, plans};
use crate::support::{A, B, Checked, Outcome, Raw, check, config, frame, holds, key, name, names};

// ---- C1 -----------------------------------------------------------------------------------------

/// C1: inputs never fail and never panic, whatever the remote sends; and both nodes are as good as
/// new afterwards.
fn c1() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let mut run = plan.run().all(&plan.ops);
        let world = &mut run.world;
        for link in 0..world.links.len() {
            world.cut(link);
        }
        world.run();
        if plan.ops.iter().any(|op| matches!(op, Op::Node(_, NodeOp::Shutdown))) {
            return Ok(());
        }
        for side in [A, B] {
            world.disconnect(side);
            world.app.sides[side].unread.clear();
        }
        make_peace(world);
        world.advance(Duration::from_secs(120));
        world.app.sides.iter_mut().for_each(|side| side.messages.clear());
        world.establish(&STREAMS);
        world.send(A, "a", b"as good as new");
        world.run();
        prop_assert_eq!(world.app.received(B, "a"), ["as good as new"]);
        Ok(())
    })
}

#[test]
fn c1_inputs_never_fail_and_never_panic() {
    holds(c1);
}

// ---- C2 -----------------------------------------------------------------------------------------

/// C2: a session ends with exactly one closed event; after it inputs do nothing and no timer is
/// armed.
fn c2() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let mut run = plan.run().all(&plan.ops);
        let world = &mut run.world;
        let mut cut = 0;
        while cut < world.links.len() {
            world.cut(cut);
            cut += 1;
            // A dial may have waited for the end of the session before.
            world.run();
        }
        prop_assert!(world.app.log.late_actions.is_empty(), "{:?}", world.app.log.late_actions);
        for side in [A, B] {
            let ids: Vec<SubstreamId> =
                world.app.log.substreams.values().flatten().copied().collect();
            let now = world.now;
            for (connection, session) in &mut world.hosts[side].sessions {
                let events = world.app.sides[side].session_events.iter();
                let events: Vec<&Event> =
                    events.filter(|(of, _)| of == connection).map(|(_, event)| event).collect();
                let is_end = |event: &&&Event| matches!(event, Event::Closed(_));
                prop_assert_eq!(events.iter().filter(is_end).count(), 1);
                prop_assert!(events.last().iter().all(is_end), "not the last: {:?}", events);
                does_nothing(session, now, &ids)?;
            }
        }
        Ok(())
    })
}

/// Disturbs a session that is over.
fn does_nothing(
    session: &mut Session,
    now: glueberry_proto::Instant,
    ids: &[SubstreamId],
) -> Checked {
    let later = now + Duration::from_secs(1_000);
    for (at, id) in ids.iter().enumerate() {
        disturb(session, later, *id, at % 12);
        prop_assert_eq!(session.poll_write(*id, &mut bytes::BytesMut::new(), 1_000), 0);
    }
    _ = session.handle_accepted(later, Some(Profile::V1.stream_id(name("a"))));
    session.handle_connection_lost(later, ConnectionLost::Reset);
    session.close(later);
    session.reject_handshake(later, "too late");
    let chosen = names(&STREAMS);
    prop_assert_eq!(session.send(later, &chosen[0], Bytes::new()), Err(SendError::Closed));
    prop_assert_eq!(session.send_handshake(later, Bytes::new()), Err(SendError::Closed));
    let prepared = session.prepare_streams(later, session.peer(), &chosen);
    prop_assert_eq!(prepared, Err(HandshakeError::Closed));
    prop_assert_eq!(session.finalize_handshake(later), Err(HandshakeError::Closed));
    prop_assert!(session.poll_action().is_none());
    prop_assert_eq!(session.poll_event(), None);
    prop_assert_eq!(session.poll_timeout(), None);
    prop_assert!(session.protocols().is_empty());
    Ok(())
}

#[test]
fn c2_a_session_ends_once() {
    holds(c2);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn c2_what_was_received_can_still_be_taken(
        said in 0..10_usize,
        sizes in prop::collection::vec(0..3_000_usize, 0..20),
        taken in 0..20_usize,
        how in 0..5_usize,
    ) {
        let mut config = config(&["a"]);
        config.receive_queue = 50;
        let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
        for _ in 0..said {
            raw.feed(handshake, &frame(Profile::V1, b"said"));
        }
        raw.prepare(&["a"]);
        raw.finalize();
        let id = raw.open_stream("a");
        for size in &sizes {
            let message = raw.message(&vec![1; *size]);
            raw.feed(id, &message);
        }
        let taken = taken.min(sizes.len());
        for size in &sizes[..taken] {
            prop_assert_eq!(raw.session.poll_message(&name("a")).map(|m| m.len()), Some(*size));
        }
        end(&mut raw, id, how);
        prop_assert!(raw.session.is_closed());
        let rest: Vec<usize> = raw.received("a").iter().map(Bytes::len).collect();
        prop_assert_eq!(&rest, &sizes[taken..]);
        prop_assert_eq!(raw.heard().len(), said);
    }
}

fn end(raw: &mut Raw, id: SubstreamId, how: usize) {
    match how {
        0 => raw.session.close(raw.now),
        1 => raw.session.handle_connection_lost(raw.now, ConnectionLost::TimedOut),
        2 => raw.feed(id, &[0xff; 4]),
        3 => {
            raw.feed(id, &[0; 2]);
            raw.end(id, SubstreamEnd::Finished);
        }
        _ => _ = raw.node.disconnect(raw.now, raw.peer),
    }
    raw.settle();
    if !raw.session.is_closed() {
        // The peer does not end its substream in answer.
        raw.wait(Duration::from_secs(5));
    }
}

// ---- C3 -----------------------------------------------------------------------------------------

/// C3: a command that returns an error has itself changed nothing. A run in which every command
/// that fails is left out, for a timeout in its place, looks the same to the last byte.
fn c3() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let given = plan.run().all(&plan.ops);
        let Commands::Given(failures) = given.commands else {
            unreachable!("they were given");
        };
        let mut spared = plan.run();
        spared.commands = Commands::Spared(failures.into_iter());
        let spared = spared.all(&plan.ops);
        prop_assert_eq!(given.world.app.log.lines, spared.world.app.log.lines);
        Ok(())
    })
}

#[test]
fn c3_a_command_that_fails_changes_nothing() {
    holds(c3);
}

/// The plans do contain commands that fail for each reason; else C3 would say little.
#[test]
fn c3_commands_do_fail() {
    use super::plan::Op;
    let ops = [
        Op::Send(A, 0, 5),
        Op::Prepare(A, 7),
        Op::WrongKey(A),
        Op::NoStreams(A),
        Op::Finalize(A),
        Op::TooLarge(A, 0),
        Op::Unknown(A),
        Op::Say(A, 5),
        Op::Node(A, NodeOp::Add(Whom::Oneself, 1, None)),
        Op::Node(A, NodeOp::Add(Whom::Peer, 3, None)),
        Op::Node(A, NodeOp::Add(Whom::Peer, 1, Some(101))),
        Op::Node(A, NodeOp::Metadata(Whom::Stranger(1), 1)),
        Op::Node(A, NodeOp::Metadata(Whom::Peer, 101)),
    ];
    let plan = super::plan::Plan {
        naming: Naming::Negotiated,
        profile: Profile::V1,
        start: super::plan::Start::Established,
        is_tight: true,
        cuts: vec![usize::MAX],
        ops: ops.to_vec(),
    };
    let run: Run = plan.run().all(&plan.ops);
    let Commands::Given(failures) = run.commands else {
        unreachable!("they were given");
    };
    assert_eq!(failures, [&[false][..], &[true; 12]].concat());
    assert_eq!(run.world.hosts[A].node.state(key(B)), ConnectionState::Established);
}
