//! What v2 knows of one direction of a stream, from the peer to this side: which instance is read,
//! which wait, and what arrived (WIRE.md §8.3 to §8.7).

use bytes::{Buf, Bytes, BytesMut};

use crate::config::Config;
use crate::error::PeerMisbehaved;
use crate::id::SubstreamId;
use crate::prelude::*;
use crate::session::action::{Ingest, ResetCode};
use crate::session::event::Event;
use crate::session::inbox::Inbox;
use crate::session::lent::Lent;
use crate::session::receive::admits;
use crate::time::Instant;
use crate::v2::control::{Bucket, Received};
use crate::v2::instance::Preamble;
use crate::v2::order::{Next, Order, Verdict};
use crate::v2::reader::{Progress, ReadError, Reader, Sink};
use crate::v2::record::Cipher;
use crate::v2::schedule::StreamRoot;
use crate::v2::{PartialMessage, Violation};
use crate::wire::StreamName;

/// The instances that the peer writes.
#[derive(Debug)]
pub(in crate::session) struct Incoming {
    root: StreamRoot,
    cipher: Cipher,
    session: [u8; 8],
    order: Order,
    /// Of the instance that is read.
    reader: Option<Box<Reader>>,
    received: Received,
    /// How often the peer may still change keys early.
    short_epochs: Bucket,
}

impl Incoming {
    pub(in crate::session) fn new(root: StreamRoot, cipher: Cipher, session: [u8; 8]) -> Self {
        let (order, received) = (Order::default(), Received::default());
        // It is full, whenever that was.
        let short_epochs = Bucket::of_peer(Instant::ZERO);
        Self { root, cipher, session, order, reader: None, received, short_epochs }
    }

    pub(in crate::session) const fn received(&self) -> Received {
        self.received
    }

    /// Returns when a parked instance has waited for long enough.
    pub(in crate::session) fn waits_until(&self) -> Option<Instant> {
        self.order.waits_until()
    }

    /// Reads on, on the substream that is read.
    pub(in crate::session) fn resume(&mut self, lent: &mut Lent<'_>) {
        if let Some(id) = self.order.reading() {
            self.order.progressed(false, lent.now);
            lent.substreams.resume(id, lent.out);
        }
    }

    /// Returns the message of which a part was taken from a substream.
    pub(in crate::session) fn partial(&self, id: SubstreamId) -> Option<PartialMessage> {
        let is_read = self.order.reading() == Some(id);
        self.reader.as_ref().filter(|_| is_read)?.partial()
    }

    /// Takes bytes from the front of `buf`, for as long as the queue has room.
    pub(in crate::session) fn ingest(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        inbox: &mut Inbox,
        lent: &mut Lent<'_>,
        buf: &mut BytesMut,
    ) -> Result<Ingest, PeerMisbehaved> {
        let violation = |violation| PeerMisbehaved::V2 { stream: Some(name.clone()), violation };
        if self.order.reading() != Some(id) && !self.order.is_parked(id) {
            match self.identify(id, lent, buf).map_err(violation)? {
                Some(ingest) => return Ok(ingest),
                None => self.advance(name, lent),
            }
        }
        if self.order.reading() != Some(id) {
            return Ok(Ingest::Paused);
        }
        let Some(reader) = &mut self.reader else {
            debug_assert!(false, "what is read has a reader");
            return Ok(Ingest::Discard);
        };
        let config = lent.config();
        let mut sink = Messages { inbox, config, lost: 0 };
        let progress = reader.read(buf, config.max_message_size, &mut self.received, &mut sink);
        if sink.lost > 0 {
            let (stream, messages) = (name.clone(), sink.lost);
            lent.out.emit(Event::MessagesLost { stream, messages });
        }
        if !(0..reader.take_short_epochs()).all(|_| self.short_epochs.take(lent.now)) {
            return Err(violation(Violation::Rate));
        }
        let progress = progress.map_err(|error| match error {
            ReadError::TooLarge { announced, limit } => {
                PeerMisbehaved::MessageTooLarge { stream: Some(name.clone()), announced, limit }
            }
            ReadError::Violation(error) => violation(error),
        })?;
        self.order.progressed(progress == Progress::Full, lent.now);
        Ok(match progress {
            Progress::More { missing } => Ingest::More { missing },
            Progress::Full => Ingest::Paused,
            // The end of the substream's half follows.
            Progress::Closed => Ingest::More { missing: 1 },
        })
    }

