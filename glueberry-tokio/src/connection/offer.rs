//! A connection on its way to the node.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::select;
use glueberry_proto::{CloseCode, NewConnection, RefuseReason};

use super::turns::Task;
use super::{Connection, ConnectionLoop};
use crate::session::SessionDriver;
use crate::shared::Shared;
use crate::transport::PendingConnection;

impl Shared {
    /// Offers a connection to the node, which either refuses it, so that it is closed, or spawns a
    /// [`ConnectionLoop`] that drives a session over it.
    ///
    /// The caller vouches for the peer's key in `offered`: the transport has authenticated it. A
    /// node that has stopped drops the connection.
    pub fn offer_connection(self: &Arc<Self>, offered: NewConnection, connection: impl Connection) {
        self.offer(offered, Box::new(Offered { connection, shared: Arc::clone(self) }));
    }
}

/// A connection that the node has not decided about.
struct Offered<C> {
    connection: C,
    shared: Arc<Shared>,
}

impl<C: Connection> PendingConnection for Offered<C> {
    fn remote_ip(&self) -> Option<IpAddr> {
        self.connection.remote_ip()
    }

    fn accept(self: Box<Self>, session: SessionDriver) {
        let shared = self.shared.clone();
        let handle = session.handle().clone();
        let inner = ConnectionLoop::new(self.connection, session, self.shared);
        shared.spawn(Task::new(inner, &handle, shared.span.clone()));
    }

    fn refuse(self: Box<Self>, _: RefuseReason) {
        let Self { mut connection, shared } = *self;
        let runtime = shared.runtime.clone();
        let patience = runtime.sleep(shared.config.core.drain_timeout);
        shared.spawn(async move {
            let closing =
                pin!(poll_fn(|cx| connection.poll_close(cx, CloseCode::Refused.as_u64())));
            // A peer that takes no bytes holds the connection no longer than that.
            drop(select(closing, patience).await);
        });
    }
}
