//! Random inputs.

use glueberry_proto::testing::{
    fuzz_frames_v1, fuzz_frames_v1_go, fuzz_greeting, fuzz_handshake_input, fuzz_mux, fuzz_node,
    fuzz_open_record, fuzz_preamble, fuzz_v2_frames, fuzz_v2_gate, fuzz_v2_session,
};
use proptest::prelude::*;

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
    fn mux(data in bytes()) {
        fuzz_mux(&data);
    }

    #[test]
    fn node(data in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_node(&data);
    }

    #[test]
    fn handshake_input(data in bytes()) {
        fuzz_handshake_input(&data);
    }

    #[test]
    fn v2_frames(data in bytes()) {
        fuzz_v2_frames(&data);
    }

    #[test]
    fn v2_gate(data in bytes()) {
        fuzz_v2_gate(&data);
    }

    #[test]
    fn v2_session(data in bytes()) {
        fuzz_v2_session(&data);
    }
}
