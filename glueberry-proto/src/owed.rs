//! What a driver has not answered: for people who look for the cause of a stall.

use core::fmt;

use crate::id::{ConnectionId, SessionId, SubstreamId};
use crate::time::Instant;

/// Something that was asked of the driver and is waited for.
///
/// [`Session::owed`](crate::Session::owed), [`Node::owed`](crate::Node::owed) and
/// [`Endpoint::owed`](crate::endpoint::Endpoint::owed) return it, and a session that ends by a timeout
/// reports the oldest in [`Closed::owed`](crate::Closed::owed). Nothing else follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owed {
    /// The connection of an endpoint that it concerns, if it is about one.
    pub connection: Option<ConnectionId>,
    /// What is waited for.
    pub waiting: Waiting,
    /// Since when.
    pub since: Instant,
}

/// What a machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waiting {
    /// Outputs of an endpoint wait: [`poll_output`](crate::endpoint::Endpoint::poll_output) was not
    /// called until it returned [`Timeout`](crate::endpoint::Output::Timeout).
    Outputs {
        /// How many are known of.
        count: usize,
    },
    /// Actions wait: `poll_action` was not called until it returned `None`.
    Actions {
        /// How many.
        count: usize,
    },
    /// A dial was not answered: by `handle_connected`, `handle_connection` or `handle_dial_failed`.
    Dial,
    /// The peer of a connection that came in was not reported: `handle_connected`.
    Peer,
    /// Nothing was heard of a session since it was made: its messages are not carried to the node,
    /// its actions not taken, or the peer is silent.
    Unheard(SessionId),
    /// Bytes were not reported as written: `handle_written`. Nothing more is written until then.
    Written {
        /// How many bytes.
        bytes: usize,
    },
    /// A substream was not reported as open: `handle_opened` or `handle_open_failed`.
    Opened(SubstreamId),
    /// A substream has bytes to write, and `poll_write` was not called since it last gave some.
    Write(SubstreamId),
    /// A substream is to be read again, and nothing was handed in since: `handle_data`.
    Read(SubstreamId),
    /// The end of a half was not reported as acknowledged: `handle_acknowledged`.
    Acknowledged(SubstreamId),
}

impl Owed {
    pub(crate) const fn new(waiting: Waiting, since: Instant) -> Self {
        Self { connection: None, waiting, since }
    }
}

impl fmt::Display for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waiting {
            Waiting::Outputs { count } => write!(f, "{count} outputs were not taken")?,
            Waiting::Actions { count } => write!(f, "{count} actions were not taken")?,
            Waiting::Dial => f.write_str("a dial was not answered")?,
            Waiting::Peer => f.write_str("a peer was not reported as authenticated")?,
            Waiting::Unheard(id) => write!(f, "nothing was heard of {id}")?,
            Waiting::Written { bytes } => write!(f, "{bytes} bytes were not reported as written")?,
            Waiting::Opened(id) => write!(f, "{id} was not reported as open")?,
            Waiting::Write(id) => write!(f, "nothing was asked for to be written on {id}")?,
            Waiting::Read(id) => write!(f, "nothing was read on {id}")?,
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
