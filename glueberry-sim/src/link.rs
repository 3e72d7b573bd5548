//! A connection between two hosts: its two ends, its substreams, the bytes that are on their way.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use glueberry_proto::mux::{Id, Mux};
use glueberry_proto::{
    ConnectionLost, Direction, Naming, Origin, ProtocolId, READ_CHUNK, Session, SessionId,
    SubstreamBuffer, SubstreamId, ToSession,
};

use crate::model::Lane;
use crate::plan::MAX_STREAMS;
use crate::rng::{Rng, u64_of, usize_of};
use crate::script::Script;
use crate::wake::Side;

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [End; 2],
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) naming: Naming,
    /// The pipe that its substreams share, if they do.
    pub(crate) line: Option<Box<Line>>,
    pub(crate) rng: Rng,
    /// When what was last sent in each direction has left, if bandwidth is short.
    pub(crate) busy_until: [u64; 2],
    /// Something has happened to it, or to one of its hosts: messages may be lost.
    pub(crate) is_touched: bool,
    /// Somebody between its ends has altered what was said.
    pub(crate) is_tampered: bool,
    /// Since when nothing passes in one of the directions.
    pub(crate) blocked_since: Option<u64>,
    /// The only thing that has happened to it: which side drains its session, and since when.
    pub(crate) drain: Option<(Side, u64)>,
    /// Who has no session at his end.
    pub(crate) script: Option<Script>,
    /// It has no state any more, and nothing comes of it.
    pub(crate) is_over: bool,
}

/// What lies beneath a connection whose substreams share one pipe.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) ends: [LineEnd; 2],
    /// What is on its way to each side.
    pub(crate) towards: [Half; 2],
    /// The substream of each number: both sides give them the same.
    pub(crate) substreams: BTreeMap<Id, usize>,
}

/// One end of a line.
#[derive(Debug, Default)]
pub(crate) struct LineEnd {
    /// From the moment that the host has admitted the connection, for as long as it lives.
    pub(crate) mux: Option<Mux>,
    /// Substreams that the peer's hello is awaited for.
    pub(crate) opening: VecDeque<usize>,
    /// When the next wake of the mux is in the queue.
    pub(crate) timer: Option<u64>,
    /// When the mux last had an input.
    pub(crate) last_input: u64,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: usize,
    /// Which life of the host it belongs to.
    pub(crate) life: u64,
    pub(crate) state: EndState,
    /// What the host is to learn of the connection when it arrives.
    pub(crate) origin: Option<Origin>,
    pub(crate) session: Option<Box<Session>>,
    pub(crate) id: Option<SessionId>,
    pub(crate) direction: Direction,
    /// When it got its session.
    pub(crate) admitted_at: u64,
    /// When its session had a handshake substream agreed.
    pub(crate) agreed_at: Option<u64>,
    /// Since when its session speaks for the peer, if the application heard of it at once.
    pub(crate) current_since: Option<u64>,
    /// When its half of a substream broke last, and which.
    pub(crate) broke: Option<(u64, usize)>,
    /// Messages of the node to the session that are on their way.
    pub(crate) inbox: VecDeque<ToSession>,
    pub(crate) inbox_is_due: bool,
    /// When the session's next wake is in the queue.
    pub(crate) timer: Option<u64>,
    /// When the session last had an input.
    pub(crate) last_input: u64,
    /// The substream of each id.
    pub(crate) substreams: Vec<Option<usize>>,
    /// Substreams that its session has asked for and had no answer to.
    pub(crate) unanswered: Vec<usize>,
    /// How the connection is lost, which is on its way to this end.
    pub(crate) loss: Option<ConnectionLost>,
    pub(crate) progress: Progress,
    pub(crate) lanes: [Lane; MAX_STREAMS],
    /// What a program has sent on each stream, distinguished by digests.
    pub(crate) sent: Vec<Vec<u64>>,
    /// Bytes that the session was handed, less what came out of it.
    pub(crate) held: u64,
    /// When the end of the session was reported.
    pub(crate) closed_at: Option<u64>,
    /// At the end of the session: messages that are in doubt, and that the peer certainly doesn't have.
    pub(crate) closed: Option<(u64, u64)>,
    /// The session that has ended was of v2.
    pub(crate) speaks_v2: bool,
    /// When messages of a refused stream were taken back, and how many.
    pub(crate) taken_back: (u64, usize),
    /// Wakes in a row that changed nothing.
    pub(crate) idle_wakes: u32,
    pub(crate) still: Still,
}

/// What stands still at an end since when it does, as it was found from time to time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Still {
    /// Of each stream on which messages wait and that no substream carries: how many were proposed.
    pub(crate) queued: [Option<Found>; MAX_STREAMS],
    /// The substream that is not read, though nothing waits for the application.
    pub(crate) unread: [Option<Found>; MAX_STREAMS],
}

