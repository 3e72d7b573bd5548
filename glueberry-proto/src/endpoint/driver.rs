//! An endpoint that moves the bytes of its pipes by itself.

use alloc::collections::{BTreeMap, BTreeSet};
use core::convert::Infallible;
use core::fmt::{self, Display};
use core::ops::Bound;
use core::time::Duration;

use bytes::{Buf, Bytes};

use super::{Endpoint, Output, Write};
use crate::buffer::READ_CHUNK;
use crate::crypto::PublicKey;
use crate::error::{ConnectionLost, DialError};
use crate::id::ConnectionId;
use crate::prelude::*;
use crate::text::printable;
use crate::time::{Instant, earliest};

/// A pipe of bytes to one peer, as a [`Driver`] moves it: TLS over TCP, a WebSocket, a serial line with a
/// [link layer](crate::mux), a queue. No method may wait.
///
/// A pipe that fails is dropped, and the connection lost. If that was in [`write`](Self::write) or
/// [`flush`](Self::flush), it is first read to what the peer has sent before.
pub trait Pipe {
    /// Why the pipe has failed. Its text is in the reason for which the session ends.
    type Error: Display;

    /// Returns the key of the peer, which the pipe **has authenticated** (rule C0); `None` until
    /// then. A key that the peer merely claims lets anybody be anybody. Called after each
    /// [`read`](Self::read) until it is known.
    ///
    /// # Errors
    ///
    /// The peer could not be authenticated.
    fn peer(&self) -> Result<Option<PublicKey>, Self::Error>;

    /// Reads what has arrived, and returns how many bytes: `None` if there are none now, or the pipe is
    /// still connecting; zero if it has ended. A pipe that has a handshake of its own, such as TLS, goes
    /// on with it here.
    ///
    /// # Errors
    ///
    /// The pipe has failed.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Self::Error>;

    /// Takes bytes from the front, and returns how many: zero if it has no room now.
    ///
    /// # Errors
    ///
    /// The pipe has failed.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error>;

    /// Sends what it can of what it has taken, and of what it has to say for itself; returns whether
    /// all of that has left. Called behind each [`read`](Self::read) and [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// The pipe has failed.
    fn flush(&mut self) -> Result<bool, Self::Error>;
}

/// An [`Endpoint`] with the pipes of its connections.
///
/// It does what is left to the driver of an endpoint with every transport: keeps the pipe of each
/// connection, writes as the pipe has room and reports it, reads, says who the peer is, and takes note
/// of failures and ends. It still does no I/O but by the [`Pipe`]s that it is handed. What is left:
///
/// - answer [`Output::Dial`] by [`handle_dialled`](Self::handle_dialled), and hand in connections that
///   came in by [`handle_incoming`](Self::handle_incoming);
/// - call [`handle_ready`](Self::handle_ready) when a pipe may be readable or writable again. A loop
///   that can't wait for that calls [`handle_all_ready`](Self::handle_all_ready) in each turn;
/// - then the one rule: call [`poll_output`](Self::poll_output) until the timeout comes.
///
/// To wait by mio or epoll, register each pipe under a token, with a map from tokens to connections: at
/// the dial, or by [`pipe_mut`](Self::pipe_mut) once `handle_incoming` has said the connection's name. A
/// pipe that is new counts as ready.
///
/// Pipes are read when all outputs have been taken, one in turn, so one that floods holds up
/// neither the others nor the application.
///
/// ```
/// use std::{cell::RefCell, collections::VecDeque, convert::Infallible, rc::Rc};
/// use glueberry_proto::endpoint::{Driver, Endpoint, Output, Pipe};
/// use glueberry_proto::greeting::GreetingConfig;
/// use glueberry_proto::*;
///
/// type Queue = Rc<RefCell<VecDeque<u8>>>;
///
/// /// One end of two queues.
/// struct End { from: Queue, to: Queue, peer: PublicKey }
///
/// impl Pipe for End {
///     type Error = Infallible;
///     fn peer(&self) -> Result<Option<PublicKey>, Infallible> {
///         Ok(Some(self.peer)) // Both ends are in this program (rule C0).
///     }
///     fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Infallible> {
///         let mut from = self.from.borrow_mut();
///         let count = from.len().min(buffer.len());
///         buffer.iter_mut().zip(from.drain(..count)).for_each(|(to, byte)| *to = byte);
///         Ok((count > 0).then_some(count))
///     }
///     fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
///         self.to.borrow_mut().extend(bytes);
///         Ok(bytes.len())
///     }
///     fn flush(&mut self) -> Result<bool, Infallible> {
///         Ok(true)
///     }
/// }
///
/// let chat = StreamName::new("chat")?;
/// let new = |secret: u8| {
///     let mut config = Config::default();
///     config.streams = vec![chat.clone()];
///     // In production both come from the operating system, and a seed is never used twice.
///     let (identity, seed) = (Identity::from_seed(&[secret; 32]), Seed::from_bytes([secret; 32]));
///     let endpoint = Endpoint::new(Instant::ZERO, identity, config, seed)?;
///     Ok::<_, ConfigError>(Driver::new(endpoint.greeting(GreetingConfig::default())?))
/// };
/// let (mut a, mut b) = (new(1)?, new(2)?);
/// let now = Instant::ZERO;
/// let [a_key, b_key] = [&a, &b].map(|it| it.endpoint().node().public_key());
/// a.endpoint_mut().add_peer(now, b_key, &[Address::new("queue")])?;
/// a.endpoint_mut().connect(now, b_key)?;
///
/// let mut received = Vec::new();
/// while received.is_empty() {
///     a.handle_all_ready();
///     loop {
///         match a.poll_output(now) {
///             Output::Dial { connection, .. } => {
///                 let (to, from) = (Queue::default(), Queue::default());
///                 let end = End { from: to.clone(), to: from.clone(), peer: a_key };
///                 _ = b.handle_incoming(now, end);
///                 a.handle_dialled(now, connection, Ok::<_, Infallible>(End { from, to, peer: b_key }));
///             }
///             Output::State(event) if event.state == ConnectionState::Established => {
///                 a.endpoint_mut().send(now, b_key, &chat, "hello".into())?;
///             }
///             Output::Timeout(_) => break,
///             _ => {}
///         }
///     }
///     b.handle_all_ready();
///     loop {
///         match b.poll_output(now) {
///             Output::Message { message, .. } => received.push(message),
///             Output::Timeout(_) => break,
///             _ => {}
///         }
///     }
/// }
/// assert_eq!(received, ["hello"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver<P> {
    endpoint: Endpoint,
    pipes: BTreeMap<ConnectionId, Open<P>>,
    /// Pipes that may be moved.
    ready: BTreeSet<ConnectionId>,
    /// The one that had its turn last: the next one's is behind it, and then from the front.
    last: Option<ConnectionId>,
    /// How often pipes may still be read before the driver hears of the timeout.
    reads_left: usize,
    buffer: Vec<u8>,
}

