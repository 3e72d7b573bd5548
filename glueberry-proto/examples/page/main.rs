//! Two nodes in a page, or in any program that has neither sockets nor a clock nor randomness: a
//! `Driver` each, over two queues. `cargo run -p glueberry-proto --example page`; CI runs it as
//! WebAssembly that imports nothing, and on a microcontroller.
//!
//! A page hands in what it has: bytes of `crypto.getRandomValues`, `performance.now()` for the time, and
//! with two pages a `MessagePort` or a WebSocket in place of the queues. Each node here knows the other's
//! key because both are in one program; between two pages the pipe has to authenticate (rule C0).

mod nodes;

use nodes::{Fallible, Random, run};
use std::io::{self, Write};

fn main() -> Fallible<()> {
    // In a page these come from `crypto.getRandomValues`, and no seed is used twice.
    let random = |byte| Random { secret: [byte; 32], seed: [byte; 32] };
    say(format_args!("{:?}", run([random(1), random(2)])?));
    Ok(())
}

fn say(text: impl std::fmt::Display) {
    // Who reads it may have enough, such as `head`.
    writeln!(io::stdout(), "{text}").unwrap_or_default();
}