/// Something that is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What changes with whatever is done about it.
    pub(crate) counts: [u64; 3],
    pub(crate) since: u64,
}

impl Found {
    /// Takes note of how something is found now; returns for how long it is so.
    pub(crate) fn again(found: &mut Option<Self>, counts: Option<[u64; 3]>, now: u64) -> u64 {
        let before = found.filter(|one| Some(one.counts) == counts);
        *found = before.or_else(|| counts.map(|counts| Self { counts, since: now }));
        found.map_or(0, |one| now - one.since)
    }
}

/// How far an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndState {
    /// The host has not learned of the connection yet.
    Arriving,
    Open,
    /// This side has closed it; what still arrives is discarded.
    Closing,
    /// It was lost, and the session knows.
    Lost,
    /// Nothing is at this end: refused, dropped, or the host is dead.
    Gone,
}

/// How far the application is with a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) is_connected: bool,
    /// The session was granted.
    pub(crate) was_granted: bool,
    /// Since when it is.
    pub(crate) granted_at: Option<u64>,
    pub(crate) got_hello: bool,
    pub(crate) got_ready: bool,
    /// When the application has prepared streams.
    pub(crate) prepared_at: Option<u64>,
    pub(crate) is_prepared: bool,
    /// `finalize_handshake` was accepted.
    pub(crate) is_finalized: bool,
    /// The session has reported it.
    pub(crate) is_established: bool,
    /// Its end was reported.
    pub(crate) is_closed: bool,
    /// When it said the first handshake message of its session.
    pub(crate) said_at: Option<u64>,
    /// When the peer's latest came.
    pub(crate) heard_at: Option<u64>,
    /// How many of what the peer says in the handshake were heard in their order.
    pub(crate) heard: u16,
    /// Which were, as bits.
    pub(crate) heard_which: u128,
    /// It was told of handshake messages, and has not taken them yet.
    pub(crate) has_words: bool,
    /// Handshake messages that the application said.
    pub(crate) handshakes_sent: usize,
    /// Streams on which messages wait to be taken.
    pub(crate) readable: [bool; MAX_STREAMS],
    pub(crate) read_is_due: bool,
}

impl Progress {
    /// Returns whether the session has ever spoken for its peer.
    pub(crate) const fn has_begun(&self) -> bool {
        self.is_connected || self.was_granted
    }
}

/// A substream.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) opener: Side,
    pub(crate) stage: Stage,
    pub(crate) proposals: Vec<ProtocolId>,
    pub(crate) agreed: Option<ProtocolId>,
    /// When its opener's session has asked for it.
    pub(crate) opened_at: u64,
    /// Its opener's session was told what was agreed, or that nothing was.
    pub(crate) is_answered: bool,
    /// The stream that it is for.
    pub(crate) stream: Option<usize>,
    pub(crate) carried: [Carried; 2],
    pub(crate) buffers: [Option<SubstreamBuffer>; 2],
    /// What is on its way to each side.
    pub(crate) halves: [Half; 2],
}

/// Messages that one side has written to a substream of a stream, and bytes of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// When it has written first.
    pub(crate) since: Option<u64>,
    /// It has read something on it.
    pub(crate) has_read: bool,
    /// Bytes that it has read on it.
    pub(crate) read: u64,
}

/// How far a substream is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The acceptor has not learned of it.
    Offered,
    /// The acceptor has it; the opener may not know yet.
    Accepted,
    /// Both have it.
    Open,
    Dead,
}

/// One direction of a substream: towards one side.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) segments: VecDeque<(u64, Bytes)>,
    /// Bytes sent that the reader has not taken.
    pub(crate) in_flight: usize,
    /// When the last of what was sent arrives.
    pub(crate) last: u64,
    /// When the writer's end arrives.
    pub(crate) fin: Option<u64>,
    /// When the writer's reset arrives.
    pub(crate) reset: Option<u64>,
    /// When the reader's refusal arrives at the writer.
    pub(crate) stopped: Option<u64>,
    /// The reader has got the end, or refuses to read.
    pub(crate) is_over: bool,
    /// The writer can write no more.
    pub(crate) is_shut: bool,
    pub(crate) is_acknowledged: bool,
    /// The writer was told that it is.
    pub(crate) was_told: bool,
    pub(crate) wants_write: bool,
    pub(crate) write_is_due: bool,
    pub(crate) read_is_due: bool,
}

impl Link {
    pub(crate) fn new(ends: [End; 2], naming: Naming, rng: Rng) -> Self {
        Self {
            ends,
            pipes: Vec::new(),
            naming,
            line: None,
            rng,
            busy_until: [0; 2],
            is_touched: false,
            is_tampered: false,
            blocked_since: None,
            drain: None,
            script: None,
            is_over: false,
        }
    }

