//! The table of a mux's substreams: windows, halves, and which control frames are due.

use alloc::collections::{BTreeMap, VecDeque};
use core::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::config::MAX_WINDOW;
use super::error::Violation;
use super::frame::{Header, Kind, emit_u32};
use crate::prelude::*;

/// A substream of one mux, counted by the side that has opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number, for logs.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mux-{}", self.0)
    }
}

/// All substreams that have not ended, and those whose last frame is still to be written.
#[derive(Debug, Default)]
pub(super) struct Substreams {
    /// Boxed, because a map of few entries keeps room for many.
    table: BTreeMap<Id, Box<Substream>>,
    /// Those with a control frame to write. Each is here at most once.
    control: VecDeque<Id>,
    /// Those with room in their window and bytes to write, in the order of their turns. Each is here
    /// at most once.
    ready: VecDeque<Id>,
}

#[derive(Debug)]
struct Substream {
    is_ours: bool,
    send: SendHalf,
    /// Bytes that may still be sent.
    send_window: u32,
    recv: RecvHalf,
    /// Bytes that may still be received.
    recv_window: u32,
    /// Bytes that were received and not released.
    held: u32,
    /// Bytes that were released and not granted again.
    credit: u32,
    /// The first frame is still to be written.
    must_open: bool,
    /// Why it is reset, if it is, as soon as that can be written.
    reset: Option<u32>,
    wants_write: bool,
    in_control: bool,
    in_ready: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendHalf {
    Open,
    /// The end is to be written.
    Finishing,
    /// The end was written.
    Finished,
    /// The peer has taken everything.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecvHalf {
    Open,
    /// The end has arrived, and is not taken yet.
    Ended,
    /// The end was taken, which is to be acknowledged.
    Taken,
    Over,
}

/// What becomes of bytes that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Wanted,
    /// The substream was reset here, and the peer did not know.
    Dropped,
}

impl Substreams {
    pub(super) fn opened(&self, is_ours: bool) -> usize {
        self.table.values().filter(|it| it.is_ours == is_ours).count()
    }

    pub(super) fn insert(&mut self, id: Id, is_ours: bool, send_window: u32, recv_window: u32) {
        let substream = Substream {
            is_ours,
            send: SendHalf::Open,
            send_window,
            recv: RecvHalf::Open,
            recv_window,
            held: 0,
            credit: 0,
            must_open: is_ours,
            reset: None,
            wants_write: false,
            in_control: false,
            in_ready: false,
        };
        self.table.insert(id, Box::new(substream));
        if is_ours {
            self.queue_control(id);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    // ---- received -----------------------------------------------------------------------------

    /// A DATA frame begins.
    pub(super) fn data(&mut self, id: Id, len: u32, is_fin: bool) -> Result<Arrival, Violation> {
        let Some(it) = self.table.get_mut(&id).filter(|it| it.reset.is_none()) else {
            return Ok(Arrival::Dropped);
        };
        if it.recv != RecvHalf::Open {
            return Err(Violation::BehindEnd { substream: id.0 });
        }
        it.recv_window =
            it.recv_window.checked_sub(len).ok_or(Violation::WindowExceeded { substream: id.0 })?;
        it.held += len;
        if is_fin {
            it.recv = RecvHalf::Ended;
        }
        Ok(Arrival::Wanted)
    }

    /// True if what arrives is of interest.
    pub(super) fn is_known(&self, id: Id) -> bool {
        self.table.get(&id).is_some_and(|it| it.reset.is_none())
    }

    /// The peer grants more bytes.
    pub(super) fn granted(&mut self, id: Id, increment: u32) -> Result<(), Violation> {
        let Some(it) = self.table.get_mut(&id) else {
            return Ok(());
        };
        it.send_window = increase(it.send_window, increment, id.0)?;
        if it.wants_write {
            self.queue_ready(id);
        }
        Ok(())
    }

    /// The peer has taken everything that was written, and the end. Returns whether that is news.
    pub(super) fn acknowledged(&mut self, id: Id) -> Result<bool, Violation> {
        let Some(it) = self.table.get_mut(&id) else {
            return Ok(false);
        };
        if it.send != SendHalf::Finished {
            return Err(Violation::EarlyAck { substream: id.0 });
        }
        it.send = SendHalf::Over;
        let is_news = it.reset.is_none();
        // Even if its reset is still to be written: for the peer it may be over, which then opens
        // another in its place.
        self.forget_if_over(id);
        Ok(is_news)
    }

    /// The peer has reset a substream. Returns how many bytes of it were held, if that is news.
    pub(super) fn was_reset(&mut self, id: Id) -> Option<u32> {
        let it = self.remove(id)?;
        it.reset.is_none().then_some(it.held)
    }

    // ---- commands -----------------------------------------------------------------------------

    pub(super) fn want_write(&mut self, id: Id) {
        if let Some(it) = self.table.get_mut(&id)
            && it.send == SendHalf::Open
            && it.reset.is_none()
        {
            it.wants_write = true;
            if it.send_window > 0 {
                self.queue_ready(id);
            }
        }
    }

    /// Takes the next substream that may write, off the queue.
    pub(super) fn next_ready(&mut self) -> Option<Id> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(it) = self.table.get_mut(&id) {
                it.in_ready = false;
                if it.send == SendHalf::Open && it.reset.is_none() && it.send_window > 0 {
                    it.wants_write = false;
                    return Some(id);
                }
            }
        }
        None
    }

