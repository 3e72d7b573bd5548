//! What the applications of both sides send and receive, and what goes over the wire.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::name;
use crate::testing::pair::{Application, Host, Side};
use crate::{Closed, Event, SessionId, SessionInfo};

/// The streams of every session.
pub(super) const STREAMS: [&str; 2] = ["chat", "sync"];

#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) sides: [Taken; 2],
    /// What sessions have written, each time that they were asked.
    pub(super) flights: Vec<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) sent: BTreeMap<SessionId, Sent>,
    pub(super) seen: BTreeMap<SessionId, Seen>,
    /// No message is taken.
    pub(super) is_paused: bool,
}

/// What a session has accepted from its application.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) handshake: Vec<Bytes>,
    /// Without those that the session has given back since.
    pub(super) messages: [Vec<Bytes>; 2],
    /// How many there were, with those that were given back.
    pub(super) accepted: [usize; 2],
}

impl Sent {
    /// The session has given messages back: they are not to arrive any more.
    fn given_back(&mut self, messages: &[Bytes]) {
        for message in messages {
            let of_stream = self.messages.iter_mut().find(|all| all.contains(message));
            let of_stream = of_stream.expect("what is given back was accepted, and is so once");
            of_stream.retain(|sent| sent != message);
        }
    }
}

/// What a session has given to its application.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) handshake: Vec<Bytes>,
    pub(super) messages: [Vec<Bytes>; 2],
    /// Reported as given up by the peer.
    pub(super) lost: [u64; 2],
    pub(super) info: Option<SessionInfo>,
    pub(super) closed: Option<Closed>,
}

/// A message that tells where it belongs.
pub(super) fn message(
    side: Side,
    stream: usize,
    session: SessionId,
    number: usize,
    filling: usize,
) -> Bytes {
    let mut message = BytesMut::new();
    for number in [side, stream, number] {
        message.put_u64(u64::try_from(number).unwrap_or(u64::MAX));
    }
    message.put_u64(session.as_u64());
    message.put_bytes(0xa5, filling);
    message.freeze()
}

impl Seen {
    fn event(&mut self, event: Event) {
        assert!(self.closed.is_none(), "C2: {event:?} after the end");
        match event {
            Event::Established(info) => {
                assert!(self.info.replace(info).is_none(), "Established twice");
            }
            Event::MessagesLost { stream, messages } => {
                let at = STREAMS.iter().position(|known| stream == name(known));
                let lost = &mut self.lost[at.expect("a stream of the session")];
                *lost = lost.saturating_add(messages);
            }
            Event::Closed(closed) => self.closed = Some(closed),
            _ => {}
        }
    }
}

impl Application for Recorder {
    fn drain(&mut self, side: Side, host: &mut Host) -> bool {
        let Taken { sent, seen, is_paused } = &mut self.sides[side];
        let mut moved = false;
        while host.node.poll_event().is_some() {
            moved = true;
        }
        for (id, session) in &mut host.sessions {
            let seen = seen.entry(*id).or_default();
            while let Some(event) = session.poll_event() {
                moved = true;
                if let Event::StreamRefused { stream, unsent } = &event {
                    let messages = session.take_unsent(stream);
                    assert_eq!(messages.len(), *unsent, "given back");
                    sent.entry(*id).or_default().given_back(&messages);
                }
                seen.event(event);
            }
            if *is_paused {
                continue;
            }
            while let Some(message) = session.poll_handshake_message() {
                moved = true;
                seen.handshake.push(message);
            }
            for (at, stream) in STREAMS.iter().enumerate() {
                while let Some(message) = session.poll_message(&name(stream)) {
                    moved = true;
                    seen.messages[at].push(message);
                }
            }
        }
        moved
    }

    fn written(&mut self, _: Side, _: usize, bytes: &[u8]) {
        if self.flights.len() < MOST_FLIGHTS {
            self.flights.push(Bytes::copy_from_slice(bytes));
        }
    }
}

const MOST_FLIGHTS: usize = 255;
