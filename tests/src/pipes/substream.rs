//! One substream of a pipe.

use std::task::{Context, Poll};

use bytes::Bytes;
use glueberry_tokio::adapter::{ReadBuffer, ReadError, Substream, WriteError};
use glueberry_tokio::proto::ResetCode;
use glueberry_tokio::proto::mux::Id;

use super::pipe::{End, Pipe, Shared, State, lock};

pub(super) struct PipeSubstream {
    pipe: Shared,
    id: Id,
    code: ResetCode,
}

impl PipeSubstream {
    pub(super) fn new(pipe: &Shared, id: Id) -> Self {
        Self { pipe: pipe.clone(), id, code: ResetCode::Closed }
    }

    /// Does something with the substream, and moves what that has made possible.
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Pipe, &mut State) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let mut pipe = lock(&self.pipe);
        let Some(mut state) = pipe.substreams.remove(&self.id) else {
            return Poll::Ready(None);
        };
        let result = act(&mut pipe, &mut state);
        pipe.substreams.insert(self.id, state);
        pipe.poll(cx);
        match result {
            // Whatever changes that comes from the socket, which wakes the task.
            Poll::Pending if pipe.mux.closed().is_some() => Poll::Ready(None),
            result => result.map(Some),
        }
    }

    fn with_writer<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Pipe, &mut State) -> Poll<T>,
    ) -> Poll<Result<T, WriteError>> {
        let written = self.with(cx, |pipe, state| match state.end {
            Some(End::Reset) => Poll::Ready(Err(WriteError::Stopped)),
            _ => act(pipe, state).map(Ok),
        });
        written.map(|written| written.unwrap_or(Err(WriteError::ConnectionLost)))
    }
}

impl Substream for PipeSubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let id = self.id;
        let read = self.with(cx, |pipe, state| match (state.received.pop_front(), state.end) {
            (Some(bytes), _) => {
                buffer.append(&bytes);
                pipe.mux.release(id, bytes.len());
                Poll::Ready(Ok(()))
            }
            (None, Some(End::Finished)) => {
                pipe.mux.acknowledge(id);
                Poll::Ready(Ok(()))
            }
            (None, Some(End::Reset)) => Poll::Ready(Err(ReadError::Reset)),
            (None, None) => Poll::Pending,
        });
        read.map(|read| read.unwrap_or(Err(ReadError::ConnectionLost)))
    }

    fn stop(&mut self) {
        lock(&self.pipe).discard(self.id);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        let id = self.id;
        self.with_writer(cx, |pipe, state| {
            if !state.outgoing.is_empty() || pipe.mux.closed().is_some() {
                return Poll::Pending;
            }
            state.outgoing = std::mem::take(bytes);
            pipe.mux.want_write(id);
            Poll::Ready(())
        })
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let id = self.id;
        self.with_writer(cx, |pipe, state| {
            if !state.outgoing.is_empty() {
                return Poll::Pending;
            }
            state.has_finished = true;
            pipe.mux.finish(id);
            Poll::Ready(())
        })
    }

    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.with_writer(cx, |_, state| match state.is_acknowledged {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stopped = self.with(cx, |_, state| match state.end {
            Some(End::Reset) => Poll::Ready(()),
            _ => Poll::Pending,
        });
        if stopped == Poll::Ready(Some(())) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn reset(mut self, code: ResetCode) {
        self.code = code;
    }
}

/// Gives up what has not ended.
impl Drop for PipeSubstream {
    fn drop(&mut self) {
        let mut pipe = lock(&self.pipe);
        let has_finished = pipe.substreams.get(&self.id).is_some_and(|it| it.has_finished);
        if has_finished {
            pipe.discard(self.id);
        } else {
            pipe.substreams.remove(&self.id);
            pipe.mux.reset(self.id, self.code.as_u32());
        }
    }
}

impl Pipe {
    /// A substream is not read any more; what is written on it still goes out.
    fn discard(&mut self, id: Id) {
        let Some(it) = self.substreams.get_mut(&id) else {
            return;
        };
        it.is_discarded = true;
        let held = it.received.drain(..).map(|bytes| bytes.len()).sum();
        let has_ended = matches!(it.end, Some(End::Finished));
        self.mux.release(id, held);
        if has_ended {
            self.mux.acknowledge(id);
        }
        self.forget_if_over(id);
    }
}
