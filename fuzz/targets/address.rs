#![no_main]

#[path = "../../glueberry-tokio/tests/fuzz/address.rs"]
mod address;

libfuzzer_sys::fuzz_target!(|data: &[u8]| address::fuzz_address(data));
