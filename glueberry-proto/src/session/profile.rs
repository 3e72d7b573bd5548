//! What differs between profiles in a session, besides the wire format.
//!
//! This and [`Profile`]'s own methods (ids of protocols, names, framing) are the only places where a
//! session asks which profile it has.

use super::lent::SessionParams;
use super::records::V1Records;
use super::state::{Keys, V1Keys};
use super::v1_go::{RepeatFilter, Retention};
use crate::crypto::{AgreementError, PublicKey};
use crate::prelude::*;
use crate::v2::frame::MAX_APP;
use crate::wire::{Profile, ProtocolId, StreamName};

impl Profile {
    /// Derives what named streams need once they are prepared.
    pub(super) fn keys(
        self,
        params: &SessionParams,
        key: &PublicKey,
    ) -> Result<Keys, AgreementError> {
        let v1 = match self {
            Self::V1 | Self::V1Go => {
                let shared = params.identity.agree_v1(key)?;
                let records = V1Records::new(&*params.aead, &shared);
                Some(Box::new(V1Keys { records, rejected: 0 }))
            }
            // The key exchange is a part of the handshake, and each stream has keys of its own.
            Self::V2 => {
                params.identity.check_is_other(key)?;
                None
            }
        };
        Ok(Keys { profile: self, v1 })
    }

    /// Returns what keeps the messages that may have to go out again.
    pub(super) fn retention(self) -> Option<Box<Retention>> {
        match self {
            // A node resets no substream that it has accepted: what was written is not repeated.
            Self::V1 => None,
            Self::V1Go => Some(Box::default()),
            // What it keeps has numbers, and comes with the keys.
            Self::V2 => None,
        }
    }

    /// Returns what knows the records again that a peer has sent before.
    pub(super) fn repeat_filter(self) -> Option<Box<RepeatFilter>> {
        match self {
            Self::V1 | Self::V2 => None,
            Self::V1Go => Some(Box::default()),
        }
    }

    /// True if a side sends on a substream that the peer has opened, where there is one.
    pub(super) const fn sends_on_peers_substream(self) -> bool {
        match self {
            Self::V1 | Self::V1Go => true,
            Self::V2 => false,
        }
    }

    /// True if a peer ends its half of a substream of a stream in answer to the end of ours.
    pub(super) const fn answers_ends(self) -> bool {
        match self {
            Self::V1 => true,
            // Go never ends its half, and v2 says the end elsewhere.
            Self::V1Go | Self::V2 => false,
        }
    }

    /// True if a substream carries an instance of one direction of a stream, in records that belong
    /// together; false if each record is for itself.
    pub(super) const fn has_instances(self) -> bool {
        match self {
            Self::V1 | Self::V1Go => false,
            Self::V2 => true,
        }
    }

    /// True if the handshake substream has a key exchange, and stays as the session's control
    /// channel.
    pub(super) const fn has_channel(self) -> bool {
        self.has_instances()
    }

    /// Returns the length of the longest handshake message that the profile can carry, and of all
    /// that are unanswered: a peer of v2 drops no more at the end of its handshake.
    pub(super) const fn longest_handshake_message(self) -> usize {
        match self {
            Self::V1 | Self::V1Go => usize::MAX,
            Self::V2 => MAX_APP,
        }
    }

    /// True if a peer keeps one handshake substream of all its sessions, on whichever, and gives up the
    /// others. Another node of our kind keeps them all.
    pub(crate) const fn keeps_one_handshake(self) -> bool {
        matches!(self, Self::V1Go)
    }

    /// True if a peer opens no more than one handshake substream in a session, and resets none.
    pub(super) const fn opens_one_handshake(self) -> bool {
        match self {
            Self::V1 | Self::V2 => true,
            // Go dials another one whenever its application sends and the last has broken.
            Self::V1Go => false,
        }
    }

    /// Returns the protocols under which a peer may open a stream, if its profile is one of `profiles`.
    pub(super) fn stream_ids(profiles: &[Self], name: &StreamName) -> Vec<ProtocolId> {
        let mut ids: Vec<ProtocolId> = Vec::with_capacity(1);
        for profile in profiles {
            let id = profile.stream_id(name.clone());
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}
