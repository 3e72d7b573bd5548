//! One connection of a memory network, with both of its ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use glueberry_proto::{ConnectionLost, ProtocolId, ResetCode, Session, SubstreamId};

use crate::connection::{
    Connection, ConnectionEvent, ReadBuffer, ReadError, Substream, WriteError,
};
use crate::mailbox::{lock, remember};

/// A connection between two nodes.
#[derive(Default)]
pub(super) struct Link {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ends: [End; 2],
    pipes: BTreeMap<u64, Pipe>,
    last_pipe: u64,
    is_closed: bool,
}

/// What one end has not noticed yet.
#[derive(Default)]
struct End {
    accepted: VecDeque<u64>,
    lost: Option<ConnectionLost>,
    waker: Option<Waker>,
}

/// A substream: what each side has written that the other has not read.
#[derive(Default)]
struct Pipe {
    halves: [Half; 2],
    /// Ends that still have it.
    holders: usize,
}

#[derive(Default)]
struct Half {
    chunks: VecDeque<Bytes>,
    end: Option<HalfEnd>,
    is_stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HalfEnd {
    Finished,
    Reset,
}

impl Link {
    /// Makes a connection, and returns its two ends.
    pub(super) fn new() -> (Arc<Self>, [MemoryConnection; 2]) {
        let link = Arc::new(Self::default());
        let end = |side| MemoryConnection { link: link.clone(), side, opened: VecDeque::new() };
        let ends = [end(0), end(1)];
        (link, ends)
    }

    /// Neither end receives anything from the other any more.
    pub(super) fn cut(&self) {
        for pipe in lock(&self.state).pipes.values_mut() {
            pipe.halves.iter_mut().for_each(|half| half.chunks.clear());
        }
        self.close([Some(ConnectionLost::TimedOut), Some(ConnectionLost::TimedOut)]);
    }

    /// Closes the connection unless it is closed, and has each end notice what is given for it.
    fn close(&self, lost: [Option<ConnectionLost>; 2]) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.is_closed, true) {
            return;
        }
        for (end, lost) in state.ends.iter_mut().zip(lost) {
            end.lost = lost;
        }
        drop(state);
        (0..2).for_each(|side| self.wake(side));
    }

    /// Wakes one end, without the lock: a waker may run anything.
    fn wake(&self, side: usize) {
        let waker = lock(&self.state).ends[side].waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub(super) struct MemoryConnection {
    link: Arc<Link>,
    side: usize,
    /// What was opened and not reported.
    opened: VecDeque<(SubstreamId, u64)>,
}

impl MemoryConnection {
    fn substream(&self, pipe: u64) -> MemorySubstream {
        MemorySubstream { link: self.link.clone(), side: self.side, pipe }
    }

    fn close(&self, code: u64) {
        let mut lost = [None, None];
        lost[1 - self.side] = Some(ConnectionLost::ClosedByPeer { code });
        self.link.close(lost);
    }
}

impl Connection for MemoryConnection {
    type Substream = MemorySubstream;

    fn open(&mut self, substream: SubstreamId, _: Vec<ProtocolId>) {
        let mut state = lock(&self.link.state);
        state.last_pipe += 1;
        let pipe = state.last_pipe;
        state.pipes.insert(pipe, Pipe { holders: 2, ..Pipe::default() });
        state.ends[1 - self.side].accepted.push_back(pipe);
        drop(state);
        self.link.wake(1 - self.side);
        self.opened.push_back((substream, pipe));
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<MemorySubstream>> {
        let protocol = None;
        if let Some((id, pipe)) = self.opened.pop_front() {
            let substream = self.substream(pipe);
            return Poll::Ready(ConnectionEvent::Opened { id, protocol, substream });
        }
        let mut state = lock(&self.link.state);
        let end = &mut state.ends[self.side];
        remember(&mut end.waker, cx);
        if let Some(pipe) = end.accepted.pop_front() {
            drop(state);
            let substream = self.substream(pipe);
            return Poll::Ready(ConnectionEvent::Accepted { protocol, substream });
        }
        end.lost.take().map_or(Poll::Pending, |why| Poll::Ready(ConnectionEvent::Lost(why)))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, code: u64) -> Poll<()> {
        self.close(code);
        Poll::Ready(())
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.close(0);
    }
}

/// One end of a substream.
pub(super) struct MemorySubstream {
    link: Arc<Link>,
    side: usize,
    pipe: u64,
}

impl MemorySubstream {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.link.state)
    }

    /// Looks at one half, and wakes the other end if anything has become of it.
    fn with<T>(
        &self,
        cx: &Context<'_>,
        side: usize,
        change: impl FnOnce(&mut Half) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let mut state = self.lock();
        let Some(pipe) = state.pipes.get_mut(&self.pipe) else {
            debug_assert!(false, "a pipe outlives its holders");
            return Poll::Ready(None);
        };
        match change(&mut pipe.halves[side]) {
            Poll::Ready(done) => {
                drop(state);
                self.link.wake(1 - self.side);
                Poll::Ready(Some(done))
            }
            Poll::Pending if state.is_closed => Poll::Ready(None),
            Poll::Pending => {
                remember(&mut state.ends[self.side].waker, cx);
                Poll::Pending
            }
        }
    }
}

