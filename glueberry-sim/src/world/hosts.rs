//! All hosts, and what can be asked of them.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use glueberry_proto::{ConnectionState, PublicKey};

use crate::host::Host;
use crate::run::Run;
use crate::wake::Side;

/// The hosts of a run, by their number.
#[derive(Debug)]
pub(crate) struct Hosts {
    list: Vec<Host>,
    pub(super) by_key: BTreeMap<PublicKey, usize>,
}

impl Hosts {
    pub(super) fn new(list: Vec<Host>) -> Self {
        let by_key = list.iter().enumerate().map(|(host, one)| (one.key, host)).collect();
        Self { list, by_key }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Host> {
        self.list.iter()
    }

    /// Returns whether a host runs a node or a script.
    pub(super) fn is_up(&self, run: &Run, host: usize) -> bool {
        self.list[host].node.is_some() || run.is_adversary(host)
    }

    pub(super) fn state(&self, host: usize, peer: usize) -> ConnectionState {
        let key = self.list[peer].key;
        self.list[host].node.as_ref().map_or(ConnectionState::Disconnected, |node| node.state(key))
    }

    /// Returns the connection of the session that is the current one of a peer.
    pub(super) fn current_link(&self, host: usize, peer: usize) -> Option<usize> {
        self.current_end(host, peer).map(|(link, _)| link)
    }

    pub(super) fn current_end(&self, host: usize, peer: usize) -> Option<(usize, Side)> {
        let id = self.list[host].node.as_ref()?.session_of(self.list[peer].key)?;
        self.list[host].links.get(&id).copied()
    }

    pub(super) fn is_blacklisted(&self, host: usize, peer: usize) -> Option<bool> {
        let key = self.list[peer].key;
        self.list[host].node.as_ref().map(|node| node.is_blacklisted(key))
    }

    /// Returns whether a ban is certainly in force.
    pub(super) fn ban_holds(&self, run: &Run, host: usize, peer: usize) -> bool {
        let is_now = |until| self.wall_micros(run, host) < until;
        self.list[host].banned[peer].is_some_and(|ban| {
            let is_open = !ban.has_ended || self.is_blacklisted(host, peer) == Some(true);
            is_open && ban.until.is_none_or(is_now)
        })
    }

    /// Returns what the wall clock of a host says, in microseconds since 1970.
    pub(super) fn wall_micros(&self, run: &Run, host: usize) -> i64 {
        START + self.list[host].wall + i64::try_from(run.now).unwrap_or(0)
    }
}

impl Index<usize> for Hosts {
    type Output = Host;

    fn index(&self, host: usize) -> &Host {
        &self.list[host]
    }
}

impl IndexMut<usize> for Hosts {
    fn index_mut(&mut self, host: usize) -> &mut Host {
        &mut self.list[host]
    }
}

/// The year 2026, in microseconds since 1970.
const START: i64 = 1_780_000_000_000_000;
