//! What is left of a session once its connection is gone: messages that were received and not read
//! yet, and words that the node must hear.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use glueberry_proto::ConnectionLost;
use glueberry_tokio::adapter::{SessionDriver, Shared};
use glueberry_tokio::runtime::Timer;

use crate::link::{Link, ToHandler, gone};

/// Hands out what a session without a connection still has, then ends.
#[derive(Debug)]
pub(crate) struct Remains {
    session: SessionDriver,
    shared: Arc<Shared>,
    /// Who will say why the connection was lost, and until when that is waited for.
    cause: Option<(Arc<Link>, Box<dyn Timer>)>,
}

impl Remains {
    /// Of a session that has ended by itself. The node hears of it before this returns.
    pub(crate) fn of_ended(mut session: SessionDriver, shared: &Arc<Shared>) -> Self {
        while session.poll_action().is_some() {}
        Self { session, shared: shared.clone(), cause: None }
    }

    /// Of a session whose connection is known to be lost.
    pub(crate) fn of_lost(
        mut session: SessionDriver,
        shared: &Arc<Shared>,
        why: ConnectionLost,
    ) -> Self {
        session.session().handle_connection_lost(shared.now(), why);
        Self { session, shared: shared.clone(), cause: None }
    }

    /// Of a session whose handler was dropped; the swarm tells the behaviour why.
    pub(crate) fn of_dropped(
        session: SessionDriver,
        shared: &Arc<Shared>,
        link: Arc<Link>,
    ) -> Self {
        let mut timer = shared.runtime().timer();
        timer.reset(Some(shared.runtime().now() + PATIENCE));
        Self { session, shared: shared.clone(), cause: Some((link, timer)) }
    }

    pub(crate) fn spawn(self) {
        let runtime = self.shared.runtime().clone();
        runtime.spawn(Box::pin(self));
    }

    fn poll_cause(&mut self, cx: &mut Context<'_>) {
        let Some((link, timer)) = &mut self.cause else {
            return;
        };
        let mut why = None;
        for word in link.mailbox.take(cx) {
            if let ToHandler::Lost(lost) = word {
                why = Some(lost);
            }
        }
        if timer.poll(cx).is_ready() {
            why.get_or_insert_with(gone);
        }
        if let Some(why) = why {
            self.cause = None;
            self.session.session().handle_connection_lost(self.shared.now(), why);
        }
    }
}

impl Future for Remains {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_cause(cx);
        let now = self.shared.now();
        self.session.take_commands(now, cx);
        self.session.deliver(now, cx);
        while self.session.poll_action().is_some() {}
        self.session.deliver(now, cx);
        while self.session.poll_action().is_some() {}
        if self.session.is_done() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Time for the swarm to say why a connection was lost.
const PATIENCE: Duration = Duration::from_secs(1);