    /// Learns which instance a substream carries. Returns what to do with it if it is not to be
    /// read or not known yet.
    fn identify(
        &mut self,
        id: SubstreamId,
        lent: &mut Lent<'_>,
        buf: &mut BytesMut,
    ) -> Result<Option<Ingest>, Violation> {
        let Some(preamble) = Preamble::parse(buf) else {
            return Ok(Some(Ingest::More { missing: Preamble::LEN - buf.len() }));
        };
        let verdict = match preamble.session == self.session {
            true => self.order.arrived(preamble.instance, id, lent.now)?,
            false => {
                // It may belong to the previous session of the connection.
                lent.substreams.reset(id, ResetCode::WrongSession, lent.out);
                return Ok(Some(Ingest::Discard));
            }
        };
        let code = match verdict {
            Verdict::Wait => {
                buf.advance(Preamble::LEN);
                lent.substreams.expect_nothing(id);
                return Ok(None);
            }
            Verdict::Stale => ResetCode::Stale,
            Verdict::TooMany => ResetCode::Parked,
        };
        lent.substreams.reset(id, code, lent.out);
        Ok(Some(Ingest::Discard))
    }

    /// The peer's half of a substream has ended.
    pub(in crate::session) fn read_ended(
        &mut self,
        id: SubstreamId,
        name: &StreamName,
        is_finished: bool,
        lent: &mut Lent<'_>,
    ) {
        if self.order.reading() == Some(id) {
            self.end(id, name, is_finished, lent);
            self.advance(name, lent);
        } else if !self.order.is_parked(id) {
            // It is not known which instance it was to carry.
            lent.substreams.reset(id, ResetCode::Refused, lent.out);
        }
    }

    /// The sender does not want an instance to be waited for.
    pub(in crate::session) fn abandoned(
        &mut self,
        instance: u32,
        name: &StreamName,
        lent: &mut Lent<'_>,
    ) -> Result<(), Violation> {
        self.order.abandon(instance)?;
        self.advance(name, lent);
        Ok(())
    }

    /// A parked instance has waited for long enough, if it is time.
    pub(in crate::session) fn handle_timeout(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        if self.order.waits_until().is_none_or(|at| at > lent.now) {
            return;
        }
        if let Some(id) = self.order.reading() {
            lent.substreams.reset(id, ResetCode::Abandoned, lent.out);
            self.end(id, name, false, lent);
        }
        self.advance(name, lent);
    }

    /// The instance that was read is over.
    fn end(&mut self, id: SubstreamId, name: &StreamName, is_finished: bool, lent: &mut Lent<'_>) {
        let is_closed = self.reader.take().is_some_and(|reader| reader.is_closed());
        self.order.ended(lent.now);
        if is_closed && is_finished {
            // This acknowledges the whole instance.
            return lent.substreams.finish(id, lent.out);
        }
        lent.substreams.reset(id, ResetCode::Refused, lent.out);
        if !is_closed {
            lent.out.emit(Event::StreamTruncated { stream: name.clone() });
        }
    }

    /// Begins to read what comes next, and skips what does not come.
    fn advance(&mut self, name: &StreamName, lent: &mut Lent<'_>) {
        while let Some(next) = self.order.next(lent.now) {
            let secret = self.root.next_instance();
            let Next::Begin(instance, id) = next else {
                continue;
            };
            let is_gone = lent.substreams.get(id).is_none_or(|substream| substream.read_ended);
            if is_gone {
                self.end(id, name, false, lent);
                continue;
            }
            let reader = Reader::new(self.cipher.clone(), &secret, instance);
            self.reader = Some(Box::new(reader));
            lent.substreams.resume(id, lent.out);
        }
    }
}

/// The queue that messages go to.
struct Messages<'a> {
    inbox: &'a mut Inbox,
    config: &'a Config,
    lost: u64,
}

impl Sink for Messages<'_> {
    fn admits(&self, len: usize) -> bool {
        admits(self.inbox, len, self.config)
    }

    fn expect(&mut self, messages: usize) {
        let room = self.config.receive_queue.saturating_sub(self.inbox.len());
        self.inbox.reserve(messages.min(room));
    }

    fn message(&mut self, message: Bytes, cost: usize) {
        self.inbox.push(message, cost);
    }

    fn lost(&mut self, messages: u64) {
        self.lost = self.lost.saturating_add(messages);
    }
}
