//! What is left of a session once its connection is gone: messages that were received and not read
//! yet, and messages that the node must get.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use glueberry_proto::{ConnectionLost, ProtocolId, Session, SubstreamId};
use glueberry_tokio::adapter::{
    Connection, ConnectionEvent, ConnectionLoop, SessionDriver, Shared,
};
use glueberry_tokio::runtime::Timer;

use crate::link::{Link, ToHandler, gone};
use crate::substream::SwarmSubstream;

/// Hands out what a session that has ended still has. The node knows of the end before this
/// returns.
pub(crate) fn drain_ended(mut session: SessionDriver, shared: &Arc<Shared>) {
    while session.poll_action().is_some() {}
    spawn(session, shared, Gone::Ended);
}

/// Ends a session whose connection is known to be lost, and hands out what it still has.
pub(crate) fn drain_lost(session: SessionDriver, shared: &Arc<Shared>, why: ConnectionLost) {
    spawn(session, shared, Gone::Known(why));
}

/// Ends a session whose handler was dropped, and hands out what it still has. The swarm reports
/// to the behaviour why the connection was lost, which is waited for.
pub(crate) fn drain_dropped(session: SessionDriver, shared: &Arc<Shared>, link: Arc<Link>) {
    let mut timer = shared.runtime().timer();
    timer.reset(Some(shared.runtime().now() + PATIENCE));
    spawn(session, shared, Gone::Unexplained(link, timer));
}

fn spawn(session: SessionDriver, shared: &Arc<Shared>, gone: Gone) {
    let task = ConnectionLoop::new(gone, session, shared.clone());
    shared.spawn(task);
}

/// A connection that is gone.
#[derive(Debug)]
enum Gone {
    /// The session knows.
    Ended,
    Known(ConnectionLost),
    Unexplained(Arc<Link>, Box<dyn Timer>),
}

impl Connection for Gone {
    /// It has none.
    type Substream = SwarmSubstream;

    fn open(&mut self, _: SubstreamId, _: Vec<ProtocolId>) {
        // The loss, which is about to be reported, is the answer.
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<SwarmSubstream>> {
        let why = match self {
            Self::Ended => return Poll::Pending,
            Self::Known(why) => why.clone(),
            Self::Unexplained(link, timer) => {
                let explained =
                    link.mailbox.take(cx).into_iter().find_map(|message| match message {
                        ToHandler::Lost(why) => Some(why),
                        _ => None,
                    });
                match explained {
                    Some(why) => why,
                    None if timer.poll(cx).is_ready() => gone(),
                    None => return Poll::Pending,
                }
            }
        };
        *self = Self::Ended;
        Poll::Ready(ConnectionEvent::Lost(why))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: u64) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Time for the swarm to report why a connection was lost.
const PATIENCE: Duration = Duration::from_secs(1);
