#![no_main]

#[path = "../../glueberry-tokio/tests/fuzz/config.rs"]
mod config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::fuzz_config(data));