    /// Writes a frame with bytes from the front of `bytes`: at most `limit`. Returns how many.
    pub(super) fn write(
        &mut self,
        id: Id,
        bytes: &mut Bytes,
        limit: u32,
        out: &mut BytesMut,
    ) -> u32 {
        let Some(it) = self.table.get_mut(&id) else {
            return 0;
        };
        if it.send != SendHalf::Open || it.reset.is_some() {
            return 0;
        }
        let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let count = u16::try_from(wanted.min(limit).min(it.send_window)).unwrap_or(u16::MAX);
        if count > 0 {
            let kind = Kind::Data { is_open: core::mem::take(&mut it.must_open), is_fin: false };
            Header { kind, len: count, substream: id.0 }.emit(out);
            out.extend_from_slice(&bytes[..usize::from(count)]);
            bytes.advance(usize::from(count));
            it.send_window -= u32::from(count);
        }
        if wanted > 0 {
            self.want_write(id);
        }
        u32::from(count)
    }

    pub(super) fn finish(&mut self, id: Id) {
        if let Some(it) = self.table.get_mut(&id)
            && it.send == SendHalf::Open
        {
            it.send = SendHalf::Finishing;
            self.queue_control(id);
        }
    }

    pub(super) fn reset(&mut self, id: Id, code: u32) -> u32 {
        let Some(it) = self.table.get_mut(&id).filter(|it| it.reset.is_none()) else {
            return 0;
        };
        it.reset = Some(code);
        let held = core::mem::take(&mut it.held);
        self.queue_control(id);
        held
    }

    /// Returns how many of `count` bytes were held.
    pub(super) fn release(&mut self, id: Id, count: u32, window: u32) -> u32 {
        let Some(it) = self.table.get_mut(&id).filter(|it| it.reset.is_none()) else {
            return 0;
        };
        let released = count.min(it.held);
        it.held -= released;
        it.credit += released;
        if it.owes_window(window) {
            self.queue_control(id);
        }
        released
    }

    /// Returns how many bytes were still held.
    pub(super) fn acknowledge(&mut self, id: Id) -> u32 {
        let is_ended = |it: &&mut Box<Substream>| it.recv == RecvHalf::Ended && it.reset.is_none();
        let Some(it) = self.table.get_mut(&id).filter(is_ended) else {
            return 0;
        };
        it.recv = RecvHalf::Taken;
        let held = core::mem::take(&mut it.held);
        self.queue_control(id);
        held
    }

    /// True if a control frame is to be written.
    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Writes the control frames of one substream.
    pub(super) fn write_control(&mut self, window: u32, out: &mut BytesMut) {
        let Some(id) = self.control.pop_front() else {
            return;
        };
        let Some(it) = self.table.get_mut(&id) else {
            return;
        };
        it.in_control = false;
        if let Some(code) = it.reset {
            // The peer must have heard of what is reset.
            if it.must_open {
                let kind = Kind::Data { is_open: true, is_fin: false };
                Header { kind, len: 0, substream: id.0 }.emit(out);
            }
            emit_u32(Kind::Reset, id.0, code, out);
            self.remove(id);
            return;
        }
        let is_fin = it.send == SendHalf::Finishing;
        if it.must_open || is_fin {
            let kind = Kind::Data { is_open: it.must_open, is_fin };
            Header { kind, len: 0, substream: id.0 }.emit(out);
            it.must_open = false;
        }
        if is_fin {
            it.send = SendHalf::Finished;
        }
        if it.owes_window(window) {
            let credit = core::mem::take(&mut it.credit);
            it.recv_window += credit;
            emit_u32(Kind::Window, id.0, credit, out);
        }
        if it.recv == RecvHalf::Taken {
            emit_ack(id, out);
            it.recv = RecvHalf::Over;
            self.forget_if_over(id);
        }
    }

    /// Returns those whose end is acknowledged, and the peer does not know.
    pub(super) fn unwritten_acks(&self) -> impl Iterator<Item = Id> {
        let is_due = |it: &Substream| it.recv == RecvHalf::Taken && it.reset.is_none();
        self.table.iter().filter(move |(_, it)| is_due(it)).map(|(id, _)| *id)
    }

    // ---- parts --------------------------------------------------------------------------------

    fn queue_control(&mut self, id: Id) {
        if let Some(it) = self.table.get_mut(&id)
            && !core::mem::replace(&mut it.in_control, true)
        {
            self.control.push_back(id);
        }
    }

    fn queue_ready(&mut self, id: Id) {
        if let Some(it) = self.table.get_mut(&id)
            && !core::mem::replace(&mut it.in_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    fn forget_if_over(&mut self, id: Id) {
        let is_over = |it: &Substream| it.send == SendHalf::Over && it.recv == RecvHalf::Over;
        if self.table.get(&id).is_some_and(|it| is_over(it)) {
            self.remove(id);
        }
    }

    /// Forgets a substream. Nothing of it stays in the queues, which a peer could fill otherwise.
    fn remove(&mut self, id: Id) -> Option<Box<Substream>> {
        let it = self.table.remove(&id)?;
        if it.in_control {
            self.control.retain(|queued| *queued != id);
        }
        if it.in_ready {
            self.ready.retain(|queued| *queued != id);
        }
        Some(it)
    }
}

impl Substream {
    /// True if so much was released that it is worth a frame.
    fn owes_window(&self, window: u32) -> bool {
        self.recv == RecvHalf::Open && self.credit > 0 && self.credit >= window / 2
    }
}

pub(super) fn emit_ack(id: Id, out: &mut BytesMut) {
    Header { kind: Kind::Ack, len: 0, substream: id.0 }.emit(out);
}

/// Returns a window that has grown.
pub(super) fn increase(window: u32, increment: u32, substream: u32) -> Result<u32, Violation> {
    let grown = window.checked_add(increment).filter(|grown| *grown <= MAX_WINDOW);
    grown.filter(|_| increment > 0).ok_or(Violation::BadIncrement { substream, increment })
}
