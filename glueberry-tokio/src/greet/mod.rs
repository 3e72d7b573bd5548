//! The ready-made handshake: the document's greeting, held by the node itself.
//!
//! One task per node, beside the node's own. It receives all handshake messages in place of
//! [`Messages`](crate::Messages), holds one [`Greeting`](glueberry_proto::greeting::Greeting) for
//! each peer that is Connected, and does what that wants by the commands that an application would
//! use. So it runs over every transport, and competing sessions are nothing that it must know of.

pub(crate) mod greetings;
mod policy;
mod task;

use futures_channel::oneshot;
use libp2p_identity::PeerId;

pub use self::policy::{Candidate, Handshake};
pub(crate) use self::task::Greeter;
use crate::command::{Answer, HandshakeCommand, HandshakeRequest, NodeCommand};
use crate::error::{Error, ErrorCode};
use crate::shared::Shared;

impl Shared {
    /// Has a handshake command done by the session that is current; ready once its effect is
    /// published.
    pub(crate) async fn in_handshake(
        &self,
        peer: PeerId,
        command: impl FnOnce(Answer<()>) -> HandshakeCommand,
    ) -> Result<(), Error> {
        let (answer, result) = oneshot::channel();
        self.handshake_command(peer, command(answer))?;
        let result = result.await.unwrap_or_else(|_| Err(Error::new(ErrorCode::NodeStopped)));
        result.map_err(|error| error.of_peer(peer))
    }

    /// Leaves a handshake command to the node's task, which knows the session that is current.
    pub(crate) fn handshake_command(
        &self,
        peer: PeerId,
        command: HandshakeCommand,
    ) -> Result<(), Error> {
        let request = HandshakeRequest::new(self.key_of(peer)?, command);
        let sent = self.mailbox.put(NodeCommand::Handshake(request));
        sent.map_err(|_| Error::new(ErrorCode::NodeStopped).of_peer(peer))
    }
}
