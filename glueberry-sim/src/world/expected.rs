//! What a host must think of its peers, by its events and by what its application has asked.

use std::collections::{BTreeMap, BTreeSet};

use glueberry_proto::{ConnectionState, Direction};

use super::node_checks::Watched;
use super::reference::Storing;

/// What is known of the peers of one host, each under its number.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The state that was reported last, and when.
    pub(super) reported: Vec<(ConnectionState, u64)>,
    /// Attempts to get it back since a session has lasted.
    pub(super) attempts: Vec<u32>,
    /// When its state last changed, as the event says.
    pub(super) changed_at: Vec<u64>,
    /// Whether the application has asked for it since.
    pub(super) asked: Vec<bool>,
    /// Whether the session that was Established last was of v2.
    pub(super) spoke_v2: Vec<bool>,
    /// When it was disconnected here.
    pub(super) parted: Vec<u64>,
    /// Since when the book of the host has something in it that is to be stored at once, and no save
    /// has ended.
    pub(super) unsaved_since: Option<u64>,
    pub(super) watched: Watched,
    pub(super) storing: Storing,
    /// Who has dialled, as the latest events since the node was looked at say.
    pub(super) told: BTreeMap<usize, Option<Direction>>,
    /// Peers whose dial the application waits for, while it is queued.
    pub(super) awaited: BTreeSet<usize>,
    /// Peers whose dial makes way for another, and the inputs of the run until then.
    pub(super) postponed: BTreeMap<usize, u64>,
    /// When the application last made many calls before the node was asked for its actions.
    pub(super) burst_at: Option<u64>,
    /// Peers in Cooldown that are not to be dialled when it is over.
    pub(super) called_off: BTreeSet<usize>,
}

impl Expected {
    pub(super) fn new(peers: usize) -> Self {
        Self {
            reported: vec![(ConnectionState::Disconnected, 0); peers],
            attempts: vec![0; peers],
            changed_at: vec![0; peers],
            asked: vec![false; peers],
            spoke_v2: vec![false; peers],
            parted: vec![0; peers],
            unsaved_since: None,
            watched: Watched::default(),
            storing: Storing::default(),
            told: BTreeMap::new(),
            awaited: BTreeSet::new(),
            postponed: BTreeMap::new(),
            burst_at: None,
            called_off: BTreeSet::new(),
        }
    }

    /// The application has asked for a peer, which was in this state.
    pub(super) fn asks(&mut self, peer: usize, before: ConnectionState) {
        match before {
            // It joins the attempt that is under way: no other begins.
            ConnectionState::Connecting => self.attempts[peer] = 0,
            _ => self.asked[peer] = true,
        }
    }

    /// The host's process is killed.
    pub(super) fn forget(&mut self) {
        self.unsaved_since = None;
        self.watched = Watched::default();
        self.storing = Storing::default();
        self.told.clear();
        self.awaited.clear();
        self.postponed.clear();
        self.called_off.clear();
        self.parted.fill(0);
        self.attempts.fill(0);
        self.asked.fill(false);
        self.reported.fill((ConnectionState::Disconnected, 0));
    }

    /// No time passes for the host, for so long.
    pub(super) fn pause(&mut self, lasts: u64) {
        for (_, since) in &mut self.reported {
            *since += lasts;
        }
    }
}
