//! One connection of a script: its session, its substreams, and the bytes on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use super::peer::{self, Written};
use super::{MAX_HANDSHAKE, MAX_MESSAGE};
use crate::buffer::SubstreamBuffer;
use crate::crypto::{NONCE_LEN, PublicKey};
use crate::id::SubstreamId;
use crate::message::ToNode;
use crate::session::{Action, Event, Naming, OpenError, Session, SubstreamEnd};
use crate::testing::script::Script;
use crate::time::Instant;
use crate::wire::{Profile, ProtocolId, StreamName};

pub(super) struct Connection {
    pub(super) session: Session,
    setup: Setup,
    substreams: BTreeMap<SubstreamId, Substream>,
    opening: VecDeque<(SubstreamId, Vec<ProtocolId>)>,
    /// Every id there ever was.
    ids: BTreeSet<SubstreamId>,
    /// Messages that the peer has sealed, each as often as it may arrive.
    sealed: BTreeMap<Vec<u8>, usize>,
    nonces: u64,
    /// The frame of the latest of them.
    latest: BytesMut,
    sent: BTreeSet<(StreamName, Bytes)>,
    /// The records that the session sealed, by nonce.
    used: BTreeMap<Vec<u8>, (StreamName, Vec<u8>)>,
    is_closed: bool,
}

/// What is the same for all connections of a script.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// The node's own key.
    pub(super) node: PublicKey,
    pub(super) naming: Naming,
    /// Bytes are handed to sessions in buffers of their own size, so that a message fills one.
    pub(super) is_exact: bool,
}

struct Substream {
    buffer: SubstreamBuffer,
    /// The agreed protocol, if the transport negotiates names.
    protocol: Option<ProtocolId>,
    written: BytesMut,
}

impl Connection {
    pub(super) fn new(session: Session, setup: Setup) -> Self {
        Self {
            session,
            setup,
            substreams: BTreeMap::new(),
            opening: VecDeque::new(),
            ids: BTreeSet::new(),
            sealed: BTreeMap::new(),
            nonces: 0,
            latest: BytesMut::new(),
            sent: BTreeSet::new(),
            used: BTreeMap::new(),
            is_closed: false,
        }
    }

    // ---- the transport ------------------------------------------------------------------------

    /// Carries out an action of the session. Returns its message to the node, if it is one.
    pub(super) fn act(&mut self, now: Instant, action: Action) -> Option<ToNode> {
        match action {
            Action::OpenSubstream { substream, protocols } => {
                assert!(self.ids.insert(substream), "C12: {substream} again");
                assert!(!protocols.is_empty());
                self.opening.push_back((substream, protocols));
            }
            Action::WantWrite(_) | Action::CloseConnection { .. } => {}
            Action::ResumeRead(id) => {
                if let Some(substream) = self.substreams.get_mut(&id) {
                    substream.buffer.resume(&mut self.session, now);
                }
            }
            Action::Finish(id) => {
                if let Some(substream) = self.substreams.get_mut(&id) {
                    substream.buffer.finish();
                }
            }
            Action::Reset { substream: id, .. } => {
                self.opening.retain(|(opening, _)| *opening != id);
                if let Some(substream) = self.substreams.remove(&id) {
                    self.check_written(&substream);
                }
            }
            Action::Forward(message) => return Some(message),
        }
        None
    }

    /// The peer opens a substream.
    pub(super) fn accept(&mut self, now: Instant, choice: u8) {
        let protocol = peer::protocol(choice).filter(|_| self.setup.naming == Naming::Negotiated);
        let id = self.session.handle_accepted(now, protocol.clone());
        assert!(self.ids.insert(id), "C12: {id} again");
        self.insert(id, protocol);
    }

    /// A substream that the session wants is opened, or isn't.
    pub(super) fn open(&mut self, now: Instant, choice: u8) {
        let Some((id, protocols)) = self.opening.pop_front() else {
            return;
        };
        match choice {
            0..=9 => {
                let at = usize::from(choice) % protocols.len();
                let protocol = if choice == 9 {
                    ProtocolId::Handshake(Profile::V2)
                } else {
                    protocols[at].clone()
                };
                let protocol = Some(protocol).filter(|_| self.setup.naming == Naming::Negotiated);
                self.insert(id, protocol.clone());
                self.session.handle_opened(now, id, protocol);
            }
            10..=12 => self.session.handle_open_failed(now, id, OpenError::Refused),
            _ => self.session.handle_open_failed(now, id, OpenError::Failed),
        }
    }

    fn insert(&mut self, id: SubstreamId, protocol: Option<ProtocolId>) {
        let (buffer, written) = (SubstreamBuffer::new(id), BytesMut::new());
        self.substreams.insert(id, Substream { buffer, protocol, written });
    }

