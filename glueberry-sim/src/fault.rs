//! What is wrong with the network at the moment, and how often anything went wrong.

use std::collections::BTreeMap;

use crate::plan::Tampering;
use crate::wake::Wake;

/// How often each kind of fault has really met something.
pub(crate) type Fired = BTreeMap<&'static str, u64>;

/// The state of the network, by ordered pairs of hosts.
#[derive(Debug)]
pub(crate) struct Faults {
    hosts: usize,
    /// How many faults block a direction.
    blocks: Vec<u32>,
    stalls: Vec<u64>,
    breaks: Vec<Option<u64>>,
    tamperings: Vec<Option<(u64, Tampering)>>,
    /// Of each host: how many times as long delays are, and until when.
    spikes: Vec<(u64, u64)>,
    held: Vec<(Wake, usize, usize)>,
}

impl Faults {
    pub(crate) fn new(hosts: usize) -> Self {
        Self {
            hosts,
            blocks: vec![0; hosts * hosts],
            stalls: vec![0; hosts * hosts],
            breaks: vec![None; hosts * hosts],
            tamperings: vec![None; hosts * hosts],
            spikes: vec![(1, 0); hosts],
            held: Vec::new(),
        }
    }

    pub(crate) const fn hosts(&self) -> usize {
        self.hosts
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.blocks[from * self.hosts + to] += 1;
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        let blocks = &mut self.blocks[from * self.hosts + to];
        *blocks = blocks.saturating_sub(1);
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocks[from * self.hosts + to] > 0
    }

    /// Keeps something until the network lets it pass.
    pub(crate) fn hold(&mut self, what: Wake, from: usize, to: usize) {
        self.held.push((what, from, to));
    }

    /// Removes and returns what the network lets pass again.
    pub(crate) fn released(&mut self) -> Vec<Wake> {
        let (blocks, hosts) = (&self.blocks, self.hosts);
        self.held
            .extract_if(.., |(_, from, to)| blocks[*from * hosts + *to] == 0)
            .map(|(what, ..)| what)
            .collect()
    }

    pub(crate) fn stall(&mut self, from: usize, to: usize, until: u64) {
        self.stalls[from * self.hosts + to] = until;
    }

    pub(crate) fn stalled_until(&self, from: usize, to: usize) -> Option<u64> {
        Some(self.stalls[from * self.hosts + to]).filter(|until| *until > 0)
    }

    pub(crate) fn set_break(&mut self, from: usize, to: usize, after: u64) {
        self.breaks[from * self.hosts + to] = Some(after);
    }

    /// Removes and returns after how many bytes a substream breaks.
    pub(crate) fn break_after(&mut self, from: usize, to: usize) -> Option<u64> {
        self.breaks[from * self.hosts + to].take()
    }

    pub(crate) fn set_tampering(&mut self, from: usize, to: usize, how: (u64, Tampering)) {
        self.tamperings[from * self.hosts + to] = Some(how);
    }

    /// Removes and returns after how many bytes something is altered, and how.
    pub(crate) fn tampering(&mut self, from: usize, to: usize) -> Option<(u64, Tampering)> {
        self.tamperings[from * self.hosts + to].take()
    }

    pub(crate) fn spike(&mut self, host: usize, factor: u64, until: u64) {
        self.spikes[host] = (factor, until);
    }

    /// Returns how many times as long things take between two hosts.
    pub(crate) fn slowness(&self, now: u64, a: usize, b: usize) -> u64 {
        let of = |host: usize| match self.spikes[host] {
            (factor, until) if until > now => factor,
            _ => 1,
        };
        of(a).max(of(b))
    }

    /// Nothing is wrong any more.
    pub(crate) fn clear(&mut self) {
        self.blocks.fill(0);
        self.stalls.fill(0);
        self.breaks.fill(None);
        self.tamperings.fill(None);
        self.spikes.fill((1, 0));
    }
}
