//! Peers that break the protocol.

use glueberry_proto::CloseReason;

use super::World;
use crate::link::{Side, Standing};
use crate::plan::Trick;

impl World {
    pub(super) fn begin_trick(&mut self, _: usize, _: usize, _: Trick) {}

    pub(super) fn rogue_arrives(&mut self, link: usize, side: Side) {
        self.links[link].ends[side].standing = Standing::Gone;
        self.hang_up(link, side, 0);
    }

    pub(super) fn rogue_offered(&mut self, _: usize, _: usize) {}

    pub(super) fn rogue_reads(&mut self, _: usize, _: usize, _: Side) {}

    pub(super) fn rogue_goes_on(&mut self, _: usize, _: Side, _: u64) {}

    pub(super) fn rogue_blamed(&mut self, _: usize, _: Side, _: &CloseReason) {}
}
