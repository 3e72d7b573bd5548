//! Finding out whether the peer is still there.

use super::substreams::{Purpose, Stage, Substreams};
use crate::id::SubstreamId;

/// Whether the node wants to know that the peer still answers.
#[derive(Debug, Default)]
pub(super) struct Probe {
    is_pending: bool,
}

impl Probe {
    /// The node asks. Returns whether a substream is to be proposed for it, which every peer with a
    /// session refuses: that, like anything else that arrives from now on, proves that it lives.
    pub(super) const fn start(&mut self) -> bool {
        !core::mem::replace(&mut self.is_pending, true)
    }

    /// Something arrived from the peer. Returns whether that answers the node.
    pub(super) const fn answered(&mut self) -> bool {
        core::mem::replace(&mut self.is_pending, false)
    }

    /// True if a substream is the probe: there it is the answer that counts, not that bytes of it
    /// arrive.
    pub(super) fn is_on(&self, id: SubstreamId, substreams: &Substreams) -> bool {
        self.is_pending
            && substreams.get(id).is_some_and(|substream| {
                matches!(substream.stage, Stage::Proposing { purpose: Purpose::Probe, .. })
            })
    }
}
