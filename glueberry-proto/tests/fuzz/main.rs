//! The bodies of the fuzz targets over the committed seeds and over random inputs, so that they
//! are compiled, and hold, wherever `cargo test` runs.

use std::collections::BTreeMap;

use glueberry_proto::testing::{
    fuzz_frames_v1, fuzz_frames_v1_go, fuzz_handshake_input, fuzz_open_record, fuzz_preamble,
};

#[cfg(not(target_family = "wasm"))]
mod random;

#[test]
fn seeds() {
    let targets: BTreeMap<&str, (fn(&[u8]), &str)> = BTreeMap::from([
        ("open_record", (fuzz_open_record as fn(&[u8]), include_str!("seeds/open_record.hex"))),
        ("frames_v1", (fuzz_frames_v1, include_str!("seeds/frames_v1.hex"))),
        ("frames_v1_go", (fuzz_frames_v1_go, include_str!("seeds/frames_v1_go.hex"))),
        ("preamble", (fuzz_preamble, include_str!("seeds/preamble.hex"))),
        ("handshake_input", (fuzz_handshake_input, include_str!("seeds/handshake_input.hex"))),
    ]);
    for (name, (body, seeds)) in targets {
        let mut count = 0;
        for line in seeds.lines().filter(|line| !line.starts_with('#')) {
            println!("{name}: {line}");
            body(&hex::decode(line).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}
