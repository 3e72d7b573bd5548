//! C11 and C12: the same again, and ids.

use std::collections::BTreeSet;
use std::fmt::Debug;

use glueberry_proto::{Naming, Profile};
use proptest::prelude::*;

use super::plan::{Plan, Run, STREAMS, Start, any_start, hostile, plans};
use crate::support::{A, B, Checked, Clock, Outcome, check, config, hash, holds, new_world};

// ---- C11 ----------------------------------------------------------------------------------------

/// Runs a plan and sends something in the end, if that is possible.
fn replay(plan: &Plan, seeds: [[u8; 32]; 2]) -> Run {
    let mut run = plan.run_with(Clock::Exact, seeds).all(&plan.ops);
    run.send(A, 0, 100);
    run.send(B, 0, 100);
    run.world.run();
    run
}

/// C11: the same configuration, seed, inputs and polls give the same outputs, byte for byte;
/// another seed gives other ciphertexts.
fn c11() -> Outcome {
    let runs = (plans(any_start(), hostile()), any::<[u8; 32]>());
    check(runs, |(plan, seed)| {
        let once = replay(&plan, [seed, [20; 32]]).world.app.log;
        let again = replay(&plan, [seed, [20; 32]]).world.app.log;
        prop_assert_eq!(&once.lines, &again.lines);
        prop_assert_eq!(&once.written, &again.written);
        let mut peaceful = plan;
        (peaceful.start, peaceful.ops) = (Start::Established, Vec::new());
        let mut other = seed;
        other[31] ^= 1;
        let written = [seed, other].map(|seed| {
            let run = replay(&peaceful, [seed, [20; 32]]);
            assert_eq!(run.world.app.received(B, "a").len(), 1);
            run.world.app.log.written
        });
        prop_assert_eq!(written[0].len(), written[1].len());
        prop_assert_ne!(&written[0], &written[1]);
        Ok(())
    })
}

#[test]
fn c11_the_same_seed_and_inputs_give_the_same_bytes() {
    holds(c11);
}

/// What two nodes write in a fixed run, on every platform and for ever: it changes only with the
/// wire or with the way in which nonces are drawn.
#[test]
fn c11_the_bytes_of_a_fixed_run_are_known() {
    let expected = [8_977_725_574_155_971_767, 1_037_124_924_380_608_555];
    for (profile, expected) in [Profile::V1, Profile::V1Go].into_iter().zip(expected) {
        let configs = [A, B].map(|_| {
            let mut config = config(&STREAMS);
            config.profiles = vec![profile];
            config
        });
        let mut world = new_world(Naming::Preamble, configs);
        world.app.log.is_on = true;
        world.establish(&STREAMS);
        for round in 0..20_u8 {
            world.send(A, STREAMS[usize::from(round) % 3], &vec![round; 10 * usize::from(round)]);
            world.send(B, "a", &[round]);
            world.step();
        }
        world.disconnect(A);
        world.run();
        assert_eq!(hash(&world.app.log.written), expected, "{profile:?}");
    }
}

// ---- C12 ----------------------------------------------------------------------------------------

/// C12: every id is allocated by a machine, and none twice. That adapters can't make one up, the
/// types see to: an id of another session does nothing (`hostile::substreams`).
fn c12() -> Outcome {
    check(plans(any_start(), hostile()), |plan| {
        let log = plan.run().all(&plan.ops).world.app.log;
        for substreams in log.substreams.values() {
            are_unique(substreams)?;
        }
        for side in [A, B] {
            are_unique(&log.connections[side])?;
            are_unique(&log.dials[side])?;
        }
        Ok(())
    })
}

fn are_unique<T: Ord + Debug>(ids: &[T]) -> Checked {
    let unique: BTreeSet<&T> = ids.iter().collect();
    prop_assert_eq!(unique.len(), ids.len(), "{:?}", ids);
    Ok(())
}

#[test]
fn c12_no_id_is_allocated_twice() {
    holds(c12);
}
