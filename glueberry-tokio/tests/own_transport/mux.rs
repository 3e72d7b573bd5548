//! Substreams over one TCP connection, and what the adapter's loop wants of them.
//!
//! A frame is a kind, a substream and a number, behind which the bytes of [`DATA`] follow. Each
//! half of a substream has a window of its own, so that one that is not read holds up no other.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use glueberry_tokio::adapter::{
    Connection, ConnectionEvent, ReadBuffer, ReadError, Substream, WriteError,
};
use glueberry_tokio::proto::{ConnectionLost, ProtocolId, ResetCode, Session, SubstreamId};
use tokio::net::TcpStream;

/// One end of a TCP connection whose peer is known.
pub(crate) struct MuxConnection {
    mux: Arc<Mutex<Mux>>,
    opened: VecDeque<(SubstreamId, u32)>,
    has_said_close: bool,
}

struct Mux {
    socket: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    streams: BTreeMap<u32, Stream>,
    accepted: VecDeque<u32>,
    next_id: u32,
    /// Why nothing comes any more.
    lost: Option<ConnectionLost>,
    is_lost_reported: bool,
    waker: Option<Waker>,
}

/// Both halves of one substream.
struct Stream {
    received: VecDeque<Bytes>,
    received_end: Option<End>,
    /// What was read and the peer has not been granted again.
    to_grant: usize,
    credit: usize,
    is_stopped: bool,
    is_acknowledged: bool,
    has_finished: bool,
}

#[derive(Clone, Copy)]
enum End {
    Finished,
    Reset,
}

impl MuxConnection {
    pub(crate) fn new(socket: TcpStream, is_dialler: bool) -> Self {
        let mux = Mux {
            socket,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            streams: BTreeMap::new(),
            accepted: VecDeque::new(),
            next_id: if is_dialler { 1 } else { 2 },
            lost: None,
            is_lost_reported: false,
            waker: None,
        };
        Self { mux: Arc::new(Mutex::new(mux)), opened: VecDeque::new(), has_said_close: false }
    }

    fn substream(&self, id: u32) -> MuxSubstream {
        MuxSubstream { mux: self.mux.clone(), id }
    }
}

impl Connection for MuxConnection {
    type Substream = MuxSubstream;

    // It negotiates nothing: the core writes the name of each stream to its front.
    fn open(&mut self, substream: SubstreamId, _: Vec<ProtocolId>) {
        let mut mux = lock(&self.mux);
        let id = mux.next_id;
        mux.next_id += 2;
        mux.streams.insert(id, Stream::new());
        mux.put(OPEN, id, 0);
        self.opened.push_back((substream, id));
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        _: &Session,
    ) -> Poll<ConnectionEvent<MuxSubstream>> {
        let protocol = None;
        if let Some((id, opened)) = self.opened.pop_front() {
            let substream = self.substream(opened);
            return Poll::Ready(ConnectionEvent::Opened { id, protocol, substream });
        }
        let mut mux = lock(&self.mux);
        mux.waker = Some(cx.waker().clone());
        mux.poll(cx);
        if let Some(id) = mux.accepted.pop_front() {
            drop(mux);
            let substream = self.substream(id);
            return Poll::Ready(ConnectionEvent::Accepted { protocol, substream });
        }
        match mux.lost.clone() {
            Some(why) if !mux.is_lost_reported => {
                mux.is_lost_reported = true;
                Poll::Ready(ConnectionEvent::Lost(why))
            }
            _ => Poll::Pending,
        }
    }

