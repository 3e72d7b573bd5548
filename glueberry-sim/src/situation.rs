//! Situations that runs must come into now and then: where they never do, no check can bite.

use glueberry_proto::ConnectionState::{
    self, Connected, Connecting, Cooldown, Disconnected, Established, Reconnecting,
};
use glueberry_proto::{Naming, Profile};

/// Returns the name of a transition between the states of a peer, if it is legal.
pub(crate) const fn transition(from: ConnectionState, to: ConnectionState) -> Option<&'static str> {
    Some(match (from, to) {
        (Disconnected, Connecting) => "Disconnected, Connecting",
        (Disconnected, Connected) => "Disconnected, Connected",
        (Disconnected, Reconnecting) => "Disconnected, Reconnecting",
        (Connecting, Connected) => "Connecting, Connected",
        (Connecting, Disconnected) => "Connecting, Disconnected",
        (Connected, Established) => "Connected, Established",
        (Connected, Cooldown) => "Connected, Cooldown",
        (Connected, Disconnected) => "Connected, Disconnected",
        (Established, Disconnected) => "Established, Disconnected",
        (Reconnecting, Connecting) => "Reconnecting, Connecting",
        (Reconnecting, Connected) => "Reconnecting, Connected",
        (Reconnecting, Disconnected) => "Reconnecting, Disconnected",
        (Cooldown, Disconnected) => "Cooldown, Disconnected",
        (Cooldown, Reconnecting) => "Cooldown, Reconnecting",
        _ => return None,
    })
}

/// Returns the name of a way in which sessions speak.
pub(crate) const fn way(naming: Naming, profile: Profile) -> Option<&'static str> {
    Some(match (naming, profile) {
        (Naming::Negotiated, Profile::V1) => "Established by v1, names negotiated",
        (Naming::Negotiated, Profile::V1Go) => "Established by v1-go, names negotiated",
        (Naming::Preamble, Profile::V1) => "Established by v1, names in preambles",
        (Naming::Preamble, Profile::V1Go) => "Established by v1-go, names in preambles",
        (Naming::Negotiated, Profile::V2) => "Established by v2, names negotiated",
        (Naming::Preamble, Profile::V2) => "Established by v2, names in preambles",
        _ => return None,
    })
}

pub(crate) const TAKEN_OVER: &str = "Established session taken over";
pub(crate) const DIAL_REFUSED: &str = "dial refused";
pub(crate) const DIAL_UNANSWERED: &str = "dial given up";
pub(crate) const SUPERFLUOUS: &str = "connection refused by a node";
pub(crate) const BACKPRESSURE: &str = "backpressure";
pub(crate) const INTERRUPTED: &str = "stream interrupted";
pub(crate) const STREAM_REFUSED: &str = "stream refused";
pub(crate) const UNSENT: &str = "messages given back unsent";
pub(crate) const IN_DOUBT: &str = "messages in doubt at the end";
pub(crate) const LATE: &str = "bytes after the session's end";
pub(crate) const HALF_CLOSED: &str = "bytes after this side's half was finished";
pub(crate) const TWO_SUBSTREAMS: &str = "two substreams of one stream";
pub(crate) const BEHIND_ANOTHER: &str = "a substream behind another of its stream";
pub(crate) const PRUNED: &str = "peer pruned";
pub(crate) const LONG_HANDSHAKE: &str = "handshake longer than a substream is negotiated";

/// All of them.
pub(crate) const SITUATIONS: [&str; 35] = [
    "Disconnected, Connecting",
    "Disconnected, Connected",
    "Disconnected, Reconnecting",
    "Connecting, Connected",
    "Connecting, Disconnected",
    "Connected, Established",
    "Connected, Cooldown",
    "Connected, Disconnected",
    "Established, Disconnected",
    "Reconnecting, Connecting",
    "Reconnecting, Connected",
    "Reconnecting, Disconnected",
    "Cooldown, Disconnected",
    "Cooldown, Reconnecting",
    "Established by v1, names negotiated",
    "Established by v1-go, names negotiated",
    "Established by v1, names in preambles",
    "Established by v1-go, names in preambles",
    "Established by v2, names negotiated",
    "Established by v2, names in preambles",
    TAKEN_OVER,
    DIAL_REFUSED,
    DIAL_UNANSWERED,
    SUPERFLUOUS,
    BACKPRESSURE,
    INTERRUPTED,
    STREAM_REFUSED,
    UNSENT,
    IN_DOUBT,
    LATE,
    HALF_CLOSED,
    TWO_SUBSTREAMS,
    BEHIND_ANOTHER,
    PRUNED,
    LONG_HANDSHAKE,
];
