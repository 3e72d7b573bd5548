//! What a session lends to its parts.

use alloc::sync::Arc;

use super::action::{Direction, Naming};
use super::offer::Offer;
use super::outputs::Outputs;
use super::state::{Keys, State};
use super::substreams::{Purpose, Substreams};
use crate::config::Config;
use crate::crypto::{Aead, Identity, PublicKey};
use crate::drop_guard::DropGuard;
use crate::id::{SessionId, SubstreamId};
use crate::prelude::*;
use crate::seed::Seed;
use crate::time::Instant;
use crate::v2::agreement::Binding;
use crate::wire::ProtocolId;

/// What is fixed when a node makes a session.
#[derive(Debug)]
pub(crate) struct SessionParams {
    pub(crate) config: Arc<Config>,
    pub(crate) aead: Arc<dyn Aead>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) peer: PublicKey,
    pub(crate) offer: Offer,
    pub(crate) id: SessionId,
    pub(crate) direction: Direction,
    pub(crate) naming: Naming,
    pub(crate) seed: Seed,
    /// When the session began, in milliseconds since 1970-01-01 UTC, as far as that is known.
    pub(crate) wall_ms: u64,
    /// Until the end has been forwarded.
    pub(crate) guard: Option<DropGuard>,
    /// What ties the session to its connection, if the transport has that.
    pub(crate) binding: Binding,
}

/// What the parts of a session share, lent to one of them for one step.
///
/// A part reads what is fixed, the time and the session's state, and has the table of substreams
/// and the queues of outputs to work with. It can't reach another part: what concerns several is
/// returned to the session, which routes it.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) params: &'a SessionParams,
    pub(super) now: Instant,
    pub(super) state: &'a State,
    pub(super) substreams: &'a mut Substreams,
    pub(super) out: &'a mut Outputs,
}

/// What the session lends to write or read a named stream: its keys.
#[derive(Debug)]
pub(super) struct LentKeys<'a> {
    pub(super) params: &'a SessionParams,
    pub(super) now: Instant,
    pub(super) is_draining: bool,
    pub(super) keys: &'a mut Keys,
    pub(super) substreams: &'a Substreams,
    pub(super) out: &'a mut Outputs,
}

impl<'a> Lent<'a> {
    pub(super) fn config(&self) -> &'a Config {
        &self.params.config
    }

    /// Returns until when a substream that is negotiated from now on must be agreed.
    pub(super) fn negotiation_deadline(&self) -> Instant {
        self.now + self.params.config.negotiation_timeout
    }

    /// Has the adapter open a substream, which counts from now on.
    pub(super) fn open(&mut self, purpose: Purpose, proposals: Vec<ProtocolId>) -> SubstreamId {
        let deadline = self.negotiation_deadline();
        self.substreams.open(purpose, proposals, deadline, self.out)
    }
}
