//! What the parts of a node are lent while an input is handled.

use super::dials::Dials;
use super::env::Env;
use super::outputs::Outputs;
use super::store::Store;
use crate::seed::Generator;

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
