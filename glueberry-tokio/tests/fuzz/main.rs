//! The bodies of the adapter's fuzz targets over the committed seeds and over random inputs. They go
//! through the public API alone; `fuzz/targets` compiles the same files.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests; a failure shows its input")]

mod address;
mod config;

use proptest::prelude::*;

#[test]
fn seeds() {
    replay("address", address::fuzz_address, include_str!("seeds/address.hex"));
    replay("config", config::fuzz_config, include_str!("seeds/config.hex"));
}

fn replay(target: &str, body: fn(&[u8]), seeds: &str) {
    for line in seeds.lines().filter(|line| !line.starts_with('#')) {
        println!("{target}: {line}");
        body(&hex::decode(line).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn address(data in prop::collection::vec(any::<u8>(), 0..100)) {
        address::fuzz_address(&data);
    }

    #[test]
    fn config(how: u8, text in "\\PC{0,200}") {
        config::fuzz_config(&[&[how], text.as_bytes()].concat());
    }
}
