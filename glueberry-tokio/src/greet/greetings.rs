//! What the node's parts share with the task that greets peers.

use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::inbox::Inbox;
use crate::mailbox::Mailbox;

/// What the node's parts share with the task that greets peers.
pub(crate) struct Greetings {
    /// Where sessions deliver handshake messages.
    pub(crate) inbox: Arc<Inbox>,
    /// Peers that the application wants to be greeted.
    pub(crate) wanted: Mailbox<PeerId>,
}

impl Greetings {
    pub(crate) fn new(message_buffer: usize) -> Self {
        Self { inbox: Inbox::new(message_buffer), wanted: Mailbox::new() }
    }
}

impl fmt::Debug for Greetings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greetings").finish_non_exhaustive()
    }
}
