//! How much of a connection's data is let in before it is read.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use glueberry_tokio::adapter::{Negotiations, PeerMemory, RoomWaiter};

use super::super::windows::Window;
use crate::settings::Loan;

/// Counts what substreams hold that is not read yet, and lets a frame in if that leaves it within a limit.
///
/// The limit is 64 KiB for a peer that has proven nothing. Once it is Established it is more by what one
/// substream that nobody reads fills, and for all beyond that its account is charged: with what is held
/// and not with windows, since yamux can make them no smaller. Where the account has no room either,
/// nothing more of the connection is read until it has, or until some of what is held is read.
///
/// A frame is let in whole, as yamux hands it out. If nothing else is held it always is, unless it opens a
/// substream and the peer is ahead of its pace.
pub(super) struct Gate {
    max_substreams: usize,
    negotiations: Arc<Negotiations>,
    state: Mutex<State>,
}

/// What becomes of a connection whose peer has proven nothing and sends more than its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::swarm) enum Overflow {
    /// It waits until some of it is read.
    Waits,
    /// It fails. It is carried by the connection with a relay, which would have to wait too, with all
    /// else that it carries. So it may have as much as one that is Established, and from when its peer has a
    /// session on the peer's account what the substreams hold that wait for the end of the handshake: a
    /// peer that is Established first may fill them.
    Fails,
}

struct State {
    overflow: Overflow,
    substreams: BTreeMap<u32, Unread>,
    held: usize,
    /// Who pays for what is held beyond the limit: the peer, and those whose connections it carries.
    lenders: BTreeMap<u64, Lent>,
    next_lender: u64,
    is_established: bool,
    /// The task that waits to read on.
    waker: Option<Waker>,
    room: Option<RoomWaiter>,
}

/// The lengths of the frames of a substream that are not read; of the first, what is left of it.
type Unread = VecDeque<u32>;

struct Lent {
    memory: Arc<PeerMemory>,
    bytes: usize,
    /// The most that it may be.
    limit: usize,
}

impl Gate {
    pub(super) fn new(
        overflow: Overflow,
        max_substreams: usize,
        negotiations: Arc<Negotiations>,
    ) -> Arc<Self> {
        let state = State {
            overflow,
            substreams: BTreeMap::new(),
            held: 0,
            lenders: BTreeMap::new(),
            next_lender: 0,
            is_established: false,
            waker: None,
            room: None,
        };
        Arc::new(Self { max_substreams, negotiations, state: Mutex::new(state) })
    }

    /// A substream has been opened, by either side.
    pub(super) fn opened(&self, id: u32) {
        self.lock().substreams.entry(id).or_default();
    }

    /// So much of a substream has been read.
    pub(super) fn read(&self, id: u32, count: usize) {
        self.change(|state| {
            let mut left = count;
            let unread = state.substreams.get_mut(&id);
            for_each_front(unread, |frame| {
                let len = usize::try_from(*frame).unwrap_or(usize::MAX);
                if left >= len {
                    left -= len;
                    state.held = state.held.saturating_sub(len + PER_FRAME);
                    return true;
                }
                *frame -= u32::try_from(left).unwrap_or(*frame);
                state.held = state.held.saturating_sub(left);
                false
            });
        });
    }

    /// A substream is gone, with what was not read of it.
    pub(super) fn dropped(&self, id: u32) {
        self.change(|state| {
            let unread = state.substreams.remove(&id).unwrap_or_default();
            state.held = state.held.saturating_sub(unread.into_iter().map(cost).sum());
        });
    }

