//! Random inputs, and scripts that notice a broken rule.

use std::panic::catch_unwind;

use glueberry_proto::testing::{
    Fault, fuzz_frames_v1, fuzz_frames_v1_go, fuzz_greeting, fuzz_handshake_input,
    fuzz_handshake_input_with, fuzz_open_record, fuzz_preamble,
};
use proptest::prelude::*;

use super::inputs;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn open_record(data in bytes()) {
        fuzz_open_record(&data);
    }

    #[test]
    fn frames_v1(data in bytes()) {
        fuzz_frames_v1(&data);
    }

    #[test]
    fn frames_v1_go(data in bytes()) {
        fuzz_frames_v1_go(&data);
    }

    #[test]
    fn preamble(data in bytes()) {
        fuzz_preamble(&data);
    }

    #[test]
    fn greeting(data in bytes()) {
        fuzz_greeting(&data);
    }

    #[test]
    fn handshake_input(data in bytes()) {
        fuzz_handshake_input(&data);
    }
}

/// Without which a script could be blind to what it is there to see.
#[test]
fn broken_rules_come_to_light() {
    let seeds: Vec<Vec<u8>> = inputs(include_str!("seeds/handshake_input.hex")).collect();
    let noticed = |fault| {
        seeds.iter().any(|seed| catch_unwind(|| fuzz_handshake_input_with(seed, fault)).is_err())
    };
    for fault in [Fault::C1, Fault::C2, Fault::C7, Fault::C8, Fault::C9, Fault::C12] {
        assert!(noticed(fault), "no seed has noticed {fault:?}");
    }
}
