//! Plays every hostile script over raw QUIC and over libp2p, and prints the table.
//!
//! ```text
//! cargo test -p glueberry-tests --test hostile [-- WORD...]
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let failed = runtime.block_on(glueberry_tests::hostile::play(&words));
    runtime.shutdown_background();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
