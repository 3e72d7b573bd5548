//! How much a peer may send on a connection ahead of the reader.

use std::fmt;
use std::sync::{Arc, Mutex};

use quinn::VarInt;

use crate::mailbox::lock;
use crate::memory::PeerMemory;

/// The receive window of one connection.
///
/// Before its session is Established it is [`BASE`]. From then on it grows by the window of a
/// substream with each substream, so that one that nobody reads does not hold up the others, for as
/// long as the account of the node has room for that. Without room, substreams share what there is.
pub(super) struct Window {
    connection: quinn::Connection,
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
}

/// A substream that a window counts.
#[derive(Debug)]
pub(super) struct Counted(Arc<Window>);

impl Window {
    pub(super) fn new(connection: quinn::Connection, per_substream: u32) -> Arc<Self> {
        let per_substream = usize::try_from(per_substream).unwrap_or(usize::MAX);
        Arc::new(Self { connection, per_substream, state: Mutex::default() })
    }

    /// Counts a substream for as long as the result exists.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.update(|state| state.substreams += 1);
        Counted(self.clone())
    }

    pub(super) fn established(&self, memory: &Arc<PeerMemory>) {
        self.update(|state| state.memory = Some(memory.clone()));
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        let Some(memory) = state.memory.clone() else {
            return;
        };
        let (before, wanted) = (state.lent, state.substreams.saturating_mul(self.per_substream));
        while state.lent < wanted && memory.try_lend(self.per_substream) {
            state.lent += self.per_substream;
        }
        let excess = state.lent.saturating_sub(wanted);
        state.lent -= excess;
        if state.lent != before {
            let window = u64::try_from(BASE.saturating_add(state.lent)).unwrap_or(u64::MAX);
            self.connection.set_receive_window(VarInt::from_u64(window).unwrap_or(VarInt::MAX));
        }
        drop(state);
        memory.sub(excess);
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

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.update(|state| state.substreams -= 1);
    }
}

/// What a peer may send ahead of the reader on all substreams together, whoever it is: the messages
/// of a handshake, and little more.
pub(super) const BASE: usize = 64 * 1024;