    /// Ready if a frame may be let in, which then counts as held.
    fn poll_admit(&self, frame: &Frame, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if frame.opens() && !state.substreams.contains_key(&frame.substream) {
            if self.negotiations.poll_pace(cx).is_pending() {
                if state.overflow == Overflow::Fails {
                    return Poll::Ready(Err(io::Error::other(
                        "too many substreams in a short time",
                    )));
                }
                state.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.waker = None;
            // yamux would say so and read on.
            if state.substreams.len() >= self.max_substreams {
                return Poll::Ready(Err(io::Error::other("too many substreams")));
            }
            state.substreams.insert(frame.substream, Unread::new());
        }
        let Some(len) = frame.body() else {
            return Poll::Ready(Ok(()));
        };
        if !state.is_proven() && len > FIRST_WINDOW {
            return Poll::Ready(Err(io::Error::other(
                "more was sent than the window of a substream",
            )));
        }
        if frame.is_reset() || !state.substreams.contains_key(&frame.substream) {
            // It is not kept.
            return Poll::Ready(Ok(()));
        }
        let cost = cost(len);
        if !state.has_room(cost) {
            if state.overflow == Overflow::Fails && !state.is_proven() {
                return Poll::Ready(Err(io::Error::other(
                    "more was sent than before Established may be",
                )));
            }
            state.waker = Some(cx.waker().clone());
            let payer = state.lenders.values().next().map(|lent| lent.memory.clone());
            state.room = payer.map(|memory| RoomWaiter::register(&memory, cx));
            // There may have been room since it was tried.
            if state.lenders.is_empty() || !state.has_room(cost) {
                return Poll::Pending;
            }
        }
        (state.waker, state.room) = (None, None);
        state.held += cost;
        if let Some(unread) = state.substreams.get_mut(&frame.substream) {
            unread.push_back(len);
        }
        Poll::Ready(Ok(()))
    }

    /// Changes what is held or allowed, and lets who waits for that look again.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let repaid = state.repay();
        let waker = state.waker.take();
        drop(state);
        for (memory, bytes) in repaid {
            memory.sub(bytes);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lend(&self, memory: &Arc<PeerMemory>, limit: usize) -> u64 {
        let mut id = 0;
        self.change(|state| {
            id = state.next_lender;
            state.next_lender += 1;
            state.lenders.insert(id, Lent { memory: memory.clone(), bytes: 0, limit });
        });
        id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether the peer is Established, or a session that the connection carries is.
    fn is_proven(&self) -> bool {
        self.is_established || (self.overflow == Overflow::Waits && !self.lenders.is_empty())
    }

    /// What may be held on nobody's account.
    fn free(&self) -> usize {
        match self.overflow {
            Overflow::Waits if !self.is_proven() => BASE,
            Overflow::Waits | Overflow::Fails => BASE + ONE_SUBSTREAM,
        }
    }

    /// Returns whether so much more may be held, which an account is charged with if need be.
    fn has_room(&mut self, more: usize) -> bool {
        let lent: usize = self.lenders.values().map(|lent| lent.bytes).sum();
        let lacking = (self.held + more).saturating_sub(self.free() + lent);
        if lacking == 0 || self.held == 0 {
            return true;
        }
        let wanted = lacking.next_multiple_of(STEP);
        for lent in self.lenders.values_mut() {
            if lent.bytes + wanted <= lent.limit && lent.memory.try_lend(wanted) {
                lent.bytes += wanted;
                return true;
            }
        }
        false
    }

    /// Takes what accounts are charged with too much, which is to be given back.
    fn repay(&mut self) -> Vec<(Arc<PeerMemory>, usize)> {
        let mut needed = self.held.saturating_sub(self.free());
        let mut repaid = Vec::new();
        for lent in self.lenders.values_mut() {
            let excess = lent.bytes.saturating_sub(needed);
            let excess = if needed == 0 { excess } else { excess / STEP * STEP };
            lent.bytes -= excess;
            needed = needed.saturating_sub(lent.bytes);
            if excess > 0 {
                repaid.push((lent.memory.clone(), excess));
            }
        }
        repaid
    }
}

impl Window for Gate {
    fn admitted(
        self: Arc<Self>,
        memory: &Arc<PeerMemory>,
        waiting: usize,
    ) -> Option<Box<dyn Loan>> {
        if self.lock().overflow == Overflow::Waits {
            return None;
        }
        let id = Self::lend(&self, memory, waiting.saturating_mul(ONE_SUBSTREAM));
        Some(Box::new(GateLoan { gate: self, id }))
    }

    fn established(&self, memory: &Arc<PeerMemory>) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.is_established, true) {
            return;
        }
        drop(state);
        self.lend(memory, usize::MAX);
    }

    fn lend(self: Arc<Self>, memory: &Arc<PeerMemory>) -> Box<dyn Loan> {
        let id = Self::lend(&self, memory, ONE_SUBSTREAM + BASE);
        Box::new(GateLoan { gate: self, id })
    }

    fn is_held_back(&self) -> bool {
        self.lock().waker.is_some()
    }
}

/// The connection is gone, and its substreams with it.
impl Drop for Gate {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for lent in state.lenders.values() {
            lent.memory.sub(lent.bytes);
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("held", &self.lock().held).finish_non_exhaustive()
    }
}

/// What another connection, which this one carries, pays for.
#[derive(Debug)]
struct GateLoan {
    gate: Arc<Gate>,
    id: u64,
}

impl Loan for GateLoan {}

impl Drop for GateLoan {
    fn drop(&mut self) {
        let mut ended = None;
        self.gate.change(|state| ended = state.lenders.remove(&self.id));
        if let Some(lent) = ended {
            lent.memory.sub(lent.bytes);
        }
    }
}

/// A connection behind a gate.
pub(super) struct Gated<C> {
    inner: C,
    gate: Arc<Gate>,
    header: [u8; HEADER],
    reading: Reading,
}

/// Where in a frame the reader is.
enum Reading {
    /// So much of the header has come.
    Header(usize),
    /// All of it, and the frame is not let in yet.
    Waiting,
    /// So much of the header has been handed out.
    Handing(usize),
    /// So much of the body is still to come.
    Body(usize),
}

impl<C> Gated<C> {
    pub(super) const fn new(inner: C, gate: Arc<Gate>) -> Self {
        Self { inner, gate, header: [0; HEADER], reading: Reading::Header(0) }
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gated<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            match this.reading {
                Reading::Header(HEADER) => this.reading = Reading::Waiting,
                Reading::Header(at) => {
                    let rest = &mut this.header[at..];
                    let count = ready!(Pin::new(&mut this.inner).poll_read(cx, rest))?;
                    match (count, at) {
                        (0, 0) => return Poll::Ready(Ok(0)),
                        (0, _) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        _ => this.reading = Reading::Header(at + count),
                    }
                }
                Reading::Waiting => {
                    ready!(this.gate.poll_admit(&Frame::parse(&this.header), cx))?;
                    this.reading = Reading::Handing(0);
                }
                Reading::Handing(HEADER) => {
                    let len = Frame::parse(&this.header).body().unwrap_or(0);
                    this.reading = match usize::try_from(len).unwrap_or(usize::MAX) {
                        0 => Reading::Header(0),
                        len => Reading::Body(len),
                    };
                }
                Reading::Handing(at) => {
                    let rest = &this.header[at..];
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    this.reading = Reading::Handing(at + count);
                    return Poll::Ready(Ok(count));
                }
                Reading::Body(left) => {
                    let most = left.min(buffer.len());
                    let part = &mut buffer[..most];
                    let count = ready!(Pin::new(&mut this.inner).poll_read(cx, part))?;
                    this.reading = match left - count {
                        0 => Reading::Header(0),
                        left => Reading::Body(left),
                    };
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gated<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// As much of a frame's header as the gate looks at; yamux checks the rest.
struct Frame {
    kind: u8,
    flags: u16,
    substream: u32,
    /// Of the body, if it is one with data.
    len: u32,
}

impl Frame {
    const fn parse(header: &[u8; HEADER]) -> Self {
        let [_, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *header;
        Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            substream: u32::from_be_bytes([s0, s1, s2, s3]),
            len: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }

    /// Returns whether it may be the first of a substream: data, or a window, with that flag.
    const fn opens(&self) -> bool {
        self.kind <= 1 && self.flags & SYN != 0 && !self.is_reset()
    }

    const fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    /// Returns the length of its body, if it has one.
    fn body(&self) -> Option<u32> {
        (self.kind == 0 && self.len > 0).then_some(self.len)
    }
}

/// What a frame counts as.
fn cost(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).saturating_add(PER_FRAME)
}

/// Takes from the front for as long as the function says so.
fn for_each_front(unread: Option<&mut Unread>, mut is_over: impl FnMut(&mut u32) -> bool) {
    let Some(unread) = unread else {
        return;
    };
    while let Some(front) = unread.front_mut()
        && is_over(front)
    {
        unread.pop_front();
    }
}

/// What a peer that has proven nothing may send ahead of the reader, as on QUIC.
const BASE: usize = 64 * 1024;
/// The window of a substream: one that nobody reads holds up no other.
pub(super) const ONE_SUBSTREAM: usize = 256 * 1024;
/// The window that every substream begins with.
const FIRST_WINDOW: u32 = yamux::DEFAULT_CREDIT;
/// What yamux allocates for each frame besides its bytes.
const PER_FRAME: usize = 64;
/// Accounts are charged in steps.
const STEP: usize = 64 * 1024;
/// The length of a frame's header.
const HEADER: usize = 12;
const SYN: u16 = 1;
const RST: u16 = 8;

#[cfg(test)]
mod tests;