    /// Returns the substream that an end knows by this id.
    pub(crate) fn pipe_of(&self, side: Side, id: SubstreamId) -> Option<usize> {
        self.ends[side].substreams.get(usize_of(id.as_u64())).copied().flatten()
    }

    /// Forgets what is on its way.
    pub(crate) fn clear(&mut self) {
        self.is_over = true;
        self.pipes = Vec::new();
        self.line = None;
        for end in &mut self.ends {
            end.substreams = Vec::new();
            end.inbox = VecDeque::new();
        }
    }
}

impl End {
    pub(crate) fn new(host: usize, life: u64, origin: Origin) -> Self {
        let direction = match origin {
            Origin::Dialled(_) => Direction::Outbound,
            _ => Direction::Inbound,
        };
        Self {
            host,
            life,
            direction,
            admitted_at: 0,
            agreed_at: None,
            current_since: None,
            broke: None,
            state: EndState::Arriving,
            origin: Some(origin),
            session: None,
            id: None,
            inbox: VecDeque::new(),
            inbox_is_due: false,
            timer: None,
            last_input: 0,
            substreams: Vec::new(),
            unanswered: Vec::new(),
            loss: None,
            progress: Progress::default(),
            lanes: <[Lane; MAX_STREAMS]>::default(),
            sent: Vec::new(),
            held: 0,
            closed_at: None,
            closed: None,
            speaks_v2: false,
            taken_back: (0, 0),
            idle_wakes: 0,
            still: Still::default(),
        }
    }

    /// Remembers which substream an id stands for; returns whether the id is new.
    pub(crate) fn name(&mut self, id: SubstreamId, pipe: usize) -> bool {
        let at = usize_of(id.as_u64());
        if self.substreams.len() <= at {
            self.substreams.resize(at + 1, None);
        }
        let is_new = self.substreams[at].is_none();
        self.substreams[at] = Some(pipe);
        is_new
    }
}

impl Pipe {
    /// Makes a substream that a side opens, under an id if it has a session.
    pub(crate) fn new(opener: Side, id: Option<SubstreamId>, proposals: Vec<ProtocolId>) -> Self {
        let mut buffers = [None, None];
        buffers[opener] = id.map(SubstreamBuffer::new);
        Self {
            opener,
            stage: Stage::Offered,
            proposals,
            agreed: None,
            opened_at: 0,
            is_answered: false,
            stream: None,
            carried: <[Carried; 2]>::default(),
            buffers,
            halves: [Half::default(), Half::default()],
        }
    }
}

impl Pipe {
    /// It was opened for the handshake.
    pub(crate) fn is_handshake(&self) -> bool {
        matches!(self.proposals.first(), Some(ProtocolId::Handshake(_)))
    }
}

impl Carried {
    /// It has read more than the bytes that say which stream and instance a substream is of.
    pub(crate) const fn is_named(&self) -> bool {
        self.read >= PREAMBLE
    }

    /// A session has given bytes for the substream: what its queue held before, and holds after.
    /// Returns how many messages left the queue.
    pub(crate) fn takes(&mut self, before: (usize, usize), after: (usize, usize), now: u64) -> u64 {
        let messages = u64_of(before.0.saturating_sub(after.0));
        self.messages += messages;
        self.bytes += u64_of(before.1.saturating_sub(after.1));
        self.since.get_or_insert(now);
        messages
    }
}

impl Half {
    /// Sends bytes that arrive at `at`, or behind what was sent before.
    pub(crate) fn send(&mut self, at: u64, bytes: Bytes) -> u64 {
        self.last = self.last.max(at);
        self.in_flight += bytes.len();
        self.segments.push_back((self.last, bytes));
        self.last
    }

    /// Takes what has arrived first, as much as is read at a time.
    pub(crate) fn take(&mut self, now: u64) -> Option<Bytes> {
        let (_, first) = self.segments.front_mut().filter(|(at, _)| *at <= now)?;
        let bytes = match first.len() > READ_CHUNK {
            true => first.split_to(READ_CHUNK),
            false => self.segments.pop_front()?.1,
        };
        self.in_flight -= bytes.len();
        Some(bytes)
    }

    /// Loses what is on its way.
    pub(crate) fn drop_all(&mut self) -> u64 {
        let lost = u64_of(self.in_flight);
        self.segments.clear();
        self.in_flight = 0;
        lost
    }

    /// Returns when there is something for the reader, if ever.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.is_over {
            return None;
        }
        let first = self.segments.front().map(|(at, _)| *at);
        let end = self.reset.or(first).or(self.fin);
        // A reset overtakes what was sent before.
        match (first, self.reset) {
            (Some(first), Some(reset)) => Some(first.min(reset)),
            _ => end,
        }
    }
}

/// More bytes than the preambles of a substream have.
const PREAMBLE: u64 = 100;
