//! Frames of the peer: cut anywhere, checked, and carried out.

use super::error::{Closed, Violation};
use super::event::Event;
use super::frame::{HEADER, Header, Hello, Kind, MAX_CONTROL, parse_u32, parse_u64};
use super::substreams::{Arrival, Id, increase};
use super::{Direction, Mux};

/// Where in the peer's bytes the mux is.
#[derive(Debug, Default)]
pub(super) struct Parser {
    at: At,
    /// The header, or the payload of a frame that is not DATA, as far as it has arrived.
    gathered: Gathered,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Header,
    /// In a frame that is not DATA.
    Control(Header),
    /// In a DATA frame, with `left` bytes to come.
    Data { substream: Id, left: usize, is_fin: bool },
    /// In a DATA frame of a substream that is not wanted.
    Dropping { left: usize },
}

#[derive(Debug)]
struct Gathered {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

impl Mux {
    /// Takes bytes from the front of `input` up to the next event.
    pub(super) fn parse<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a>> {
        loop {
            if self.life.is_done() {
                *input = &[];
                return None;
            }
            match self.step(input) {
                Ok(Step::More) => {}
                Ok(Step::Event(event)) => return Some(event),
                Ok(Step::Starved) => return None,
                Err(violation) => self.misbehaved(violation),
            }
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, Violation> {
        match self.parser.at {
            At::Header => {
                let Some(header) = self.parser.gathered.take::<HEADER>(input) else {
                    return Ok(Step::Starved);
                };
                self.header(Header::parse(header)?)
            }
            At::Control(header) => {
                let Some(payload) = self.parser.gathered.fill(usize::from(header.len), input)
                else {
                    return Ok(Step::Starved);
                };
                self.parser.at = At::Header;
                self.control(header, &payload)
            }
            At::Data { substream, left: 0, is_fin } => {
                self.parser.at = At::Header;
                let is_wanted = is_fin && self.substreams.is_known(substream);
                Ok(Step::event_if(is_wanted, Event::Finished { substream }))
            }
            At::Dropping { left: 0 } => {
                self.parser.at = At::Header;
                Ok(Step::More)
            }
            At::Data { substream, left, is_fin } => {
                let Some(bytes) = split(input, left) else {
                    return Ok(Step::Starved);
                };
                self.parser.at = At::Data { substream, left: left - bytes.len(), is_fin };
                // It may have been reset since the frame began, which has given back all of it.
                let is_wanted = self.substreams.is_known(substream);
                Ok(Step::event_if(is_wanted, Event::Data { substream, bytes }))
            }
            At::Dropping { left } => {
                let Some(bytes) = split(input, left) else {
                    return Ok(Step::Starved);
                };
                self.parser.at = At::Dropping { left: left - bytes.len() };
                Ok(Step::More)
            }
        }
    }

    fn header<'a>(&mut self, header: Header) -> Result<Step<'a>, Violation> {
        if self.closed().is_some() {
            // Only the peer's close is of interest. It may have sent anything before it knew.
            self.parser.at = match header.kind {
                Kind::Data { .. } => At::Dropping { left: usize::from(header.len) },
                _ => At::Control(header),
            };
            return Ok(Step::More);
        }
        if self.peer.is_none() && header.kind != Kind::Hello {
            return Err(Violation::BadHello);
        }
        let Kind::Data { is_open, is_fin } = header.kind else {
            self.parser.at = At::Control(header);
            return Ok(Step::More);
        };
        let id = Id::new(header.substream);
        if is_open {
            self.accept(id)?;
        } else {
            self.check_opened(id)?;
        }
        let len = u32::from(header.len);
        let exceeded = Violation::WindowExceeded { substream: header.substream };
        self.windows.recv = self.windows.recv.checked_sub(len).ok_or(exceeded)?;
        let left = usize::from(header.len);
        self.parser.at = match self.substreams.data(id, len, is_fin)? {
            Arrival::Wanted => At::Data { substream: id, left, is_fin },
            Arrival::Dropped => {
                self.give_back(len);
                At::Dropping { left }
            }
        };
        Ok(Step::event_if(is_open, Event::Accepted { substream: id }))
    }

    fn control<'a>(&mut self, header: Header, payload: &Payload) -> Result<Step<'a>, Violation> {
        let (substream, payload) = (Id::new(header.substream), payload.as_slice());
        if let Kind::Close = header.kind {
            let code = parse_u32(payload);
            if self.life.peer_closed(code) {
                self.due.close = Some(code);
                self.due.pong = None;
            }
            self.substreams.clear();
            return Ok(Step::More);
        }
        if self.closed().is_some() {
            return Ok(Step::More);
        }
        if header.substream != 0 {
            self.check_opened(substream)?;
        }
        match header.kind {
            Kind::Hello if self.peer.is_some() => Err(Violation::SecondHello),
            Kind::Hello => {
                let hello = Hello::parse(payload)?;
                self.windows.send = hello.connection_window;
                self.peer = Some(hello);
                self.life.open(&self.config);
                Ok(Step::Event(Event::Ready))
            }
            Kind::Window => {
                let increment = parse_u32(payload);
                if header.substream == 0 {
                    self.windows.send = increase(self.windows.send, increment, 0)?;
                } else {
                    self.substreams.granted(substream, increment)?;
                }
                Ok(Step::More)
            }
            Kind::Ack => {
                let is_news = self.substreams.acknowledged(substream)?;
                Ok(Step::event_if(is_news, Event::Acknowledged { substream }))
            }
            Kind::Reset => {
                let code = parse_u32(payload);
                let held = self.substreams.was_reset(substream);
                self.give_back(held.unwrap_or(0));
                Ok(Step::event_if(held.is_some(), Event::Reset { substream, code }))
            }
            Kind::Ping { is_pong } => {
                if !is_pong {
                    self.due.pong = Some(parse_u64(payload));
                }
                Ok(Step::More)
            }
            Kind::Data { .. } | Kind::Close => Ok(Step::More),
        }
    }

    /// The peer opens a substream.
    fn accept(&mut self, id: Id) -> Result<(), Violation> {
        let number = id.as_u32();
        if self.is_own(id) || number <= self.numbers.last_of_peer {
            return Err(Violation::BadSubstream { substream: number });
        }
        let limit = self.config.max_substreams;
        if self.substreams.opened(false) >= usize::from(limit) {
            return Err(Violation::TooManySubstreams { limit });
        }
        self.numbers.last_of_peer = number;
        let send_window = self.peer.map_or(0, |peer| peer.window);
        self.substreams.insert(id, false, send_window, self.config.window);
        Ok(())
    }

    /// Checks that a substream was opened, now or once.
    fn check_opened(&self, id: Id) -> Result<(), Violation> {
        let number = id.as_u32();
        let was_opened = if self.is_own(id) {
            self.numbers.next == 0 || number < self.numbers.next
        } else {
            number <= self.numbers.last_of_peer
        };
        was_opened.then_some(()).ok_or(Violation::BadSubstream { substream: number })
    }

    fn is_own(&self, id: Id) -> bool {
        (id.as_u32() % 2 == 1) == (self.side == Direction::Outbound)
    }

    fn misbehaved(&mut self, violation: Violation) {
        if self.closed().is_some() {
            // It is not worth waiting for its close.
            self.life.pipe_ended();
        } else {
            self.begin_close(Closed::Misbehaved(violation), MISBEHAVED);
        }
        // Where its next frame begins cannot be known.
        self.parser.at = At::Dropping { left: usize::MAX };
    }
}

enum Step<'a> {
    /// Nothing to report; there may be more in the input.
    More,
    Event(Event<'a>),
    /// The input has ended.
    Starved,
}

impl<'a> Step<'a> {
    const fn event_if(is_wanted: bool, event: Event<'a>) -> Self {
        if is_wanted { Self::Event(event) } else { Self::More }
    }
}

/// A payload that was gathered.
struct Payload {
    bytes: [u8; MAX_CONTROL],
    len: usize,
}

impl Payload {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Gathered {
    fn default() -> Self {
        Self { bytes: [0; MAX_CONTROL], len: 0 }
    }
}

impl Gathered {
    /// Gathers `N` bytes.
    fn take<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        // Most headers arrive whole.
        if self.len == 0
            && let Some((whole, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            return Some(*whole);
        }
        let payload = self.fill(N, input)?;
        payload.bytes.first_chunk().copied()
    }

    /// Gathers `len` bytes, at most [`MAX_CONTROL`].
    fn fill(&mut self, len: usize, input: &mut &[u8]) -> Option<Payload> {
        let (fitting, rest) = input.split_at(len.saturating_sub(self.len).min(input.len()));
        self.bytes[self.len..self.len + fitting.len()].copy_from_slice(fitting);
        self.len += fitting.len();
        *input = rest;
        if self.len < len {
            return None;
        }
        self.len = 0;
        Some(Payload { bytes: self.bytes, len })
    }
}

/// Takes up to `count` bytes; `None` if there are none.
fn split<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    (!taken.is_empty()).then_some(taken)
}

/// The session code of the same name (`WIRE.md` §10.1).
const MISBEHAVED: u32 = 5;
