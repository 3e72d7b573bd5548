//! What the node's task asks of a transport.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use glueberry_proto::{Address, DialId, RefuseReason};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::address::AddressProblem;
use crate::session::SessionDriver;

/// Dials peers and accepts their connections, for a node. It hands connections to the node by
/// [`Shared::offer_connection`](crate::adapter::Shared::offer_connection).
pub trait Transport: Send + 'static {
    /// Returns why this transport can't dial an address, if it can't. The application learns of it
    /// when it adds the address; those that were stored are passed to [`dial`](Self::dial) all
    /// the same.
    fn check_address(_address: &Multiaddr) -> Result<(), AddressProblem>
    where
        Self: Sized,
    {
        Ok(())
    }

    /// Starts a dial. Its result is a connection of [`Origin::Dialled`], or
    /// [`Shared::dial_failed`](crate::adapter::Shared::dial_failed).
    ///
    /// [`Origin::Dialled`]: glueberry_proto::Origin::Dialled
    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Address>);

    /// Gives a dial up. Its result, if it still comes, is ignored.
    fn cancel(&mut self, dial: DialId);

    /// Takes note that a peer was banned, and closes whatever still connects to it besides
    /// sessions.
    fn banned(&mut self, _peer: PeerId) {}

    /// Returns whether peers can still reach the node. True for a node that does not listen.
    fn is_listening(&self) -> bool;

    /// Closes everything. Ready once peers had time to receive that.
    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A connection that was offered to the node, and waits for its decision.
pub trait PendingConnection: Send {
    /// Returns the address that the peer connects from, if it is known: see
    /// [`Connection::remote_ip`](crate::adapter::Connection::remote_ip).
    fn remote_ip(&self) -> Option<IpAddr> {
        None
    }

    /// Drives a session to its end.
    fn accept(self: Box<Self>, session: SessionDriver);

    /// Closes the connection.
    fn refuse(self: Box<Self>, reason: RefuseReason);
}
