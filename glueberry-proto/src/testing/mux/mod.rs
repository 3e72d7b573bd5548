//! The mux, driven by a script: two of them over a link that cuts anywhere, or one against a peer
//! that sends what it likes.

mod hostile;
mod pair;

use std::time::Duration;

use super::script::Script;
use crate::mux::Config;

/// Runs a script. Its first bytes choose the windows, and whether the peer is honest.
///
/// Nothing may panic, timers must lie ahead, no more than the windows may be held, and no more
/// substreams known than are allowed. Between honest ends no byte may be lost, repeated, moved or
/// altered, no end may be acknowledged that was not taken, and nothing may stall.
pub fn fuzz_mux(data: &[u8]) {
    let mut script = Script::new(data);
    let flags = script.byte();
    let configs = [config(&mut script), config(&mut script)];
    if flags & 1 == 0 {
        pair::run(configs, &mut script);
    } else {
        hostile::run(&configs[0], &mut script);
    }
}

fn config(script: &mut Script<'_>) -> Config {
    let max_substreams = 1 + u16::from(script.byte() % 4);
    let window = 1 + u32::from(script.byte());
    let spare = u32::from(script.byte());
    Config {
        max_substreams,
        window,
        connection_window: 2 * u32::from(max_substreams) * window + spare,
        max_frame: 1 + u16::from(script.byte()),
        ping_after: Some(Duration::from_secs(10)),
        ..Config::default()
    }
}
