#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glueberry_proto::testing::fuzz_v2_session(data));
