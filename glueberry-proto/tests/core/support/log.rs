//! What came out of the machines, in order, for comparing two runs.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use glueberry_proto::{Action, DialId, SessionId, StreamName, SubstreamId};

use super::Side;

/// Everything that two worlds have put out, and every id that they have allocated.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Lines are kept only if this is set.
    pub(crate) is_on: bool,
    pub(crate) lines: Vec<String>,
    /// All bytes that were ever written, whoever wrote them.
    pub(crate) written: Vec<u8>,
    /// The same by pipe and side.
    pub(crate) wire: BTreeMap<(usize, Side), Vec<u8>>,
    pub(crate) substreams: BTreeMap<(Side, SessionId), Vec<SubstreamId>>,
    pub(crate) connections: [Vec<SessionId>; 2],
    pub(crate) dials: [Vec<DialId>; 2],
    /// Sessions that have asked for their connection to be closed, which is the last thing.
    over: BTreeSet<(Side, SessionId)>,
    /// What such sessions asked for afterwards.
    pub(crate) late_actions: Vec<String>,
}

impl Log {
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.is_on {
            self.lines.push(line());
        }
    }

    pub(crate) fn action(&mut self, side: Side, connection: SessionId, action: &Action) {
        if self.over.contains(&(side, connection)) {
            self.late_actions.push(format!("{action:?}"));
        }
        if matches!(action, Action::CloseConnection { .. }) {
            self.over.insert((side, connection));
        }
    }

    pub(crate) fn message(&mut self, side: Side, stream: &StreamName, message: &Bytes) {
        self.note(|| format!("{side} {stream} got {} {:016x}", message.len(), hash(message)));
    }

    pub(crate) fn bytes(&mut self, side: Side, pipe: usize, bytes: &[u8]) {
        self.note(|| format!("{side} wrote {} {:016x} on {pipe}", bytes.len(), hash(bytes)));
        if self.is_on {
            self.written.extend_from_slice(bytes);
            self.wire.entry((pipe, side)).or_default().extend_from_slice(bytes);
        }
    }
}

/// FNV-1a, the same on every platform.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}
