#![no_main]
//! The parser of certificates is private: its source is compiled here, and the body with it.

#[path = "../../glueberry-tokio/src/quic/certificate.rs"]
mod certificate;
#[path = "../../glueberry-tokio/src/quic/tests/hostile_certificates.rs"]
mod hostile_certificates;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile_certificates::fuzz_certificate(data));
