//! Where the node's task, the behaviour and the handler of one connection meet.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glueberry_proto::{ConnectionLost, Naming, NewConnection, Origin, PublicKey, RefuseReason};
use glueberry_tokio::adapter::{Mailbox, PendingConnection, SessionDriver, Shared};
use tracing::debug;

use crate::remains;

/// The shared side of one connection of the swarm.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) mailbox: Mailbox<ToHandler>,
    /// It was offered to the node, or is kept for it.
    is_claimed: AtomicBool,
    /// Where the peer connects from, if not through a relay.
    remote_ip: Option<IpAddr>,
}

/// What the handler of a connection is sent, past the swarm.
#[derive(Debug)]
pub(crate) enum ToHandler {
    /// Carry this session.
    Session(Box<SessionDriver>),
    /// The node does not want the connection.
    Refused(RefuseReason),
    /// The claim was given up; nothing to do but to look again.
    Released,
    /// Why the connection was lost, for what remains of its session.
    Lost(ConnectionLost),
}

impl Link {
    pub(crate) fn new(remote_ip: Option<IpAddr>) -> Self {
        Self { remote_ip, ..Self::default() }
    }

    /// Claims the connection for one session. Returns false if it has one, or is about to.
    pub(crate) fn claim(&self) -> bool {
        !self.is_claimed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.is_claimed.load(Ordering::Acquire)
    }

    /// Gives the claim back, and lets the handler see that.
    pub(crate) fn release(&self) {
        self.is_claimed.store(false, Ordering::Release);
        drop(self.mailbox.put(ToHandler::Released));
    }

    /// Reports why the connection was lost. A handler that is gone without leaving anything needs
    /// no reason.
    pub(crate) fn lost(&self, why: ConnectionLost) {
        drop(self.mailbox.put(ToHandler::Lost(why)));
    }
}

/// A connection as it is offered to the node.
pub(crate) struct PendingLink {
    link: Arc<Link>,
    shared: Arc<Shared>,
    is_answered: bool,
}

impl PendingLink {
    pub(crate) fn new(link: Arc<Link>, shared: Arc<Shared>) -> Self {
        Self { link, shared, is_answered: false }
    }

    /// Offers a connection that is claimed to the node, as one of the peer's.
    pub(crate) fn offer_accepted(link: &Arc<Link>, shared: &Arc<Shared>, peer: PublicKey) {
        let offered = NewConnection { peer, origin: Origin::Accepted, naming: Naming::Negotiated };
        shared.offer(offered, Box::new(Self::new(link.clone(), shared.clone())));
    }
}

impl PendingConnection for PendingLink {
    fn remote_ip(&self) -> Option<IpAddr> {
        self.link.remote_ip
    }

    fn accept(mut self: Box<Self>, session: SessionDriver) {
        self.is_answered = true;
        if let Err(ToHandler::Session(session)) =
            self.link.mailbox.put(ToHandler::Session(Box::new(session)))
        {
            debug!("connection was lost before it got its session");
            remains::drain_lost(*session, &self.shared, gone());
        }
    }

    fn refuse(mut self: Box<Self>, reason: RefuseReason) {
        self.is_answered = true;
        drop(self.link.mailbox.put(ToHandler::Refused(reason)));
    }
}

/// The node has stopped and answers no request.
impl Drop for PendingLink {
    fn drop(&mut self) {
        if !self.is_answered {
            drop(self.link.mailbox.put(ToHandler::Refused(RefuseReason::ShuttingDown)));
        }
    }
}

/// The reason of a connection that ended without one.
pub(crate) fn gone() -> ConnectionLost {
    ConnectionLost::Transport("the connection is gone".to_owned())
}
