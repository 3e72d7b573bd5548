//! C4, C5 and C6: when outputs are drained, how inputs are cut, and what a slow reader does.

use bytes::Bytes;
use glueberry_proto::wire::emit_proposal;
use glueberry_proto::{Closed, Event, Naming, Profile, ProtocolId, SubstreamEnd};
use proptest::prelude::*;

use super::plan::{Op, Plan, Run, STREAMS, Start, plans, traffic};
use super::without_hints;
use crate::support::{A, B, Checked, Outcome, Raw, Side, World, check, config, holds, name};

fn established(op: BoxedStrategy<Op>) -> impl Strategy<Value = Plan> {
    plans(Just(Start::Established), op)
}

/// Lets everything arrive and be read.
fn come_to_rest(world: &mut World) {
    for side in [A, B] {
        world.app.sides[side].unread.clear();
        world.drain_application(side);
    }
    world.run();
}

fn arrived(world: &World) -> [[Vec<Bytes>; 3]; 2] {
    [A, B].map(|side| STREAMS.map(|stream| world.app.received(side, stream)))
}

// ---- C4 -----------------------------------------------------------------------------------------

/// C4: when outputs are drained changes neither what is heard and delivered nor the events. One run
/// drains everything after each op, the other what chance will have, and the rest at the end.
fn c4() -> Outcome {
    let side = || prop_oneof![Just(A), Just(B)];
    let talk = prop_oneof![
        2 => (side(), 0..400_usize).prop_map(|(side, size)| Op::Say(side, size)),
        3 => any::<usize>().prop_map(Op::Move),
    ];
    let talk = prop::collection::vec(talk, 0..40);
    let runs = (plans(Just(Start::Connected), traffic().boxed()), talk, any::<bool>());
    check(runs, |(mut plan, talk, is_closed)| {
        // A queue that says full is allowed to differ.
        plan.is_tight = false;
        let [mut lazy, mut eager] = [plan.run(), plan.run()];
        for (ops, is_handshake) in [(&talk, true), (&plan.ops, false)] {
            for op in ops {
                lazy.apply(op);
                if matches!(op, Op::Say(..) | Op::Send(..)) {
                    eager.apply(op);
                    eager.world.run();
                }
            }
            if is_handshake {
                for run in [&mut lazy, &mut eager] {
                    run.world.run();
                    run.world.complete_handshake(&STREAMS);
                }
            }
        }
        for run in [&mut lazy, &mut eager] {
            if is_closed {
                run.world.app.sides.iter_mut().for_each(|side| side.unread.clear());
                run.world.disconnect(A);
            }
            come_to_rest(&mut run.world);
        }
        prop_assert_eq!(&lazy.accepted, &eager.accepted);
        // What a peer had not yet sent when it was disconnected is another matter: it is told.
        let sides = if is_closed { vec![A] } else { vec![A, B] };
        for side in sides {
            let accepted = &eager.accepted[side];
            prop_assert_eq!(&arrived(&eager.world)[1 - side], accepted);
            prop_assert_eq!(&arrived(&lazy.world)[1 - side], accepted);
            let [lazy, eager] = [&lazy, &eager].map(|run| &run.world.app.sides[side]);
            prop_assert_eq!(&lazy.handshake, &eager.handshake);
            prop_assert_eq!(&lazy.events, &eager.events);
            let events = [lazy, eager].map(|taken| {
                let events: Vec<Event> =
                    taken.session_events.iter().map(|(_, event)| event.clone()).collect();
                without_hints(&events)
            });
            prop_assert_eq!(&events[0], &events[1]);
        }
        Ok(())
    })
}

#[test]
fn c4_when_outputs_are_drained_changes_nothing() {
    holds(c4);
}

// ---- C5 -----------------------------------------------------------------------------------------

/// One thing that a peer does to a session.
#[derive(Clone, Debug)]
enum Piece {
    /// A message on the handshake substream.
    Said(usize),
    /// A message on one of the substreams of named streams.
    Message(usize, usize),
    /// A record that does not open.
    Bad(usize),
    /// Any bytes at all.
    Junk(usize, Vec<u8>),
    /// Another substream, by a name or by junk.
    Open(usize),
    End(usize),
}

