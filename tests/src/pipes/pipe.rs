//! The bytes of one pipe: through the mux, TLS and the socket.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use glueberry_tokio::proto::mux::{self, Closed, Event, Id, Mux};
use glueberry_tokio::proto::{ConnectionLost, Direction, Instant};
use tokio::time::{Instant as Time, Sleep, sleep_until};

use super::tls::{Secured, Socket, ready};

/// A pipe that its connection and its substreams share: one task polls them all.
pub(super) type Shared = Arc<Mutex<Pipe>>;

pub(super) fn lock(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Pipe {
    secured: Secured,
    pub(super) mux: Mux,
    pub(super) substreams: BTreeMap<Id, State>,
    pub(super) accepted: VecDeque<Id>,
    epoch: Time,
    alarm: Pin<Box<Sleep>>,
    /// The socket gives and takes nothing any more.
    is_broken: bool,
}

/// What there is of a substream besides what the mux knows.
#[derive(Default)]
pub(super) struct State {
    pub(super) received: VecDeque<Bytes>,
    pub(super) end: Option<End>,
    /// Bytes to write.
    pub(super) outgoing: Bytes,
    pub(super) has_finished: bool,
    pub(super) is_acknowledged: bool,
    /// It is not read any more.
    pub(super) is_discarded: bool,
}

#[derive(Clone, Copy)]
pub(super) enum End {
    Finished,
    Reset,
}

impl Pipe {
    pub(super) fn new(secured: Secured, side: Direction, config: mux::Config) -> Self {
        let epoch = Time::now();
        let mux = Mux::new(Instant::ZERO, side, config);
        Self {
            secured,
            mux: mux.expect("a good configuration"),
            substreams: BTreeMap::new(),
            accepted: VecDeque::new(),
            epoch,
            alarm: Box::pin(sleep_until(epoch)),
            is_broken: false,
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::ZERO + self.epoch.elapsed()
    }

    /// Returns why the connection is over, if that was not this side's wish.
    pub(super) fn lost(&self) -> Option<ConnectionLost> {
        Some(match self.mux.closed()? {
            Closed::Locally { .. } => ConnectionLost::ClosedLocally,
            Closed::ByPeer { code } => ConnectionLost::ClosedByPeer { code: code.into() },
            Closed::TimedOut => ConnectionLost::TimedOut,
            Closed::PipeEnded => ConnectionLost::Reset,
            why => ConnectionLost::Transport(why.to_string()),
        })
    }

    /// True if nothing has to be driven any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_broken || (self.mux.is_over() && !self.secured.tls.wants_write())
    }

    /// Moves what can be moved, and has the task called when more can be.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if !self.is_broken && self.try_poll(cx).is_err() {
            self.is_broken = true;
            self.mux.handle_end(self.now());
        }
    }

    fn try_poll(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.read(cx)?;
        self.write(cx)?;
        while let Some(at) = self.mux.poll_timeout() {
            let due = self.epoch + std::time::Duration::from_micros(at.as_micros());
            self.alarm.as_mut().reset(due);
            if self.alarm.as_mut().poll(cx).is_pending() {
                break;
            }
            self.mux.handle_timeout(self.now());
            self.write(cx)?;
        }
        Ok(())
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let Poll::Ready(readable) = self.secured.tcp.poll_read_ready(cx) else {
                return Ok(());
            };
            readable?;
            let Secured { tcp, tls, .. } = &mut self.secured;
            let Some(count) = ready(tls.read_tls(&mut Socket(tcp)))? else {
                continue;
            };
            tls.process_new_packets().map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            ready(tls.reader().read_to_end(&mut bytes))?;
            self.hear(&bytes);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        let now = self.now();
        while let Some(event) = self.mux.read(now, &mut bytes) {
            match event {
                Event::Ready => {}
                Event::Accepted { substream } => {
                    self.substreams.insert(substream, State::default());
                    self.accepted.push_back(substream);
                }
                Event::Data { substream, bytes } => match self.substreams.get_mut(&substream) {
                    Some(it) if !it.is_discarded => {
                        it.received.push_back(Bytes::copy_from_slice(bytes));
                    }
                    _ => self.mux.release(substream, bytes.len()),
                },
                Event::Finished { substream } => self.ended(substream, End::Finished),
                Event::Reset { substream, .. } => self.ended(substream, End::Reset),
                Event::Acknowledged { substream } => {
                    if let Some(it) = self.substreams.get_mut(&substream) {
                        it.is_acknowledged = true;
                    }
                    self.forget_if_over(substream);
                }
            }
        }
    }

    fn ended(&mut self, substream: Id, end: End) {
        let Some(it) = self.substreams.get_mut(&substream) else {
            return;
        };
        it.end.get_or_insert(end);
        if it.is_discarded {
            self.mux.acknowledge(substream);
        }
        self.forget_if_over(substream);
    }

    /// Forgets what is not held any more.
    pub(super) fn forget_if_over(&mut self, substream: Id) {
        let is_over = |it: &State| match it.end {
            Some(End::Reset) => it.is_discarded,
            Some(End::Finished) => it.is_discarded && it.is_acknowledged,
            None => false,
        };
        if self.substreams.get(&substream).is_some_and(is_over) {
            self.substreams.remove(&substream);
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if !self.secured.tls.wants_write() {
                let bytes = self.next_bytes();
                self.secured.tls.writer().write_all(&bytes)?;
            }
            if !self.secured.tls.wants_write() {
                return Ok(());
            }
            let Poll::Ready(writable) = self.secured.tcp.poll_write_ready(cx) else {
                return Ok(());
            };
            writable?;
            let Secured { tcp, tls, .. } = &mut self.secured;
            ready(tls.write_tls(&mut Socket(tcp)))?;
        }
    }

    /// Returns the next bytes for the pipe, if there are any.
    fn next_bytes(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        self.mux.write_control(&mut out);
        while out.len() < AT_ONCE {
            let Some(id) = self.mux.next_writable() else {
                break;
            };
            if let Some(it) = self.substreams.get_mut(&id) {
                self.mux.write(id, &mut it.outgoing, &mut out);
            }
        }
        out
    }
}

const AT_ONCE: usize = 64 * 1024;
