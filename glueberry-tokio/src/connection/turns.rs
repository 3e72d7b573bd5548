//! Whose turn it is to drive a session: its task's, or for one message a sender's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tracing::Span;

use super::{Connection, ConnectionLoop};
use crate::mailbox::lock;
use crate::session_handle::{SendInTurn, SessionHandle};

/// The loop of a session where its task and senders find it.
///
/// Whoever drives it takes it out, so that no lock is held meanwhile. Nobody waits for it: a sender
/// that finds it gone leaves its message to the task, and a task is woken when it is back.
pub(super) struct Turns<C: Connection> {
    place: Mutex<Place<C>>,
    /// What is logged is the node's, in a turn of its task and of a sender.
    span: Span,
}

enum Place<C: Connection> {
    Here(Box<ConnectionLoop<C>>),
    /// Somebody drives it. The task has come for it in vain if there is a waker.
    Away(Option<Waker>),
    /// The session is over, or its task is gone.
    Over,
}

/// A loop that was taken out. If it is not [put back](Self::end), whoever had it has panicked or is
/// done, and there is no other turn.
struct Turn<'a, C: Connection> {
    turns: &'a Turns<C>,
    inner: Option<Box<ConnectionLoop<C>>>,
}

/// The task of a session.
pub(super) struct Task<C: Connection>(Arc<Turns<C>>);

impl<C: Connection> Task<C> {
    /// Makes the task of a loop, and lets senders of its session have turns.
    pub(super) fn new(inner: ConnectionLoop<C>, session: &SessionHandle, span: Span) -> Self {
        let turns = Arc::new(Turns { place: Mutex::new(Place::Here(Box::new(inner))), span });
        session.sent_in_turn_by(turns.clone());
        Self(turns)
    }
}

impl<C: Connection> Turns<C> {
    /// Takes the loop out. If it is away, the task of `cx` is woken when it is back.
    fn begin(&self, cx: Option<&Context<'_>>) -> Poll<Option<Turn<'_, C>>> {
        let mut place = lock(&self.place);
        match std::mem::replace(&mut *place, Place::Away(None)) {
            Place::Here(inner) => Poll::Ready(Some(Turn { turns: self, inner: Some(inner) })),
            Place::Away(waker) => {
                *place = Place::Away(cx.map(|cx| cx.waker().clone()).or(waker));
                Poll::Pending
            }
            Place::Over => {
                *place = Place::Over;
                Poll::Ready(None)
            }
        }
    }
}

impl<C: Connection> SendInTurn for Turns<C> {
    fn send(&self, stream: &str) -> bool {
        let Poll::Ready(Some(mut turn)) = self.begin(None) else {
            return false;
        };
        let _of_node = self.span.enter();
        let is_done = turn.inner.as_mut().is_some_and(|inner| inner.send(stream));
        turn.end();
        is_done
    }
}

impl<C: Connection> Turn<'_, C> {
    /// Puts the loop back for the next.
    fn end(mut self) {
        if let Some(inner) = self.inner.take() {
            self.leave(Place::Here(inner));
        }
    }

    fn leave(&self, next: Place<C>) {
        let mut place = lock(&self.turns.place);
        // Over if the task is gone meanwhile: then it is dropped, without the lock.
        let next = match &*place {
            Place::Over => next,
            _ => std::mem::replace(&mut *place, next),
        };
        drop(place);
        if let Place::Away(Some(waker)) = next {
            waker.wake();
        }
    }
}

impl<C: Connection> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            drop(inner);
            self.leave(Place::Over);
        }
    }
}

impl<C: Connection> Future for Task<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(turn) = self.0.begin(Some(cx)) else {
            return Poll::Pending;
        };
        let Some(mut turn) = turn else {
            return Poll::Ready(());
        };
        let polled = turn.inner.as_mut().map_or(Poll::Ready(()), |inner| Pin::new(inner).poll(cx));
        if polled.is_pending() {
            turn.end();
        }
        polled
    }
}

/// Its runtime may drop it before its session is over.
impl<C: Connection> Drop for Task<C> {
    fn drop(&mut self) {
        let place = std::mem::replace(&mut *lock(&self.0.place), Place::Over);
        drop(place);
    }
}

impl<C: Connection> fmt::Debug for Turns<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}
