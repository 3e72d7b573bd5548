//! What the parts of a node are lent while an input is handled.

use std::sync::Arc;
use std::time::Duration;

use super::dials::Dials;
use super::outputs::Outputs;
use super::store::Store;
use crate::config::Config;
use crate::crypto::PublicKey;
use crate::seed::Generator;
use crate::time::Instant;

/// What every part may read and only the node changes.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) config: Arc<Config>,
    /// The node's own key.
    pub(super) own_key: PublicKey,
    /// The latest time that an input has brought.
    pub(super) now: Instant,
    pub(super) is_stopping: bool,
}

impl Env {
    /// Returns when a wait is over. The wait may be zero, but a deadline is always later than now
    /// (rule C8).
    pub(super) fn after(&self, wait: Duration) -> Instant {
        self.now + wait.max(Duration::from_micros(1))
    }
}

/// The parts of a node that a step of one peer may use, besides the peer.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) env: &'a Env,
    pub(super) dials: &'a mut Dials,
    pub(super) store: &'a mut Store,
    pub(super) out: &'a mut Outputs,
    /// What backoffs are drawn from.
    pub(super) random: &'a mut Generator,
    /// Set by the step if a session became current; the node then checks how many there are.
    pub(super) has_activated: bool,
}
