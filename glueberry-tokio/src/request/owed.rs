//! What a peer must be told of a request that nobody waits for, or answers, any more.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use glueberry_proto::SendError;

use super::Core;
use super::wire::Frame;
use crate::session_handle::{SessionHandle, Waiting};

/// Sends a frame, in the background if the stream's queue is full, unless the peer does not want it
/// any more by then. The end of the session ends that, too.
///
/// `held` is dropped behind it: it is what bounds how many such frames there are.
pub(super) fn send(
    core: &Arc<Core>,
    session: &Arc<SessionHandle>,
    frame: &Frame,
    is_wanted: impl Fn() -> bool + Send + Sync + 'static,
    held: impl Send + 'static,
) {
    let mut frame = frame.emit();
    if session.send(core.stream.as_str(), &mut frame) != Err(SendError::Backpressure) {
        return;
    }
    let (session, stream) = (session.clone(), core.stream.clone());
    core.shared.spawn(async move {
        let mut waiting = Waiting::new();
        // An error is the end of the session, and of whatever was under way in it.
        let sent = poll_fn(|cx| match is_wanted() {
            true => session.poll_send(cx, stream.as_str(), &mut frame, &mut waiting),
            false => Poll::Ready(Ok(())),
        });
        sent.await.ok();
        drop(held);
    });
}
