//! What goes over the substreams of a connection, and how long it takes.

use bytes::Bytes;

use super::network::Network;
use crate::link::{EndState, Half, Stage};
use crate::plan::Cuts;
use crate::rng::{u64_of, usize_of};
use crate::run::Run;
use crate::wake::{Side, Wake};

/// What bytes go over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Substream(usize),
    /// The pipe that the substreams share.
    Line,
}

impl Network {
    /// Sends bytes, in pieces.
    pub(super) fn put(
        &mut self,
        run: &mut Run,
        link: usize,
        way: Way,
        side: Side,
        mut bytes: Bytes,
    ) {
        let mut crumbs = CRUMBS;
        while !bytes.is_empty() {
            let most = match run.plan.net.cuts {
                Cuts::Whole => bytes.len(),
                Cuts::UpTo(most) => usize_of(self.links[link].rng.range(1, most)),
                Cuts::Crumbs if crumbs > 0 => 1,
                Cuts::Crumbs => bytes.len(),
            };
            crumbs -= 1.min(crumbs);
            let piece = bytes.split_to(most.min(bytes.len()));
            let arrives = self.arrival(run, link, side, piece.len());
            match way {
                Way::Substream(at) => {
                    let half = &mut self.links[link].pipes[at].halves[1 - side];
                    let arrives = half.send(arrives, piece);
                    self.read_later(run, link, at, 1 - side, arrives);
                }
                Way::Line => {
                    if let Some(line) = &mut self.links[link].line {
                        let arrives = line.towards[1 - side].send(arrives, piece);
                        self.hear_later(run, link, 1 - side, arrives);
                    }
                }
            }
        }
    }

    /// Breaks a substream after so many bytes, if that is due; returns whether it did.
    pub(super) fn break_off(
        &mut self,
        run: &mut Run,
        link: usize,
        at: usize,
        side: Side,
        bytes: &Bytes,
    ) -> bool {
        let [from, to] = [side, 1 - side].map(|side| self.links[link].ends[side].host);
        let Some(after) = self.faults.break_after(from, to) else {
            return false;
        };
        if after > u64_of(bytes.len()) {
            self.faults.set_break(from, to, after - u64_of(bytes.len()));
            return false;
        }
        run.fire("break");
        self.touch_link(link);
        self.put(run, link, Way::Substream(at), side, bytes.slice(..usize_of(after)));
        let arrives = self.arrival(run, link, side, 0);
        let half = &mut self.links[link].pipes[at].halves[1 - side];
        half.is_shut = true;
        half.reset = Some(half.last.max(arrives));
        let arrives = half.last.max(arrives);
        self.read_later(run, link, at, 1 - side, arrives);
        self.refuse_half(run, link, at, side);
        // Where both halves are one thing, as in yamux, the other breaks with it.
        let is_acknowledged = self.links[link].pipes[at].halves[side].is_acknowledged;
        if self.links[link].rng.chance(500) && !is_acknowledged {
            let resets = self.arrival(run, link, 1 - side, 0);
            let half = &mut self.links[link].pipes[at].halves[side];
            half.is_shut = true;
            half.reset = half.reset.or(Some(resets));
            self.read_later(run, link, at, side, resets);
            self.refuse_half(run, link, at, 1 - side);
        }
        true
    }

    /// Reports to a writer that its half is not read any more.
    pub(super) fn refuse_half(&mut self, run: &mut Run, link: usize, at: usize, writer: Side) {
        let hears = self.arrival(run, link, 1 - writer, 0);
        self.links[link].pipes[at].halves[1 - writer].stopped = Some(hears);
        run.push(hears, Wake::Stopped(link, at, writer));
    }

    /// Draws when so many bytes that leave now arrive.
    pub(super) fn arrival(&mut self, run: &Run, link: usize, side: Side, len: usize) -> u64 {
        let delay = self.delay(run, link);
        let bandwidth = run.plan.net.bandwidth;
        if bandwidth == 0 {
            return run.now + delay;
        }
        let busy = &mut self.links[link].busy_until[side];
        *busy = (*busy).max(run.now) + u64_of(len) * 1_000_000 / bandwidth;
        let arrives = *busy + delay;
        // Behind so much, the name of a substream and its answer come when nobody waits for them.
        if 2 * (arrives - run.now) >= run.plan.limits.negotiation_timeout {
            self.touch_link(link);
        }
        arrives
    }

    /// Has what arrives at a moment handed to its reader then.
    pub(super) fn read_later(
        &mut self,
        run: &mut Run,
        link: usize,
        at: usize,
        side: Side,
        when: u64,
    ) {
        if let Some(pipe) = self.links[link].pipes.get_mut(at)
            && !std::mem::replace(&mut pipe.halves[side].read_is_due, true)
        {
            run.push(when.max(run.now), Wake::Read(link, at, side));
        }
    }

    /// Lets the writer know that its reader has it all, if that is so.
    pub(super) fn try_acknowledge(&mut self, run: &mut Run, link: usize, at: usize, reader: Side) {
        let state = &mut self.links[link];
        let is_open = state.ends[reader].state == EndState::Open;
        let Some(pipe) = state.pipes.get_mut(at) else {
            return;
        };
        let is_read = pipe.buffers[reader].as_ref().is_some_and(|buffer| buffer.is_read_over());
        let half: &mut Half = &mut pipe.halves[reader];
        let has_all = half.fin.is_some_and(|fin| fin <= run.now)
            && (is_read || !run.plan.net.acknowledges_reads);
        if is_open && has_all && half.reset.is_none() && !half.is_acknowledged {
            half.is_acknowledged = true;
            if self.links[link].line.is_some() {
                return self.acknowledge_all(run, link, at, reader);
            }
            self.send(run, link, Wake::Acknowledge(link, at, 1 - reader));
        }
    }

    /// A side resets its half of a substream and refuses the peer's.
    pub(super) fn reset(&mut self, run: &mut Run, link: usize, at: usize, side: Side) {
        let hears = self.arrival(run, link, side, 0);
        let Some(pipe) = self.links[link].pipes.get_mut(at) else {
            return;
        };
        if pipe.stage == Stage::Offered {
            // It was not announced yet, so its end needs no report.
            let was_silent = pipe.halves[1 - side].segments.is_empty();
            if was_silent {
                pipe.stage = Stage::Dead;
                return;
            }
        }
        let outwards = &mut pipe.halves[1 - side];
        outwards.is_shut = true;
        // It overtakes what was sent before, or doesn't.
        let overtakes = self.links[link].rng.chance(500);
        let outwards = &mut self.links[link].pipes[at].halves[1 - side];
        let resets = if overtakes { hears } else { hears.max(outwards.last) };
        outwards.reset = Some(resets);
        let inwards = &mut self.links[link].pipes[at].halves[side];
        inwards.is_over = true;
        inwards.drop_all();
        let was_shut = inwards.is_acknowledged;
        inwards.stopped = Some(hears);
        self.read_later(run, link, at, 1 - side, resets);
        if !was_shut {
            run.push(hears, Wake::Stopped(link, at, 1 - side));
        }
    }
}

/// Single bytes at the beginning of a chunk that is cut so.
const CRUMBS: usize = 12;