fn piece() -> impl Strategy<Value = Piece> {
    let junk = prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 1..20);
    prop_oneof![
        4 => (0..500_usize).prop_map(Piece::Said),
        8 => (0..4_usize, 0..3_000_usize).prop_map(|(at, size)| Piece::Message(at, size)),
        2 => (0..4_usize).prop_map(Piece::Bad),
        1 => (0..5_usize, junk).prop_map(|(at, junk)| Piece::Junk(at, junk)),
        2 => (0..5_usize).prop_map(Piece::Open),
        1 => (0..5_usize).prop_map(Piece::End),
    ]
}

/// What a session makes of it: what was said, what each stream received, the events.
type Made = (Vec<Bytes>, [Vec<Bytes>; 3], Vec<Event>);

/// Lets a peer do all pieces, its bytes cut as given.
fn receive(naming: Naming, profile: Profile, pieces: &[Piece], cuts: &[usize]) -> Made {
    let mut config = config(&STREAMS);
    config.profiles = vec![profile];
    (config.receive_queue, config.receive_queue_bytes) = (5, 3_000);
    let (mut raw, handshake) = Raw::connected(naming, config);
    let mut ids = vec![handshake];
    ids.extend(["a", "a", "b", "c"].map(|stream| raw.open_stream(stream)));
    let mut cuts = cuts.iter().cycle();
    let mut feed = |raw: &mut Raw, id, bytes: &[u8]| {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
            raw.feed(id, now);
            rest = later;
        }
    };
    // What is said comes first, as nothing is heard after the handshake.
    for piece in pieces {
        if let Piece::Said(size) = piece {
            let message = crate::support::frame(profile, &vec![7; *size]);
            feed(&mut raw, handshake, &message);
        }
        if let Piece::Junk(0, junk) = piece {
            feed(&mut raw, handshake, junk);
        }
    }
    let heard = raw.heard();
    if !raw.session.is_closed() {
        raw.prepare(&STREAMS);
        raw.finalize();
    }
    for piece in pieces {
        match piece {
            Piece::Said(_) => {}
            Piece::Message(at, size) => {
                let message = raw.message(&vec![1; *size]);
                feed(&mut raw, ids[1 + at % 4], &message);
            }
            Piece::Bad(at) => {
                let mut record = raw.record(b"bad");
                record[14] ^= 1;
                let bad = crate::support::frame(profile, &record);
                feed(&mut raw, ids[1 + at % 4], &bad);
            }
            Piece::Junk(at, junk) => feed(&mut raw, ids[*at], junk),
            Piece::Open(what) => {
                let protocol = match what {
                    0 => profile.handshake_id(),
                    1 => ProtocolId::Handshake(Profile::V2),
                    2 => Profile::V1.stream_id(name("nobody")),
                    at => Profile::V1.stream_id(name(STREAMS[at % 3])),
                };
                match naming {
                    Naming::Negotiated => _ = raw.accept(Some(protocol)),
                    _ => {
                        let id = raw.accept(None);
                        let mut proposal = bytes::BytesMut::new();
                        emit_proposal(&protocol, &mut proposal);
                        feed(&mut raw, id, &proposal);
                    }
                }
            }
            Piece::End(at) => raw.end(ids[*at], SubstreamEnd::Finished),
        }
    }
    let received = STREAMS.map(|stream| raw.received(stream));
    (heard, received, without_hints(&raw.events()))
}

fn c5() -> Outcome {
    let naming = prop_oneof![Just(Naming::Negotiated), Just(Naming::Preamble)];
    let profile = prop_oneof![Just(Profile::V1), Just(Profile::V1Go)];
    let pieces = prop::collection::vec(piece(), 1..40);
    let cuts = || {
        let cut = prop_oneof![1..5_usize, 1..100_usize, 1..5_000_usize];
        prop::collection::vec(cut, 1..5)
    };
    let runs = (naming, profile, pieces, cuts(), cuts());
    check(runs, |(naming, profile, pieces, some, others)| {
        let whole = receive(naming, profile, &pieces, &[usize::MAX]);
        prop_assert_eq!(&receive(naming, profile, &pieces, &some), &whole);
        prop_assert_eq!(&receive(naming, profile, &pieces, &others), &whole);
        Ok(())
    })
}

