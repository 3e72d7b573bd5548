//! Bad input, each with the exact error that it gets; the node goes on after each.

mod commands;
mod handshake;
mod node;
mod strangers;
mod streams;
mod substreams;

use glueberry_proto::wire::{FrameError, MAX_TRAILING_LEN};
use glueberry_proto::{CloseReason, Config, Naming, PeerMisbehaved, Profile};

use crate::support::{BOTH, Raw, config};

/// Every way to speak: how substreams are named, and how messages are framed.
fn each_wire() -> impl Iterator<Item = (Naming, Profile)> {
    BOTH.into_iter()
        .flat_map(|naming| [Profile::V1, Profile::V1Go].map(|profile| (naming, profile)))
}

fn only(profile: Profile, streams: &[&str]) -> Config {
    let mut config = config(streams);
    config.profiles = vec![profile];
    config
}

/// Checks that the session ended for the given misbehaviour and that its node goes on.
#[track_caller]
fn ended_for(mut raw: Raw, how: PeerMisbehaved) {
    assert_eq!(raw.closed().reason, CloseReason::Misbehaved(how));
    raw.node_is_usable();
}

/// Frames of a Go node that cannot be read, and why.
const MALFORMED_FRAMES: [(&[u8], FrameError); 5] = [
    (&[0], FrameError::Empty),
    (&[0xff; 11], FrameError::InvalidVarint),
    (&[1, 0x80], FrameError::InvalidVarint),
    (&[3, 9, 1, 1], FrameError::BodyExceedsFrame { body: 9, room: 2 }),
    (
        &[0x82, 0x08, 0],
        FrameError::Trailing { announced: MAX_TRAILING_LEN + 1, limit: MAX_TRAILING_LEN },
    ),
];
