//! What a script that breaks the protocol knows of its connection.

use std::collections::BTreeSet;

use glueberry_proto::Profile;

use crate::attack::Attack;

/// What a script knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) attack: Attack,
    pub(crate) profile: Profile,
    /// Of each substream that it has opened: what for.
    pub(crate) opened: Vec<(usize, Purpose)>,
    /// Substreams whose name is settled.
    pub(crate) named: BTreeSet<usize>,
    /// Where the protocol is broken for all to see, once that is written.
    pub(crate) offence: Option<Offence>,
    /// Messages that it has sealed as it should, and that may be delivered once each.
    pub(crate) sealed: u64,
    pub(crate) delivered: u64,
    /// It has done its attack, which was counted.
    pub(crate) is_done: bool,
    /// It is a part of the attack on another connection.
    pub(crate) is_second: bool,
    /// It does on the handshake substream what it could do on a stream, or beside it.
    pub(crate) spoils_handshake: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Handshake,
    Stream,
    /// Another stream than the first.
    OtherStream,
    Junk,
}

/// Where the protocol is broken for all to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offence {
    pub(crate) pipe: usize,
    /// It happens with the end of the substream, and not before.
    pub(crate) by_end: bool,
    /// It is not read any more once the handshake is over.
    pub(crate) in_handshake: bool,
}