    fn feed(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let Some(Substream { buffer, .. }) = nth(&mut self.substreams, index) else {
            return;
        };
        if !buffer.wants_read() {
            return;
        }
        let mut bytes = BytesMut::from(bytes);
        if self.setup.is_exact && buffer.read_buffer().is_empty() {
            self.session.handle_data(now, buffer.substream(), &mut bytes).ignore();
        }
        buffer.append(&mut self.session, now, &bytes);
        buffer.received(&mut self.session, now);
    }

    pub(super) fn feed_raw(&mut self, now: Instant, index: usize, script: &mut Script<'_>) {
        let count = script.number();
        self.feed(now, index, script.take(count));
    }

    pub(super) fn feed_frame(&mut self, now: Instant, index: usize, script: &mut Script<'_>) {
        let count = script.number();
        let frame = peer::framed(self.profile(), script.take(count));
        self.feed(now, index, &frame);
    }

    /// A message arrives that the peer has sealed, or once more the latest one.
    pub(super) fn feed_message(&mut self, now: Instant, index: usize, script: &mut Script<'_>) {
        let count = script.number();
        if count == 255 {
            let latest = self.latest.clone();
            return self.feed(now, index, &latest);
        }
        let message = script.take(count);
        let mut nonce = [0xb0; NONCE_LEN];
        nonce[..8].copy_from_slice(&self.nonces.to_be_bytes());
        self.nonces += 1;
        let record = peer::cipher().encrypt(message, b"", &nonce);
        *self.sealed.entry(message.to_vec()).or_default() += 1;
        self.latest = peer::framed(self.profile(), &record);
        let latest = self.latest.clone();
        self.feed(now, index, &latest);
    }

    pub(super) fn feed_preamble(&mut self, now: Instant, index: usize, choice: u8) {
        self.feed(now, index, &peer::preamble(choice));
    }

    /// A half of a substream ends.
    pub(super) fn end_half(&mut self, now: Instant, index: usize, choice: u8) {
        let end = match choice & 3 {
            0 => SubstreamEnd::Finished,
            1 => SubstreamEnd::Reset,
            2 => SubstreamEnd::Stopped,
            _ => SubstreamEnd::Aborted,
        };
        if let Some(substream) = nth(&mut self.substreams, index) {
            substream.buffer.ended(&mut self.session, now, end);
        }
    }

    /// The transport takes some bytes, or all there are.
    pub(super) fn write(&mut self, index: usize, most: u8) {
        if let Some(substream) = nth(&mut self.substreams, index) {
            substream.write(&mut self.session, most);
        }
    }

    /// The peer's transport has all that was written.
    pub(super) fn acknowledge(&mut self, now: Instant, index: usize) {
        if let Some(substream) = nth(&mut self.substreams, index) {
            substream.write(&mut self.session, u8::MAX);
            self.session.handle_acknowledged(now, substream.buffer.substream());
        }
    }

    /// Inputs about substreams that are forgotten, not opened yet, or opened already; and a clock
    /// that runs backwards.
    pub(super) fn misuse(&mut self, now: Instant, index: usize, script: &mut Script<'_>) {
        let what = script.byte();
        let count = self.ids.len().max(1);
        let Some(id) = self.ids.iter().nth(index % count).copied() else {
            return;
        };
        let mut bytes = BytesMut::from(script.take(usize::from(what >> 4)));
        match what & 7 {
            0 => self.session.handle_data(now, id, &mut bytes).ignore(),
            1 => self.session.handle_substream_end(now, id, SubstreamEnd::Finished, &bytes),
            2 => self.session.handle_opened(now, id, peer::protocol(what >> 4)),
            3 => self.session.handle_open_failed(now, id, OpenError::Refused),
            4 => self.session.handle_acknowledged(now, id),
            5 => {
                let is_opening = self.opening.iter().any(|(opening, _)| *opening == id);
                if !is_opening && !self.substreams.contains_key(&id) {
                    assert_eq!(self.session.poll_write(id, &mut bytes, 10), 0, "{id} is over");
                }
            }
            6 => self.session.handle_timeout(Instant::ZERO),
            _ => self.session.handle_data(Instant::ZERO, id, &mut bytes).ignore(),
        }
    }

    // ---- the application ----------------------------------------------------------------------

    pub(super) fn command(&mut self, now: Instant, choice: u8, script: &mut Script<'_>) {
        let peer = self.session.peer();
        let [chat, more, much] = [0, 1, 2].map(peer::stream);
        // Other tests check what is refused; here no command may panic.
        let session = &mut self.session;
        match choice {
            0 => session.prepare_streams(now, peer, &[chat]).ignore(),
            1 => session.prepare_streams(now, peer, &[more]).ignore(),
            2 => session.prepare_streams(now, peer, &[chat, more]).ignore(),
            3 => session.prepare_streams(now, peer, &[chat, more, much]).ignore(),
            4 => session.prepare_streams(now, self.setup.node, &[chat]).ignore(),
            5 | 6 => session.finalize_handshake(now).ignore(),
            7 | 8 => {
                let message = filler(script);
                session.send_handshake(now, message).ignore();
            }
            9..=11 => {
                let stream = if choice == 11 { more } else { chat };
                let message = filler(script);
                if session.send(now, &stream, message.clone()).is_ok() {
                    assert!(message.len() <= MAX_MESSAGE);
                    self.sent.insert((stream, message));
                }
            }
            12 => session.reject_handshake(now, "not wanted"),
            13 => session.close(now),
            14 => {
                let unsent = session.take_unsent(&chat);
                assert!(unsent.into_iter().all(|it| self.sent.contains(&(chat.clone(), it))));
            }
            _ => session.prepare_streams(now, peer, &[]).ignore(),
        }
    }

