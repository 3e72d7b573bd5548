//! What outlives a host's process: its disk and its wall clock.

use glueberry_proto::NodeAction;

use super::World;

impl World {
    /// Does what a node asks of its disk.
    pub(super) fn more_node_action(&mut self, _: usize, _: NodeAction) {}

    /// Gives a node that starts what its disk has.
    pub(super) fn load_book(&mut self, _: usize) {}

    pub(super) fn set_wall_clock(&mut self, _: usize, _: i64) {}
}