impl Substream for MemorySubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let read = self.with(cx, 1 - self.side, |half| match (half.chunks.pop_front(), half.end) {
            (Some(chunk), _) => Poll::Ready(Ok(chunk)),
            (None, Some(HalfEnd::Finished)) => Poll::Ready(Ok(Bytes::new())),
            (None, Some(HalfEnd::Reset)) => Poll::Ready(Err(ReadError::Reset)),
            (None, None) => Poll::Pending,
        });
        read.map(|read| {
            buffer.append(&read.unwrap_or(Err(ReadError::ConnectionLost))?);
            Ok(())
        })
    }

    fn stop(&mut self) {
        let mut state = self.lock();
        if let Some(pipe) = state.pipes.get_mut(&self.pipe) {
            pipe.halves[1 - self.side].is_stopped = true;
        }
        drop(state);
        self.link.wake(1 - self.side);
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        let written = self.with(cx, self.side, |half| {
            if half.is_stopped {
                return Poll::Ready(Err(WriteError::Stopped));
            }
            if half.chunks.iter().map(Bytes::len).sum::<usize>() >= WINDOW {
                return Poll::Pending;
            }
            half.chunks.push_back(std::mem::take(bytes));
            Poll::Ready(Ok(()))
        });
        written.map(|written| written.unwrap_or(Err(WriteError::ConnectionLost)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let finished = self.with(cx, self.side, |half| {
            half.end.get_or_insert(HalfEnd::Finished);
            Poll::Ready(())
        });
        finished.map(|finished| finished.ok_or(WriteError::ConnectionLost))
    }

    /// What is in the memory of the process has arrived.
    fn poll_acknowledged(&mut self, _: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stopped = self.with(cx, self.side, |half| match half.is_stopped {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        match stopped {
            Poll::Ready(Some(())) => Poll::Ready(()),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn reset(self, _: ResetCode) {}
}

impl Drop for MemorySubstream {
    fn drop(&mut self) {
        let mut state = self.lock();
        if let Some(pipe) = state.pipes.get_mut(&self.pipe) {
            pipe.halves[self.side].end.get_or_insert(HalfEnd::Reset);
            pipe.halves[1 - self.side].is_stopped = true;
            pipe.holders -= 1;
            if pipe.holders == 0 {
                state.pipes.remove(&self.pipe);
            }
        }
        drop(state);
        self.link.wake(1 - self.side);
    }
}

impl fmt::Debug for MemorySubstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubstream").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// Bytes that wait in one half of a substream before its writer does.
const WINDOW: usize = 64 * 1024;
