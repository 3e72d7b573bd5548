//! What the node's task asks of a transport.

use std::future::Future;
use std::pin::Pin;

use glueberry_proto::{Address, DialId, RefuseReason};
use libp2p_identity::PeerId;

use crate::session::SessionDriver;

/// Dials peers, and brings connections to the node by [`Shared::offer`](crate::adapter::Shared).
pub trait Transport: Send + 'static {
    /// Starts a dial; its result comes as a letter.
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>);

    /// Gives a dial up; its result is of no use any more.
    fn cancel(&mut self, dial: DialId);

    /// A peer was banned: whatever still connects to it, besides sessions, is to be closed.
    fn banned(&mut self, _peer: PeerId) {}

    /// Returns whether peers can still reach the node; true if that was not asked for.
    fn is_listening(&self) -> bool;

    /// Closes everything; ready when peers had time to hear of it.
    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A connection that is offered to the node.
pub trait Carrier: Send {
    /// Carries a session to its end.
    fn carry(self: Box<Self>, session: SessionDriver);

    /// Closes the connection.
    fn refuse(self: Box<Self>, reason: RefuseReason);
}
