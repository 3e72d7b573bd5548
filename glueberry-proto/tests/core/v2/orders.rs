//! Every order of bytes, calls and faults.

use std::time::Duration;

use glueberry_proto::testing::pair::{A, B, Side};
use glueberry_proto::{Instant, Naming};
use proptest::prelude::*;

use super::{SECOND, break_pipe, configs, established};
use crate::support::{name, new_world};

/// What happens in a world of v2.
#[derive(Clone, Debug)]
enum Deed {
    Send(Side, usize, usize),
    Step(usize),
    Break(usize),
    Wait(u64),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let size = prop_oneof![3 => 0..200_usize, 1 => 0..70_000_usize];
    let deed = prop_oneof![
        4 => (0..2_usize, 0..2_usize, size).prop_map(|(side, at, len)| Deed::Send(side, at, len)),
        8 => (0..1000_usize).prop_map(Deed::Step),
        1 => (0..8_usize).prop_map(Deed::Break),
        1 => (0..3_000_u64).prop_map(Deed::Wait),
    ];
    prop::collection::vec(deed, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever breaks, each message arrives once, in its order, or is counted: after an orderly end
    /// both sides know exactly what did not arrive.
    #[test]
    fn nothing_is_lost_silently(
        deeds in deeds(),
        cuts in prop::collection::vec(1..3000_usize, 1..4),
        is_preamble: bool,
        closer in 0..2_usize,
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut world = established(naming);
        world.cuts = cuts;
        let streams = ["chat", "sync"];
        let mut sent = [[0_u64; 2]; 2];
        for deed in deeds {
            match deed {
                Deed::Send(side, at, len) => {
                    let mut message = sent[side][at].to_be_bytes().to_vec();
                    message.resize(8 + len, 7);
                    let stream = name(streams[at]);
                    let result = world.command(side, |session, now| {
                        session.send(now, &stream, message.into())
                    });
                    if result == Some(Ok(())) {
                        sent[side][at] += 1;
                    }
                }
                Deed::Step(choice) => _ = world.step_one(choice),
                Deed::Break(pipe) if pipe > 0 && pipe < world.links[0].pipes.len() => {
                    break_pipe(&mut world, pipe);
                }
                Deed::Break(_) => {}
                Deed::Wait(millis) => world.wait(Duration::from_millis(millis)),
            }
        }
        world.run();
        for _ in 0..30 {
            world.advance(SECOND);
        }
        world.command(closer, |session, now| session.close(now));
        world.run();
        for _ in 0..10 {
            world.advance(SECOND);
        }
        for side in [A, B] {
            let closed = world.app.closed(side);
            prop_assert_eq!(closed.in_doubt, 0, "{:?}", closed);
            let mut missing = 0;
            for (at, stream) in streams.into_iter().enumerate() {
                let received = world.app.received(1 - side, stream);
                let numbers: Vec<u64> = received
                    .iter()
                    .map(|it| u64::from_be_bytes(it[..8].try_into().unwrap()))
                    .collect();
                prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
                missing += sent[side][at] - u64::try_from(numbers.len()).unwrap();
            }
            let unsent = u64::try_from(closed.unsent).unwrap();
            prop_assert_eq!(missing, closed.not_received + unsent, "{:?}", closed);
        }
    }

    /// Both sides get Established in whatever order bytes and calls come.
    #[test]
    fn every_order_of_calls_gets_established(
        choices in prop::collection::vec(0..1000_usize, 0..80),
        calls in prop::collection::vec((0..80_usize, 0..2_usize), 0..20),
        cuts in prop::collection::vec(1..100_usize, 1..4),
        is_preamble: bool,
    ) {
        let naming = if is_preamble { Naming::Preamble } else { Naming::Negotiated };
        let mut world = new_world(naming, configs());
        world.cuts = cuts;
        world.connect(A);
        let mut said = [0_usize; 2];
        let mut is_finalized = [false; 2];
        let streams = [name("chat")];
        for (at, choice) in choices.into_iter().enumerate() {
            world.step_one(choice);
            for (_, side) in calls.iter().filter(|(when, _)| *when == at) {
                let peer = world.key(1 - side);
                // Whatever is not allowed yet changes nothing.
                let sent = world.command(*side, |session, now| {
                    session.send_handshake(now, "words".into())
                });
                said[*side] += usize::from(sent == Some(Ok(())));
                if at % 3 == 0 {
                    world.command(*side, |session, now| {
                        session.prepare_streams(now, peer, &streams)
                    });
                }
                if at % 5 == 0 {
                    let done = world.command(*side, |session, now| session.finalize_handshake(now));
                    is_finalized[*side] |= done == Some(Ok(()));
                }
            }
        }
        world.run();
        for side in [A, B] {
            if !is_finalized[side] {
                world.prepare(side, &["chat"]);
                world.finalize(side);
            }
        }
        world.run();
        for side in [A, B] {
            prop_assert!(world.session(side).is_established());
            let heard = world.app.sides[1 - side].handshake.len();
            // Words that came after the other side has finalized are dropped.
            prop_assert!(heard <= said[side] && (is_finalized[1 - side] || heard == said[side]));
        }
        world.send(A, "chat", b"there");
        world.run();
        prop_assert_eq!(world.app.received(B, "chat"), ["there"]);
        prop_assert_eq!(world.now, Instant::ZERO, "nothing waits for time");
    }
}