    /// Says so, and waits for the peer to close, since a socket that is closed with something
    /// unread takes back what it has sent.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: u64) -> Poll<()> {
        let mut mux = lock(&self.mux);
        if !std::mem::replace(&mut self.has_said_close, true) {
            mux.put(CLOSE, 0, u32::try_from(code).unwrap_or(u32::MAX));
        }
        mux.poll(cx);
        if mux.lost.is_some() && mux.outgoing.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Mux {
    fn put(&mut self, kind: u8, id: u32, number: u32) {
        self.outgoing.put_u8(kind);
        self.outgoing.put_u32(id);
        self.outgoing.put_u32(number);
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) {
        while self.lost.is_none() {
            self.flush(cx);
            match self.fill(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => self.lose("the peer is gone"),
                Poll::Ready(Ok(_)) => self.frames(),
                Poll::Ready(Err(error)) => self.lose(&error.to_string()),
            }
        }
        self.flush(cx);
    }

    fn lose(&mut self, why: &str) {
        self.lost.get_or_insert_with(|| ConnectionLost::Transport(why.to_owned()));
    }

    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read_buf(&mut self.incoming) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) {
        while !self.outgoing.is_empty() {
            match self.socket.poll_write_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(_) => match self.socket.try_write(&self.outgoing) {
                    Ok(count) => self.outgoing.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => {
                        self.outgoing.clear();
                        self.lose(&error.to_string());
                    }
                },
            }
        }
    }

    fn frames(&mut self) {
        while self.incoming.len() >= HEADER {
            let mut header = &self.incoming[..HEADER];
            let (kind, id, number) = (header.get_u8(), header.get_u32(), header.get_u32());
            let body = if kind == DATA { number as usize } else { 0 };
            if body > WINDOW {
                return self.lose("a frame is larger than any window");
            }
            if self.incoming.len() < HEADER + body {
                return;
            }
            self.incoming.advance(HEADER);
            let body = self.incoming.split_to(body).freeze();
            self.frame(kind, id, number, body);
        }
    }

    fn frame(&mut self, kind: u8, id: u32, number: u32, body: Bytes) {
        match kind {
            OPEN if id % 2 != self.next_id % 2 && self.streams.len() < MAX_STREAMS => {
                if self.streams.insert(id, Stream::new()).is_none() {
                    self.accepted.push_back(id);
                }
                return;
            }
            OPEN => return self.lose("the peer opens what it must not"),
            CLOSE => {
                let why = ConnectionLost::ClosedByPeer { code: number.into() };
                self.lost.get_or_insert(why);
                return;
            }
            _ => {}
        }
        // What is still on its way to a substream that is gone says nothing any more.
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match kind {
            DATA => stream.received.push_back(body),
            FINISH => {
                stream.received_end.get_or_insert(End::Finished);
                self.put(ACKNOWLEDGE, id, 0);
            }
            RESET => {
                stream.received.clear();
                stream.received_end.get_or_insert(End::Reset);
            }
            STOP => stream.is_stopped = true,
            CREDIT => stream.credit += number as usize,
            ACKNOWLEDGE => stream.is_acknowledged = true,
            _ => return self.lose("a frame of no known kind"),
        }
        let held: usize =
            self.streams.get(&id).map_or(0, |stream| stream.received.iter().map(Bytes::len).sum());
        if held > WINDOW {
            self.lose("the peer sends more than it was granted");
        }
    }
}

impl Stream {
    fn new() -> Self {
        Self {
            received: VecDeque::new(),
            received_end: None,
            to_grant: 0,
            credit: WINDOW,
            is_stopped: false,
            is_acknowledged: false,
            has_finished: false,
        }
    }
}

/// One substream.
pub(crate) struct MuxSubstream {
    mux: Arc<Mutex<Mux>>,
    id: u32,
}

impl MuxSubstream {
    /// Does something with the substream's state, unless that is over with the connection.
    fn with<T>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Mux, u32, &mut Stream) -> Poll<T>,
    ) -> Poll<Option<T>> {
        let mut mux = lock(&self.mux);
        let mut stream = mux.streams.remove(&self.id).unwrap();
        let result = act(&mut mux, self.id, &mut stream);
        mux.streams.insert(self.id, stream);
        mux.flush(cx);
        match result {
            // Whatever changes that comes from the socket, which wakes the task.
            Poll::Pending if mux.lost.is_some() => Poll::Ready(None),
            result => result.map(Some),
        }
    }
}