    /// Takes events and messages; each bit of `choice` stands for a kind.
    pub(super) fn poll_application(&mut self, choice: u8) {
        if choice & 1 != 0 {
            while let Some(event) = self.session.poll_event() {
                assert!(!self.is_closed, "C2: {event:?} behind the end");
                self.is_closed = matches!(event, Event::Closed(_));
            }
        }
        if choice & 2 != 0 {
            while let Some(message) = self.session.poll_handshake_message() {
                assert!(message.len() <= MAX_HANDSHAKE, "{} bytes were received", message.len());
            }
        }
        for (bit, index) in [(4, 0), (8, 1)] {
            while choice & bit != 0
                && let Some(message) = self.session.poll_message(&peer::stream(index))
            {
                let left = self.sealed.get_mut(&message[..]).expect("the peer has sealed it");
                *left = left.checked_sub(1).expect("each message is delivered once");
            }
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Checks that a closed session has reported its end once and does nothing any more.
    pub(super) fn check_closed(&mut self, now: Instant) {
        self.poll_application(0x0f);
        assert!(self.is_closed, "C2: the end was not reported");
        let id = self.session.handle_accepted(now, Some(Profile::V1.handshake_id()));
        let mut bytes = BytesMut::from(&b"anything"[..]);
        self.session.handle_data(now, id, &mut bytes).ignore();
        self.session.handle_substream_end(now, id, SubstreamEnd::Aborted, b"");
        self.session.handle_timeout(now);
        assert_eq!(self.session.poll_timeout(), None, "C2: a timer after the end");
        assert_eq!(self.session.poll_event(), None, "C2: an event after the end");
        if let Some(action) = self.session.poll_action() {
            panic!("C2: {action:?} after the end");
        }
        for substream in std::mem::take(&mut self.substreams).values() {
            self.check_written(substream);
        }
    }

    /// Parses the bytes that the session wrote on a substream, as its peer would.
    fn check_written(&mut self, substream: &Substream) {
        let profile = self.session.profile();
        let protocol = substream.protocol.clone();
        let mut nonces = BTreeSet::new();
        for written in peer::read(&substream.written, self.setup.naming, protocol, profile) {
            match written {
                Written::Handshake(message) => assert!(message.len() <= MAX_HANDSHAKE),
                Written::Record(stream, record) => {
                    let nonce = record[..NONCE_LEN].to_vec();
                    assert!(nonces.insert(nonce.clone()), "a record twice on a substream");
                    let sealed = (stream.clone(), record.to_vec());
                    // Towards a Go node a record goes out again as it was sealed.
                    let repeats = self.used.get(&nonce) == Some(&sealed);
                    let is_allowed = repeats && profile == Some(Profile::V1Go);
                    let before = self.used.insert(nonce, sealed);
                    assert!(before.is_none() || is_allowed, "a nonce for another record");
                    let message = peer::cipher().decrypt(record, b"").expect("a record");
                    assert!(
                        self.sent.contains(&(stream, message.into())),
                        "a message that was not sent"
                    );
                }
            }
        }
    }

    fn profile(&self) -> Profile {
        self.session.profile().unwrap_or(Profile::V1)
    }
}

impl Substream {
    /// Takes up to `most` bytes; all of them if it is 255.
    fn write(&mut self, session: &mut Session, most: u8) {
        while let Some(chunk) = self.buffer.chunk(session) {
            let count = if most == u8::MAX { chunk.len() } else { usize::from(most) };
            let count = count.min(chunk.len());
            self.written.extend_from_slice(&chunk[..count]);
            self.buffer.wrote(count);
            if most != u8::MAX {
                return;
            }
        }
    }
}

/// Drops a result that a script has no use for.
trait Ignore: Sized {
    fn ignore(self) {}
}

impl<T> Ignore for T {}

fn nth(substreams: &mut BTreeMap<SubstreamId, Substream>, index: usize) -> Option<&mut Substream> {
    let count = substreams.len().max(1);
    substreams.values_mut().nth(index % count)
}

/// A message of as many bytes as the script says.
fn filler(script: &mut Script<'_>) -> Bytes {
    let count = script.number();
    Bytes::from(vec![script.byte(); count])
}
