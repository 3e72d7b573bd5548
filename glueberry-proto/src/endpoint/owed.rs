//! What the driver has not answered: for people who look for the cause of a stall.

use std::fmt;

use super::connection::Link;
use super::{Endpoint, Transport};
use crate::id::ConnectionId;
use crate::time::Instant;

/// Something that an [`Endpoint`] has asked for and waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owed {
    /// The connection that it concerns; `None`: the outputs as a whole.
    pub connection: Option<ConnectionId>,
    /// What is waited for.
    pub waiting: Waiting,
    /// Since when.
    pub since: Instant,
}

/// What an [`Endpoint`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// Outputs wait that were not taken: [`poll_output`](Endpoint::poll_output) was not called until
    /// it returned [`Timeout`](super::Output::Timeout).
    Outputs {
        /// How many are known of.
        count: usize,
    },
    /// A dial was not answered by [`handle_connected`](Endpoint::handle_connected) or
    /// [`handle_dial_failed`](Endpoint::handle_dial_failed).
    Dial,
    /// Bytes were not reported as written: `handle_written`. Nothing more is written until then.
    Written {
        /// How many bytes.
        bytes: usize,
    },
    /// A substream was not reported as open: `handle_opened` or `handle_open_failed`.
    Opened(crate::SubstreamId),
    /// The end of a half was not reported as acknowledged: `handle_acknowledged`.
    Acknowledged(crate::SubstreamId),
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waiting {
            Waiting::Outputs { count } => write!(f, "{count} outputs were not taken")?,
            Waiting::Dial => f.write_str("a dial was not answered")?,
            Waiting::Written { bytes } => write!(f, "{bytes} bytes were not reported as written")?,
            Waiting::Opened(id) => write!(f, "{id} was not reported as open")?,
            Waiting::Acknowledged(id) => {
                write!(f, "the end of {id} was not reported as acknowledged")?;
            }
        }
        if let Some(connection) = self.connection {
            write!(f, " on {connection}")?;
        }
        write!(f, " since {}", self.since)
    }
}

impl<T: Transport> Endpoint<T> {
    /// Returns what the driver owes: what it was asked for and has not answered. An entry that stays
    /// is where a stall comes from. A debugging aid: nothing follows from it.
    pub fn owed(&self) -> Vec<Owed> {
        let mut owed = Vec::new();
        let count = self.outputs.len() + self.touched.len();
        if count > 0 {
            let waiting = Waiting::Outputs { count };
            owed.push(Owed { connection: None, waiting, since: self.now });
        }
        for (id, it) in &self.connections {
            let connection = Some(*id);
            if it.dial.is_some() {
                owed.push(Owed { connection, waiting: Waiting::Dial, since: it.since });
            }
            if let Some(link) = &it.link {
                link.owed(&mut |waiting, since| owed.push(Owed { connection, waiting, since }));
            }
        }
        owed
    }
}
