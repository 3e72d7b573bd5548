//! How much a peer may send on a connection ahead of the reader.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use quinn::VarInt;

use crate::mailbox::lock;
use crate::memory::PeerMemory;

/// The receive window of one connection.
///
/// Before its session is Established it is a small one of 64 KiB. From then on it grows with each
/// substream, so that those that nobody reads do not hold up the others, for as long as the account of
/// the node has room for that. Without room, substreams share what there is.
///
/// It grows by more than the window of a substream. QUIC tells the peer of what was read only when that
/// is an eighth of the whole, so more than an eighth must be left to those that are read.
pub struct Window {
    connection: quinn::Connection,
    /// By how much it grows with each.
    per_substream: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Set once the session is Established.
    memory: Option<Arc<PeerMemory>>,
    substreams: usize,
    /// What is charged.
    lent: usize,
    /// What is lent for others.
    loans: BTreeMap<u64, (Arc<PeerMemory>, usize)>,
    next_loan: u64,
}

/// A substream that a window counts.
#[derive(Debug)]
pub struct Counted(Arc<Window>);

/// What a window is larger by because of what it carries for another peer.
#[derive(Debug)]
pub struct Loan {
    window: Arc<Window>,
    id: u64,
}

impl Window {
    /// Returns the window of a connection that begins with that small one, and whose substreams have
    /// windows of `stream_window`.
    pub fn new(connection: quinn::Connection, stream_window: u32) -> Arc<Self> {
        let per_substream = usize::try_from(per_substream(stream_window)).unwrap_or(usize::MAX);
        Arc::new(Self { connection, per_substream, state: Mutex::default() })
    }

    /// Counts a substream for as long as the result exists.
    pub fn count(self: &Arc<Self>) -> Counted {
        self.update(|state| state.substreams += 1);
        Counted(self.clone())
    }

    /// Lends the peer more from now on, on its account. Where it has been told before, that account
    /// goes on.
    pub fn established(&self, memory: &Arc<PeerMemory>) {
        self.update(|state| {
            state.memory.get_or_insert_with(|| memory.clone());
        });
    }

    /// Lends as much as for one substream for as long as the result exists, on the account of a peer
    /// whose connection is carried in a substream of this one.
    pub fn lend(self: &Arc<Self>, memory: &Arc<PeerMemory>) -> Loan {
        let mut id = 0;
        self.update(|state| {
            id = state.next_loan;
            state.next_loan += 1;
            state.loans.insert(id, (memory.clone(), 0));
        });
        Loan { window: self.clone(), id }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        let before = state.all_lent();
        change(&mut state);
        for (memory, lent) in state.loans.values_mut() {
            if *lent == 0 && memory.try_lend(self.per_substream) {
                *lent = self.per_substream;
            }
        }
        let mut excess = 0;
        if let Some(memory) = state.memory.clone() {
            let wanted = state.substreams.saturating_mul(self.per_substream);
            while state.lent < wanted && memory.try_lend(self.per_substream) {
                state.lent += self.per_substream;
            }
            excess = state.lent.saturating_sub(wanted);
            state.lent -= excess;
        }
        let lent = state.all_lent();
        if lent != before {
            let lent = u64::try_from(lent).unwrap_or(u64::MAX);
            let window = VarInt::from_u64(lent.saturating_add(BASE.into_inner()));
            self.connection.set_receive_window(window.unwrap_or(VarInt::MAX));
        }
        let memory = state.memory.clone();
        drop(state);
        if let Some(memory) = memory {
            memory.sub(excess);
        }
    }
}

impl State {
    fn all_lent(&self) -> usize {
        self.loans.values().map(|(_, lent)| lent).sum::<usize>() + self.lent
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let state = lock(&self.state);
        if let Some(memory) = &state.memory {
            memory.sub(state.lent);
        }
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut ended = None;
        self.window.update(|state| ended = state.loans.remove(&self.id));
        if let Some((memory, lent)) = ended {
            memory.sub(lent);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.update(|state| state.substreams -= 1);
    }
}

/// Returns by how much a window grows with each substream.
pub(super) fn per_substream(stream_window: u32) -> u64 {
    let stream_window = u64::from(stream_window);
    stream_window + stream_window / 4
}

/// What a peer may send ahead of the reader on all substreams together, whoever it is: the messages
/// of a handshake, and little more.
pub(super) const BASE: VarInt = VarInt::from_u32(64 * 1024);