/// A pipe, from its connection to its end.
struct Open<P> {
    pipe: P,
    /// The endpoint knows its peer.
    is_known: bool,
    /// What the pipe has not taken of the bytes that the endpoint waits for; none of them, if they
    /// are still to be flushed.
    writing: Option<Bytes>,
    /// Why nothing can be written any more.
    failed: Option<ConnectionLost>,
}

impl<P: Pipe> Driver<P> {
    /// Takes over an endpoint that has no connections yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            pipes: BTreeMap::new(),
            ready: BTreeSet::new(),
            last: None,
            reads_left: READS,
            buffer: vec![0; READ_CHUNK],
        }
    }

    /// Returns the endpoint, to ask it things.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns the endpoint for the commands of the application. Its inputs about connections, and its
    /// outputs, are this type's.
    pub const fn endpoint_mut(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// Returns the pipe of a connection, to register it where readiness is waited for.
    pub fn pipe_mut(&mut self, connection: ConnectionId) -> Option<&mut P> {
        self.pipes.get_mut(&connection).map(|open| &mut open.pipe)
    }

    /// Returns the pipes, in the order in which they came.
    pub fn pipes_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut P)> {
        self.pipes.iter_mut().map(|(id, open)| (*id, &mut open.pipe))
    }

    // ---- inputs -------------------------------------------------------------------------------

    /// Takes the pipe of a connection that came in, and returns its name: see
    /// [`Endpoint::handle_incoming`].
    pub fn handle_incoming(&mut self, now: Instant, pipe: P) -> ConnectionId {
        let id = self.endpoint.handle_incoming(now);
        self.add(id, pipe);
        id
    }

    /// Takes the pipe to a peer that was to be [dialled](Output::Dial), or the reason why there is
    /// none. It may still be connecting: the dial is over when the pipe knows its
    /// [peer](Pipe::peer), and has failed if the pipe does before. If the dial was given up meanwhile, the
    /// pipe is dropped. What comes behind a dial's first pipe is too late.
    pub fn handle_dialled<E: Display>(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        pipe: Result<P, E>,
    ) {
        let known = self.endpoint.connections.get(&connection);
        let is_awaited = known.is_some_and(|it| it.dial.is_some());
        if !is_awaited || self.pipes.contains_key(&connection) {
            return;
        }
        match pipe {
            Ok(pipe) => self.add(connection, pipe),
            Err(error) => {
                let error = DialError::Transport(printable(error));
                self.endpoint.handle_dial_failed(now, connection, error);
            }
        }
    }

    /// Takes note that a pipe may be readable, or writable, again. Its bytes are moved by
    /// [`poll_output`](Self::poll_output), until it says that it has none, so this may come from a
    /// notice that comes once.
    pub fn handle_ready(&mut self, connection: ConnectionId) {
        if self.pipes.contains_key(&connection) {
            self.ready.insert(connection);
        }
    }

    /// Takes note that any pipe may be readable, or writable, again.
    pub fn handle_all_ready(&mut self) {
        self.ready.extend(self.pipes.keys().copied());
    }

    // ---- outputs ------------------------------------------------------------------------------

    /// Moves the bytes of pipes that are ready, does what is due by `now`, and returns the next thing
    /// that is wanted or reported, as [`Endpoint::poll_output`] does.
    /// [`Close`](Output::Close) only says that the pipe was dropped.
    pub fn poll_output(&mut self, now: Instant) -> Output<Infallible> {
        loop {
            match self.endpoint.poll_output(now).transport() {
                Ok(Output::Timeout(at)) => {
                    if self.reads_left > 0
                        && let Some(id) = self.next_ready()
                    {
                        self.reads_left -= 1;
                        self.advance(now, id);
                        continue;
                    }
                    self.reads_left = READS;
                    // The application gets to do other things; then the rest is read.
                    let again = (!self.ready.is_empty()).then(|| self.endpoint.now + SOON);
                    return Output::Timeout(earliest(at, again));
                }
                Ok(Output::Close { connection, code }) => {
                    self.remove(connection);
                    return Output::Close { connection, code };
                }
                Ok(output) => return output,
                Err(Write { connection, bytes }) => self.write(now, connection, bytes),
            }
        }
    }

    // ---- parts --------------------------------------------------------------------------------

    fn add(&mut self, id: ConnectionId, pipe: P) {
        let open = Open { pipe, is_known: false, writing: None, failed: None };
        self.pipes.insert(id, open);
        self.handle_ready(id);
    }

    fn remove(&mut self, id: ConnectionId) {
        self.pipes.remove(&id);
        self.ready.remove(&id);
    }

    fn next_ready(&mut self) -> Option<ConnectionId> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.ready.range((behind, Bound::Unbounded)).next();
        let id = *next.or_else(|| self.ready.first())?;
        self.ready.remove(&id);
        self.last = Some(id);
        Some(id)
    }

    fn write(&mut self, now: Instant, id: ConnectionId, bytes: Bytes) {
        if let Some(open) = self.pipes.get_mut(&id) {
            open.writing = Some(bytes);
            open.write(now, id, &mut self.endpoint);
            if open.failed.is_some() {
                self.handle_ready(id);
            }
        }
    }

    fn advance(&mut self, now: Instant, id: ConnectionId) {
        if let Some(open) = self.pipes.get_mut(&id) {
            match open.advance(now, id, &mut self.endpoint, &mut self.buffer) {
                Ok(true) => self.handle_ready(id),
                Ok(false) => {}
                Err(why) => {
                    self.remove(id);
                    self.endpoint.handle_lost(now, id, why);
                }
            }
        }
    }
}

