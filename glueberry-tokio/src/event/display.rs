//! Events as lines for people.

use std::fmt;

use super::{Event, StateChanged};

impl fmt::Display for StateChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer, self.state)?;
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// One line, which begins with the peer's id if the event is about a peer. The text may change with any
/// version.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(peer), false) = (self.peer(), matches!(self, Self::State(_))) {
            write!(f, "{peer} ")?;
        }
        match self {
            Self::State(changed) => changed.fmt(f),
            Self::RecordRejected { stream, error, .. } => {
                write!(f, "record rejected on {stream}: {error}")
            }
            Self::StreamInterrupted { stream, in_doubt, .. } => {
                write!(f, "stream {stream} was interrupted: {in_doubt} messages in doubt")
            }
            Self::StreamTruncated { stream, .. } => write!(f, "stream {stream} broke off"),
            Self::MessagesLost { stream, messages, .. } => {
                write!(f, "{messages} messages of the peer lost on {stream}")
            }
            Self::StreamRefused { stream, unsent, .. } => {
                write!(f, "stream {stream} was refused by the peer: {unsent} messages unsent")
            }
            Self::StreamNotPrepared { stream, .. } => {
                write!(f, "stream {stream} was opened by the peer before it was prepared")
            }
            Self::SessionClosed { closed, .. } => write!(f, "session closed: {closed}"),
            Self::DowngradeRefused { offered: Some(offered), .. } => {
                write!(f, "downgrade refused: it has spoken v2 before, and now {offered}")
            }
            Self::DowngradeRefused { offered: None, .. } => {
                write!(f, "downgrade refused: it has spoken v2 before, and refuses it now")
            }
            Self::Backpressure { stream, .. } => write!(f, "send queue of {stream} is full"),
            Self::MessagesDropped { stream: Some(stream), count, .. } => {
                write!(f, "{count} received messages dropped on {stream}")
            }
            Self::MessagesDropped { stream: None, count, .. } => {
                write!(f, "{count} received handshake messages dropped")
            }
            Self::AddressBook(trouble) => trouble.fmt(f),
            Self::ListenerLost { address, reason } => {
                write!(f, "no longer listening on {address}: {reason}")
            }
            Self::ListenerRestored { address } => write!(f, "listening again on {address}"),
            Self::PeerDiscovered { address, .. } => write!(f, "discovered at {address}"),
            Self::Lagged { missed } => write!(f, "{missed} events missed"),
            Self::Snapshot(states) => {
                write!(f, "states of {} peers after missed events", states.len())
            }
        }
    }
}

#[cfg(test)]
mod tests;
