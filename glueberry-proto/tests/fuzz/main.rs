//! The bodies of the fuzz targets over the committed seeds and over random inputs, so that they
//! are compiled, and hold, wherever `cargo test` runs.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; a failure shows its input")]

use glueberry_proto::testing::{
    fuzz_frames_v1, fuzz_frames_v1_go, fuzz_greeting, fuzz_handshake_input, fuzz_mux, fuzz_node,
    fuzz_open_record, fuzz_preamble, fuzz_v2_frames, fuzz_v2_gate, fuzz_v2_session,
};

// There is nothing random in bare WebAssembly.
#[cfg(not(target_family = "wasm"))]
mod random;

#[test]
fn seeds() {
    replay("open_record", fuzz_open_record, include_str!("seeds/open_record.hex"));
    replay("frames_v1", fuzz_frames_v1, include_str!("seeds/frames_v1.hex"));
    replay("frames_v1_go", fuzz_frames_v1_go, include_str!("seeds/frames_v1_go.hex"));
    replay("preamble", fuzz_preamble, include_str!("seeds/preamble.hex"));
    replay("greeting", fuzz_greeting, include_str!("seeds/greeting.hex"));
    replay("mux", fuzz_mux, include_str!("seeds/mux.hex"));
    replay("node", fuzz_node, include_str!("seeds/node.hex"));
    replay("v2_frames", fuzz_v2_frames, include_str!("seeds/v2_frames.hex"));
    replay("v2_gate", fuzz_v2_gate, include_str!("seeds/v2_gate.hex"));
    replay("v2_session", fuzz_v2_session, include_str!("seeds/v2_session.hex"));
    #[cfg(feature = "serde")]
    replay("book", glueberry_proto::testing::fuzz_book, include_str!("seeds/book.hex"));
    replay("handshake_input", fuzz_handshake_input, include_str!("seeds/handshake_input.hex"));
}

fn replay(target: &str, body: fn(&[u8]), seeds: &str) {
    let mut count = 0;
    for input in inputs(seeds) {
        println!("{target}: {}", hex::encode(&input));
        body(&input);
        count += 1;
    }
    assert!(count > 0, "{target} has no seeds");
}

/// Reads a file of seeds: an input per line in hex, and remarks.
fn inputs(seeds: &str) -> impl Iterator<Item = Vec<u8>> {
    seeds.lines().filter(|line| !line.starts_with('#')).map(|line| hex::decode(line).unwrap())
}
