//! What differs between profiles in a session, besides the wire format.
//!
//! This and [`Profile`]'s own methods (ids of protocols, names, framing) are the only places where a
//! session asks which profile it has.

use super::lent::SessionParams;
use super::records::{Records, V1Records};
use super::v1_go::{RepeatFilter, Retention};
use crate::crypto::{AgreementError, PublicKey};
use crate::wire::{Profile, ProtocolId, StreamName};

impl Profile {
    /// Derives the session's keys with the key of the peer.
    pub(super) fn records(
        self,
        params: &SessionParams,
        key: &PublicKey,
    ) -> Result<Box<dyn Records>, AgreementError> {
        match self {
            Self::V1 | Self::V1Go => {
                let shared = params.identity.agree_v1(key)?;
                Ok(Box::new(V1Records::new(&*params.aead, &shared)))
            }
        }
    }

    /// Returns what keeps the messages that may have to go out again.
    pub(super) fn retention(self) -> Option<Box<Retention>> {
        match self {
            // A node resets no substream that it has accepted: what was written is not repeated.
            Self::V1 => None,
            Self::V1Go => Some(Box::default()),
        }
    }

    /// Returns what knows the records again that a peer has sent before.
    pub(super) fn repeat_filter(self) -> Option<Box<RepeatFilter>> {
        match self {
            Self::V1 => None,
            Self::V1Go => Some(Box::default()),
        }
    }

    /// True if a side sends on a substream that the peer has opened, where there is one.
    pub(super) const fn sends_on_peers_substream(self) -> bool {
        match self {
            Self::V1 | Self::V1Go => true,
        }
    }

    /// True if a peer ends its half of a substream of a stream in answer to the end of ours.
    pub(super) const fn answers_ends(self) -> bool {
        match self {
            Self::V1 => true,
            // Go never ends its half.
            Self::V1Go => false,
        }
    }

    /// True if a peer opens no more than one handshake substream in a session, and resets none.
    pub(super) const fn opens_one_handshake(self) -> bool {
        match self {
            Self::V1 => true,
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
