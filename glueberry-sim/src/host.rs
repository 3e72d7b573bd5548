//! A machine on which a node runs, with the application that uses it.

use std::collections::{BTreeMap, VecDeque};

use glueberry_proto::{DialId, Node, PublicKey, SessionId, ToNode};

use crate::attack::Attack;
use crate::disk::BookFile;
use crate::plan::Net;
use crate::rng::Rng;
use crate::wake::Side;

/// A host: a node with its mail, and a scripted application.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) key: PublicKey,
    /// The attack that it does to a host if that dials it before then.
    pub(crate) planned_attack: Option<(usize, Attack, u64)>,
    /// Counts the times that it was started.
    pub(crate) life: u64,
    /// None, while it is down or an adversary.
    pub(crate) node: Option<Node>,
    pub(crate) rng: Rng,
    /// The end of a connection that each session has.
    pub(crate) links: BTreeMap<SessionId, (usize, Side)>,
    pub(crate) dials: BTreeMap<DialId, Dialled>,
    /// Messages of sessions to the node that are on their way.
    pub(crate) inbox: VecDeque<(SessionId, ToNode)>,
    pub(crate) inbox_is_due: bool,
    /// When the node's next wake is in the queue.
    pub(crate) timer: Option<u64>,
    /// When the node last had an input.
    pub(crate) last_input: u64,
    pub(crate) idle_wakes: u32,
    pub(crate) paused_until: u64,
    pub(crate) is_stopping: bool,
    /// Of each peer: the ban that the application has laid on it.
    pub(crate) banned: Vec<Option<Ban>>,
    pub(crate) disk: BookFile,
    /// By how many microseconds the wall clock is wrong.
    pub(crate) wall: i64,
    /// Of each peer: whether its application wants to be connected to it.
    pub(crate) wants: Vec<bool>,
    /// Its application takes no events of the node before this.
    pub(crate) absent_until: u64,
    pub(crate) dials_fail_until: u64,
    pub(crate) disk_full_until: u64,
    /// Whom dials reach instead, and until when.
    pub(crate) misled: Option<(usize, u64)>,
    pub(crate) was_misled: bool,
}

/// A dial under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialled {
    pub(crate) peer: PublicKey,
    pub(crate) to: usize,
    pub(crate) tries: u64,
    pub(crate) since: u64,
    /// What the node knew of the time then.
    pub(crate) begun: u64,
    /// Since when the application waits for it.
    pub(crate) wanted_at: Option<u64>,
}

/// A ban, as the application knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ban {
    /// When it was laid on him.
    pub(crate) since: u64,
    /// In microseconds of the host's wall clock; `None` for ever.
    pub(crate) until: Option<i64>,
    /// It is in the book that is being written.
    pub(crate) is_written: bool,
    /// The disk has it.
    pub(crate) is_durable: bool,
    /// The wall clock was beyond its end before it was set.
    pub(crate) has_ended: bool,
}

impl Ban {
    /// A ban for ever that is not stored.
    pub(crate) const fn since(since: u64) -> Self {
        Self { since, until: None, is_written: false, is_durable: false, has_ended: false }
    }
}

/// What the scripted application of a host is up to.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// Of each peer: whether an attempt is in the queue already.
    pub(crate) retry_is_due: Vec<bool>,
    /// Of each peer: whether it was greeted since it is Connected.
    pub(crate) has_greeted: Vec<bool>,
    /// Of each peer: the number of the next handshake message to it, since it is Connected.
    pub(crate) said: Vec<u16>,
    pub(crate) flows: Vec<Flow>,
    /// Microseconds per message that it takes; zero for all at once.
    pub(crate) pace: u64,
    /// Takes no messages before this.
    pub(crate) unread_until: u64,
}

impl App {
    pub(crate) fn new(peers: usize) -> Self {
        let (retry_is_due, has_greeted) = (vec![false; peers], vec![false; peers]);
        Self { retry_is_due, has_greeted, said: vec![0; peers], ..Self::default() }
    }
}

/// Messages that a host says to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) to: usize,
    pub(crate) stream: usize,
    /// Times left, of so many messages each.
    pub(crate) count: u64,
    pub(crate) burst: u64,
    /// Of the burst that is being sent.
    pub(crate) left: u64,
    pub(crate) size: usize,
    pub(crate) every: u64,
    /// It waits for the session, or for room, and not for time.
    pub(crate) is_parked: bool,
}

impl Host {
    pub(crate) fn new(key: PublicKey, peers: usize, rng: Rng) -> Self {
        Self {
            key,
            planned_attack: None,
            life: 0,
            node: None,
            rng,
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            inbox: VecDeque::new(),
            inbox_is_due: false,
            timer: None,
            last_input: 0,
            idle_wakes: 0,
            paused_until: 0,
            is_stopping: false,
            banned: vec![None; peers],
            disk: BookFile::default(),
            wall: 0,
            wants: vec![false; peers],
            absent_until: 0,
            dials_fail_until: 0,
            disk_full_until: 0,
            misled: None,
            was_misled: false,
        }
    }

    /// Forgets what a killed process forgets.
    pub(crate) fn forget(&mut self) {
        self.node = None;
        self.links.clear();
        self.dials.clear();
        self.inbox.clear();
        self.inbox_is_due = false;
        self.timer = None;
        self.idle_wakes = 0;
    }

    /// Draws how long a message between the node and a session takes.
    pub(crate) fn message_delay(&mut self, net: &Net) -> u64 {
        match net.message_delay {
            0 => 0,
            most => self.rng.below(most),
        }
    }
}
