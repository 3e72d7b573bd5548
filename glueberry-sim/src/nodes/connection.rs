//! The ends of simulated connections, as the async node drives them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use glueberry_proto::{ConnectionLost, ProtocolId, ResetCode, Session, SubstreamId};
use glueberry_tokio::adapter::{
    Connection, ConnectionEvent, ReadBuffer, ReadError, Substream, WriteError,
};

use super::link::{HalfEnd, Packet, Pipe, WINDOW};
use super::network::Network;

/// One end of a connection. Dropped, it closes the connection.
pub(super) struct SimConnection {
    network: Arc<Network>,
    link: u64,
    side: usize,
    /// What was opened and not reported.
    opened: VecDeque<(SubstreamId, u64)>,
    is_closed: bool,
}

impl SimConnection {
    pub(super) const fn new(network: Arc<Network>, link: u64, side: usize) -> Self {
        Self { network, link, side, opened: VecDeque::new(), is_closed: false }
    }

    fn substream(&self, pipe: u64) -> SimSubstream {
        let (network, link, side) = (self.network.clone(), self.link, self.side);
        SimSubstream { network, link, side, pipe }
    }

    fn close(&mut self, code: u64) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.network.send(self.link, self.side, Packet::Close(code));
        }
    }
}

impl Connection for SimConnection {
    type Substream = SimSubstream;

    fn channel_binding(&self) -> Option<[u8; 32]> {
        self.network.state().links.get(&self.link).map(|link| link.binding)
    }

    fn open(&mut self, substream: SubstreamId, _: Vec<ProtocolId>) {
        let mut state = self.network.state();
        let Some(link) = state.links.get_mut(&self.link) else {
            return;
        };
        link.last_pipe += 1;
        let pipe = link.last_pipe;
        link.ends[self.side].pipes.insert(pipe, Pipe::default());
        drop(state);
        self.network.send(self.link, self.side, Packet::Open(pipe));
        self.opened.push_back((substream, pipe));
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<SimSubstream>> {
        let protocol = None;
        if let Some((id, pipe)) = self.opened.pop_front() {
            let substream = self.substream(pipe);
            return Poll::Ready(ConnectionEvent::Opened { id, protocol, substream });
        }
        let mut state = self.network.state();
        let Some(link) = state.links.get_mut(&self.link) else {
            return Poll::Ready(ConnectionEvent::Lost(ConnectionLost::ClosedLocally));
        };
        let end = &mut link.ends[self.side];
        end.waker = Some(cx.waker().clone());
        if let Some(pipe) = end.accepted.pop_front() {
            drop(state);
            let substream = self.substream(pipe);
            return Poll::Ready(ConnectionEvent::Accepted { protocol, substream });
        }
        end.take_lost().map_or(Poll::Pending, |why| Poll::Ready(ConnectionEvent::Lost(why)))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, code: u64) -> Poll<()> {
        self.close(code);
        Poll::Ready(())
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.close(0);
        self.network.state().dropped(self.link, self.side);
    }
}

/// One end of a substream.
pub(super) struct SimSubstream {
    network: Arc<Network>,
    link: u64,
    side: usize,
    pipe: u64,
}

impl SimSubstream {
    /// Looks at this end of the substream: what `look` returns, or `None` if nothing more comes
    /// because the connection is lost.
    fn with<T>(
        &self,
        cx: Option<&Context<'_>>,
        look: impl FnOnce(&mut Pipe) -> Poll<(T, Option<Packet>)>,
    ) -> Poll<Option<T>> {
        let mut state = self.network.state();
        let end = state.links.get_mut(&self.link).map(|link| &mut link.ends[self.side]);
        let Some(end) = end else {
            return Poll::Ready(None);
        };
        let is_lost = end.is_lost();
        let Some(pipe) = end.pipes.get_mut(&self.pipe) else {
            return Poll::Ready(None);
        };
        match look(pipe) {
            Poll::Ready((done, packet)) => {
                drop(state);
                if let Some(packet) = packet {
                    self.network.send(self.link, self.side, packet);
                }
                Poll::Ready(Some(done))
            }
            Poll::Pending if is_lost => Poll::Ready(None),
            Poll::Pending => {
                if let Some(cx) = cx {
                    end.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl Substream for SimSubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let id = self.pipe;
        let read = self.with(Some(cx), |pipe| match (pipe.chunks.pop_front(), pipe.end) {
            (Some(chunk), _) => {
                let read = Packet::Read(id, chunk.len());
                Poll::Ready((Ok(chunk), Some(read)))
            }
            (None, Some(HalfEnd::Finished)) => Poll::Ready((Ok(Bytes::new()), None)),
            (None, Some(HalfEnd::Reset)) => Poll::Ready((Err(ReadError::Reset), None)),
            (None, None) => Poll::Pending,
        });
        read.map(|read| {
            buffer.append(&read.unwrap_or(Err(ReadError::ConnectionLost))?);
            Ok(())
        })
    }

    fn stop(&mut self) {
        self.network.send(self.link, self.side, Packet::Stop(self.pipe));
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        let id = self.pipe;
        let written = self.with(Some(cx), |pipe| {
            if pipe.is_stopped {
                return Poll::Ready((Err(WriteError::Stopped), None));
            }
            let room = WINDOW.saturating_sub(pipe.unread).min(PACKET).min(bytes.len());
            if room == 0 {
                return Poll::Pending;
            }
            pipe.unread += room;
            Poll::Ready((Ok(()), Some(Packet::Data(id, bytes.split_to(room)))))
        });
        written.map(|written| written.unwrap_or(Err(WriteError::ConnectionLost)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let id = self.pipe;
        let finished = self.with(Some(cx), |pipe| {
            let is_first = !std::mem::replace(&mut pipe.has_ended, true);
            Poll::Ready(((), is_first.then_some(Packet::End(id, HalfEnd::Finished))))
        });
        finished.map(|finished| finished.ok_or(WriteError::ConnectionLost))
    }

    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let received = self.with(Some(cx), |pipe| match (pipe.is_received, pipe.is_stopped) {
            (true, _) => Poll::Ready((Ok(()), None)),
            (false, true) => Poll::Ready((Err(WriteError::Stopped), None)),
            (false, false) => Poll::Pending,
        });
        received.map(|received| received.unwrap_or(Err(WriteError::ConnectionLost)))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stopped = self.with(Some(cx), |pipe| match pipe.is_stopped {
            true => Poll::Ready(((), None)),
            false => Poll::Pending,
        });
        match stopped {
            Poll::Ready(Some(())) => Poll::Ready(()),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn reset(self, _: ResetCode) {}
}

impl Drop for SimSubstream {
    fn drop(&mut self) {
        let mut state = self.network.state();
        let link = state.links.get_mut(&self.link);
        let pipe = link.and_then(|link| link.ends[self.side].pipes.remove(&self.pipe));
        drop(state);
        let Some(pipe) = pipe else {
            return;
        };
        if !pipe.has_ended {
            self.network.send(self.link, self.side, Packet::End(self.pipe, HalfEnd::Reset));
        }
        if pipe.end.is_none() || !pipe.chunks.is_empty() {
            self.network.send(self.link, self.side, Packet::Stop(self.pipe));
        }
    }
}

impl std::fmt::Debug for SimSubstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimSubstream").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// The most bytes of one packet.
const PACKET: usize = 8 * 1024;
