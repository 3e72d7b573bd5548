//! What the driver has not answered.

use super::connection::Link;
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
        for id in self.connections.keys() {
            owed.extend(self.owed_by(*id));
        }
        owed.sort_by_key(|it| it.since);
        owed
    }

    /// Returns what the driver owes about one connection.
    pub(super) fn owed_by(&self, id: ConnectionId) -> Vec<Owed> {
        let (connection, mut owed) = (Some(id), Vec::new());
        if let Some(it) = self.connections.get(&id) {
            if it.dial.is_some() {
                owed.push(Owed { connection, waiting: Waiting::Dial, since: it.since });
            }
            if it.unknown_until.is_some() {
                owed.push(Owed { connection, waiting: Waiting::Peer, since: it.since });
            }
            if let Some(link) = &it.link {
                link.owed(&mut |waiting, since| owed.push(Owed { connection, waiting, since }));
            }
        }
        owed
    }
}
