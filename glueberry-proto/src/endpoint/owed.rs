//! What the driver has not answered.

use super::connection::{Connection, Link};
use super::{Endpoint, Transport};
use crate::id::ConnectionId;
use crate::owed::{Owed, Waiting};
use crate::prelude::*;

impl<T: Transport> Endpoint<T> {
    /// Returns what the driver owes: what it was asked for and has not answered, the oldest first. An
    /// entry that stays is where a stall comes from. A debugging aid: nothing follows from it.
    pub fn owed(&self) -> Vec<Owed> {
        let mut owed = Vec::new();
        let count = self.outputs.len() + self.touched.len();
        if count > 0 {
            owed.push(Owed::new(Waiting::Outputs { count }, self.now));
        }
        for (id, it) in &self.connections {
            owed.extend(owed_by(*id, it));
        }
        owed.sort_by_key(|it| it.since);
        owed
    }
}

fn owed_by<L: Link>(id: ConnectionId, it: &Connection<L>) -> Vec<Owed> {
    let (connection, mut owed) = (Some(id), Vec::new());
    if it.dial.is_some() {
        owed.push(Owed { connection, waiting: Waiting::Dial, since: it.since });
    }
    if it.unknown_until.is_some() {
        owed.push(Owed { connection, waiting: Waiting::Peer, since: it.since });
    }
    if let Some(link) = &it.link {
        link.owed(&mut |waiting, since| owed.push(Owed { connection, waiting, since }));
    }
    owed
}

/// Returns the oldest that the driver owes a connection that has a session.
pub(super) fn oldest_owed(id: ConnectionId, link: &impl Link) -> Option<Owed> {
    let mut oldest: Option<Owed> = None;
    link.owed(&mut |waiting, since| {
        if oldest.is_none_or(|it| since < it.since) {
            oldest = Some(Owed { connection: Some(id), waiting, since });
        }
    });
    oldest
}
