//! A QUIC stream as a substream.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use glueberry_proto::ResetCode;
use quinn::{RecvStream, SendStream, VarInt};

use super::on_wake::OnWake;
use super::window::Counted;
use crate::connection::{ReadBuffer, ReadError, Substream, WriteError};

/// A negotiated QUIC stream.
pub(super) struct QuicSubstream {
    send: SendStream,
    recv: RecvStream,
    readable: OnWake,
    /// Ready when the peer has stopped reading, or acknowledged the end of this side's half. Made
    /// when first needed, since few streams need it before their end.
    stopped: Option<Pin<Box<dyn Future<Output = Fate> + Send>>>,
    /// Dropped last: by then what was not read is forgotten.
    _counted: Counted,
}

/// What became of this side's half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    Stopped,
    ConnectionLost,
}

impl QuicSubstream {
    pub(super) fn new(send: SendStream, recv: RecvStream, counted: Counted) -> Self {
        Self { send, recv, readable: OnWake::new(), stopped: None, _counted: counted }
    }

    fn poll_fate(&mut self, cx: &mut Context<'_>) -> Poll<Fate> {
        let stopped = self.stopped.get_or_insert_with(|| {
            let stopped = self.send.stopped();
            Box::pin(async move {
                match stopped.await {
                    Ok(None) => Fate::Acknowledged,
                    Ok(Some(_)) => Fate::Stopped,
                    Err(_) => Fate::ConnectionLost,
                }
            })
        });
        let fate = ready!(stopped.as_mut().poll(cx));
        // A second call gets the same answer.
        *stopped = Box::pin(std::future::ready(fate));
        Poll::Ready(fate)
    }
}

impl Substream for QuicSubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let Self { recv, readable, .. } = self;
        let read = readable.poll(cx, |cx| {
            buffer.read_chunks_with(|chunks| {
                let read = pin!(recv.read_chunks(chunks)).poll(cx);
                read.map_ok(Option::unwrap_or_default)
            })
        });
        match ready!(read) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(quinn::ReadError::Reset(_)) => Poll::Ready(Err(ReadError::Reset)),
            Err(_) => Poll::Ready(Err(ReadError::ConnectionLost)),
        }
    }

    fn stop(&mut self) {
        // A half that has ended can't be stopped, and needs not.
        drop(self.recv.stop(VarInt::from_u32(0)));
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        let write = pin!(self.send.write_chunks(std::slice::from_mut(bytes)));
        Poll::Ready(match ready!(write.poll(cx)) {
            Ok(_) => Ok(()),
            Err(quinn::WriteError::Stopped(_)) => Err(WriteError::Stopped),
            Err(_) => Err(WriteError::ConnectionLost),
        })
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        // It fails only if this half has ended before. That the peer has stopped reading is no
        // failure here: the acknowledgement reports it.
        drop(self.send.finish());
        Poll::Ready(Ok(()))
    }

    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.poll_fate(cx).map(|fate| match fate {
            Fate::Acknowledged => Ok(()),
            Fate::Stopped => Err(WriteError::Stopped),
            Fate::ConnectionLost => Err(WriteError::ConnectionLost),
        })
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_fate(cx) {
            Poll::Ready(Fate::Stopped) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn reset(mut self, code: ResetCode) {
        let code = VarInt::from_u32(code.as_u32());
        // A half that has ended already needs no reset.
        drop(self.send.reset(code));
        drop(self.recv.stop(code));
    }
}

impl fmt::Debug for QuicSubstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSubstream").field("send", &self.send).finish_non_exhaustive()
    }
}
