//! Plays every hostile script over raw QUIC and over libp2p's QUIC and TCP, and prints the table.
//!
//! ```text
//! cargo test -p glueberry-tests --test hostile [-- WORD...]
//! cargo test -p glueberry-tests --test hostile -- --share N
//! ```
//!
//! With `--share`, N of the scripts are played; which ones depends on the commit that is checked out.

use std::process::{Command, ExitCode};

use glueberry_tests::hostile::{Choice, play};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let share = args.iter().position(|arg| arg == "--share");
    let choice = match share {
        Some(at) => {
            let count = args.get(at + 1).and_then(|count| count.parse().ok());
            Choice::Share { count: count.expect("a number behind --share"), from: commit() }
        }
        None => Choice::Words(args.into_iter().filter(|arg| !arg.starts_with('-')).collect()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let failed = runtime.block_on(play(&choice));
    runtime.shutdown_background();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns the front of the commit's hash as a number.
fn commit() -> usize {
    let output = Command::new("git").args(["rev-parse", "HEAD"]).output().expect("git");
    let hash = String::from_utf8(output.stdout).expect("a hash");
    usize::from_str_radix(&hash[..8], 16).expect("a hash")
}
