//! The task that receives the frames of all peers.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use libp2p_identity::PeerId;
use tracing::debug;

use super::server::Request;
use super::table::Refusal;
use super::wire::{Content, Frame};
use super::{Core, RequestError, owed};
use crate::event::Event;
use crate::events::Events;
use crate::inbox::InboxReader;
use crate::message::Message;
use crate::session_handle::SessionHandle;

pub(super) struct Dispatcher {
    core: Arc<Core>,
    events: Events,
    inbox: InboxReader,
}

enum Next {
    Message(Message),
    Event(Event),
    Over,
}

impl Dispatcher {
    pub(super) const fn new(core: Arc<Core>, events: Events, inbox: InboxReader) -> Self {
        Self { core, events, inbox }
    }

    pub(super) async fn run(mut self) {
        loop {
            match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Message(message) => self.message(message),
                Next::Event(Event::State(changed)) => self.session_may_have_ended(changed.peer),
                Next::Event(Event::Lagged { .. }) => {
                    let peers = self.core.table.peers();
                    peers.into_iter().for_each(|peer| self.session_may_have_ended(peer));
                }
                Next::Event(_) => {}
                Next::Over => break,
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.core.table.poll_closed(cx).is_ready() {
            return Poll::Ready(Next::Over);
        }
        // A response that is here goes ahead of the end of its session.
        match self.inbox.poll_message(cx) {
            Poll::Ready(Some(message)) => return Poll::Ready(Next::Message(message)),
            Poll::Ready(None) => return Poll::Ready(Next::Over),
            Poll::Pending => {}
        }
        match pin!(&mut self.events).poll_next(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Next::Event(event)),
            // The inbox ends behind what is in it.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn session_may_have_ended(&self, peer: PeerId) {
        let current = self.core.shared.views.session(&peer).map(|session| session.id);
        self.core.table.session_is(peer, current);
    }

    fn message(&self, message: Message) {
        let (peer, table) = (message.peer, &self.core.table);
        let Some(Frame { id, content }) = Frame::parse(message.data) else {
            debug!(%peer, stream = %self.core.stream, "frame of a request ignored");
            return table.ignore();
        };
        match content {
            Content::Response(body) => table.answered(peer, id, Ok(body)),
            Content::Failed(text) => {
                let text = glueberry_proto::printable(text);
                table.answered(peer, id, Err(RequestError::Failed(text)));
            }
            Content::Busy => table.answered(peer, id, Err(RequestError::Busy)),
            Content::Unanswered => table.answered(peer, id, Err(RequestError::Unanswered)),
            Content::Cancel => table.cancel(peer, id),
            Content::Request { patience, body } => {
                // Without a session the answer is not awaited.
                if let Ok(session) = self.core.shared.session(peer) {
                    self.request(session, (peer, id), patience, body);
                }
            }
        }
    }

    fn request(
        &self,
        session: Arc<SessionHandle>,
        (peer, id): (PeerId, u64),
        patience: Duration,
        data: Bytes,
    ) {
        let (core, table) = (self.core.clone(), &self.core.table);
        match table.admit((peer, id), session.id, data.len()) {
            Ok((ticket, unwanted)) => {
                let deadline = core.shared.runtime.now().checked_add(patience);
                let request = Request { peer, data, id, ticket, core, session, deadline, unwanted };
                table.queue(request);
            }
            Err(refusal) => {
                let content = match refusal {
                    Refusal::Busy => Content::Busy,
                    Refusal::Unanswered => Content::Unanswered,
                };
                let frame = Frame { id, content };
                if table.may_owe_refusal(peer) {
                    let held = Refused { core: core.clone(), peer };
                    owed::send(&core, &session, &frame, || true, held);
                } else {
                    debug!(%peer, stream = %core.stream, "refusal of a request dropped");
                    table.ignore();
                }
            }
        }
    }
}

/// A refusal that may have to wait, until this is dropped.
struct Refused {
    core: Arc<Core>,
    peer: PeerId,
}

impl Drop for Refused {
    fn drop(&mut self) {
        self.core.table.refusal_over(self.peer);
    }
}

/// The node has stopped, or its runtime is gone: what is under way ends without an answer.
impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.core.table.over();
    }
}