impl Substream for MuxSubstream {
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuffer<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let read = self.with(cx, |mux, id, stream| {
            let Some(bytes) = stream.received.pop_front() else {
                return match stream.received_end {
                    None => Poll::Pending,
                    Some(End::Finished) => Poll::Ready(Ok(())),
                    Some(End::Reset) => Poll::Ready(Err(ReadError::Reset)),
                };
            };
            buffer.append(&bytes);
            stream.to_grant += bytes.len();
            if stream.to_grant >= WINDOW / 2 {
                mux.put(CREDIT, id, stream.to_grant as u32);
                stream.to_grant = 0;
            }
            Poll::Ready(Ok(()))
        });
        read.map(|read| read.unwrap_or(Err(ReadError::ConnectionLost)))
    }

    fn stop(&mut self) {
        let mut mux = lock(&self.mux);
        mux.put(STOP, self.id, 0);
        mux.wake();
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut Bytes,
    ) -> Poll<Result<(), WriteError>> {
        let written = self.with(cx, |mux, id, stream| {
            if stream.is_stopped {
                return Poll::Ready(Err(WriteError::Stopped));
            }
            let room = stream.credit.min(MAX_OUTGOING.saturating_sub(mux.outgoing.len()));
            if room == 0 || mux.lost.is_some() {
                return Poll::Pending;
            }
            let body = bytes.split_to(room.min(bytes.len()));
            stream.credit -= body.len();
            mux.put(DATA, id, body.len() as u32);
            mux.outgoing.put(body);
            Poll::Ready(Ok(()))
        });
        written.map(|written| written.unwrap_or(Err(WriteError::ConnectionLost)))
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let finished = self.with(cx, |mux, id, stream| {
            stream.has_finished = true;
            mux.put(FINISH, id, 0);
            Poll::Ready(())
        });
        finished.map(|_| Ok(()))
    }

    fn poll_acknowledged(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let acknowledged =
            self.with(cx, |_, _, stream| match (stream.is_stopped, stream.is_acknowledged) {
                (_, true) => Poll::Ready(Ok(())),
                (true, false) => Poll::Ready(Err(WriteError::Stopped)),
                (false, false) => Poll::Pending,
            });
        acknowledged.map(|result| result.unwrap_or(Err(WriteError::ConnectionLost)))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stopped = self.with(cx, |_, _, stream| match stream.is_stopped {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        if stopped == Poll::Ready(Some(())) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Its drop does it: this format carries no code.
    fn reset(self, _: ResetCode) {}
}

/// Gives up what has not ended.
impl Drop for MuxSubstream {
    fn drop(&mut self) {
        let mut mux = lock(&self.mux);
        let Some(stream) = mux.streams.remove(&self.id) else {
            return;
        };
        if !stream.has_finished {
            mux.put(RESET, self.id, 0);
        }
        if stream.received_end.is_none() {
            mux.put(STOP, self.id, 0);
        }
        mux.wake();
    }
}

fn lock(mux: &Mutex<Mux>) -> MutexGuard<'_, Mux> {
    mux.lock().unwrap()
}

const OPEN: u8 = 0;
const DATA: u8 = 1;
const FINISH: u8 = 2;
const RESET: u8 = 3;
const STOP: u8 = 4;
const CREDIT: u8 = 5;
const ACKNOWLEDGE: u8 = 6;
const CLOSE: u8 = 7;
const HEADER: usize = 9;
/// Bytes that may be under way in one half.
const WINDOW: usize = 256 * 1024;
/// Bytes that wait for the socket before substreams do.
const MAX_OUTGOING: usize = 256 * 1024;
const MAX_STREAMS: usize = 256;