impl<P: Pipe> Open<P> {
    /// Reads once, and writes what waits. Returns whether there may be more to read.
    fn advance(
        &mut self,
        now: Instant,
        id: ConnectionId,
        endpoint: &mut Endpoint,
        buffer: &mut [u8],
    ) -> Result<bool, ConnectionLost> {
        let read = self.pipe.read(buffer).map_err(failed)?;
        if !self.is_known
            && let Some(peer) = self.pipe.peer().map_err(failed)?
        {
            self.is_known = true;
            endpoint.handle_connected(now, id, peer);
        }
        match read {
            Some(0) => return Err(self.failed.take().unwrap_or(ConnectionLost::Reset)),
            Some(_) if !self.is_known => return Err(failed("bytes of a peer that is not known")),
            Some(count) => endpoint.handle_bytes(now, id, &buffer[..count.min(buffer.len())]),
            None => {}
        }
        self.write(now, id, endpoint);
        match self.failed.take_if(|_| read.is_none()) {
            Some(why) => Err(why),
            None => Ok(read.is_some()),
        }
    }

    /// Writes what waits. If that fails, what the peer has sent before is read first.
    fn write(&mut self, now: Instant, id: ConnectionId, endpoint: &mut Endpoint) {
        if self.failed.is_none() {
            match self.try_write() {
                Ok(false) => {}
                Ok(true) => {
                    self.writing = None;
                    endpoint.handle_written(now, id);
                }
                Err(error) => self.failed = Some(failed(error)),
            }
        }
    }

    /// Returns whether all that the endpoint waits for has left.
    fn try_write(&mut self) -> Result<bool, P::Error> {
        while let Some(bytes) = self.writing.as_mut().filter(|bytes| !bytes.is_empty()) {
            match self.pipe.write(bytes)? {
                0 => break,
                count => bytes.advance(count.min(bytes.len())),
            }
        }
        Ok(self.pipe.flush()? && self.writing.as_ref().is_some_and(Bytes::is_empty))
    }
}

/// Without the pipes, which are the caller's.
impl<P> fmt::Debug for Driver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("endpoint", &self.endpoint)
            .field("pipes", &self.pipes.len())
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

fn failed(error: impl Display) -> ConnectionLost {
    ConnectionLost::Transport(printable(error))
}

/// Reads of at most [`READ_CHUNK`] bytes between two timeouts.
const READS: usize = 16;
/// The least that is ahead.
const SOON: Duration = Duration::from_micros(1);
