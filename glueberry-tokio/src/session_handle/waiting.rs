//! The registration of a task that waits for room in a stream.

use std::sync::Arc;
use std::task::Context;

use glueberry_proto::StreamName;

use super::{SessionHandle, State};
use crate::mailbox::lock;
use crate::waiters::WaiterId;

/// The registration of a task that waits for a stream. Dropping it removes the task's waker.
#[derive(Debug)]
pub(crate) struct Waiting(Option<Registration>);

#[derive(Debug)]
struct Registration {
    session: Arc<SessionHandle>,
    stream: StreamName,
    id: WaiterId,
}

impl Waiting {
    /// Waits for nothing yet.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Stops waiting for another session, which has its own lock.
    pub(super) fn leave_others(&mut self, session: &Arc<SessionHandle>) {
        if self.0.as_ref().is_some_and(|of| !Arc::ptr_eq(&of.session, session)) {
            self.leave();
        }
    }

    pub(super) fn register(
        &mut self,
        session: &Arc<SessionHandle>,
        state: &mut State,
        stream: &str,
        cx: &Context<'_>,
    ) {
        let mut id = self.0.as_ref().map(|registration| registration.id);
        // A stream that is gone has no room to wait for.
        if let Some(found) = state.stream(stream) {
            found.waiters.register(&mut id, cx);
            let (session, stream) = (session.clone(), found.name.clone());
            self.0 = id.map(|id| Registration { session, stream, id });
        }
    }

    /// Stops waiting.
    pub(super) fn leave(&mut self) {
        if let Some(Registration { session, stream, id }) = self.0.take() {
            let mut state = lock(&session.state);
            let waker = state.stream(stream.as_str()).and_then(|it| it.waiters.remove(id));
            drop(state);
            drop(waker);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.leave();
    }
}