#[test]
fn c5_how_bytes_are_cut_changes_nothing() {
    holds(c5);
}

// ---- C6 -----------------------------------------------------------------------------------------

/// C6: a slow reader of one stream pauses that stream only, and nothing is dropped.
fn c6() -> Outcome {
    let send =
        (0..STREAMS.len(), 0..2_000_usize).prop_map(|(at, size)| Op::Send(A, at, size)).boxed();
    let runs = (established(send), 0..STREAMS.len());
    check(runs, |(mut plan, slow)| {
        plan.is_tight = true;
        let mut run = plan.run();
        run.apply(&Op::Unread(B, slow));
        for op in &plan.ops {
            run.apply(op);
            run.world.run();
        }
        let world = &mut run.world;
        for (at, stream) in STREAMS.iter().enumerate().filter(|(at, _)| *at != slow) {
            prop_assert_eq!(&world.app.received(B, stream), &run.accepted[A][at]);
        }
        prop_assert!(world.app.received(B, STREAMS[slow]).is_empty());
        come_to_rest(world);
        prop_assert_eq!(&world.app.received(B, STREAMS[slow]), &run.accepted[A][slow]);
        Ok(())
    })
}

#[test]
fn c6_a_slow_reader_pauses_its_stream_only_and_nothing_is_dropped() {
    holds(c6);
}

/// C6: whatever breaks and however it ends, each message that was accepted is delivered, given
/// back, or counted as in doubt; none is delivered twice or out of order.
#[test]
fn c6_every_message_is_accounted_for() {
    holds(|| {
        let op = prop_oneof![
            12 => traffic(),
            1 => (any::<usize>(), prop_oneof![Just(A), Just(B)])
                .prop_map(|(at, side)| Op::Break(at, side)),
            1 => (50..2_000_u64).prop_map(|by| Op::Wait(std::time::Duration::from_millis(by))),
        ];
        let runs = (established(op.boxed()), 0..3_usize);
        check(runs, |(plan, how)| {
            let mut run = plan.run().all(&plan.ops);
            match how {
                0 => run.world.cut(0),
                1 => _ = run.world.disconnect(A),
                _ => _ = run.world.disconnect(B),
            }
            come_to_rest(&mut run.world);
            // The time for draining, and in v2 that for the peer's answer.
            for _ in 0..2 {
                run.world.advance(std::time::Duration::from_secs(10));
            }
            accounts(&mut run, A)?;
            accounts(&mut run, B)
        })
    });
}

/// Checks what became of the messages of a side.
fn accounts(run: &mut Run, side: Side) -> Checked {
    let Closed { unsent, in_doubt, not_received, .. } = run.world.app.closed(side);
    let (mut given_back, mut missing, mut accepted) = (0, 0, 0);
    for (at, stream) in STREAMS.iter().enumerate() {
        let sessions = run.world.hosts[side].sessions.values_mut();
        let back: Vec<Bytes> =
            sessions.flat_map(|session| session.take_unsent(&name(stream))).collect();
        let delivered = run.world.app.received(1 - side, stream);
        let all = &run.accepted[side][at];
        let mut rest = all.iter();
        let is_in_order = delivered.iter().all(|message| rest.any(|next| next == message));
        prop_assert!(is_in_order, "delivered out of order or twice");
        prop_assert!(all.ends_with(&back), "given back: not the last ones");
        prop_assert!(!delivered.iter().any(|message| back.contains(message)));
        given_back += back.len();
        missing += all.len() - delivered.len() - back.len();
        accepted += all.len();
    }
    prop_assert_eq!(given_back, unsent);
    let known = usize::try_from(not_received).unwrap_or(usize::MAX);
    let in_doubt = usize::try_from(in_doubt).unwrap_or(usize::MAX);
    // After an end that both sides have said, what is missing is known exactly (v2).
    prop_assert!(known == 0 || missing == known, "{missing} are missing, {known} known");
    prop_assert!(missing <= in_doubt + known, "{missing} are missing, {in_doubt} in doubt");
    prop_assert!(in_doubt + unsent <= accepted);
    Ok(())
}
