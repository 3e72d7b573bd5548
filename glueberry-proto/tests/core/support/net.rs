//! The transport between the two hosts: connections, substreams, and the moves that it can make.

use std::collections::VecDeque;

use glueberry_proto::{
    Action, Admission, ConnectionLost, DialError, Naming, NewConnection, NodeAction, OpenError,
    Origin, ProtocolId, Session, SessionId, SubstreamBuffer, SubstreamId,
};

use super::pipe::{Half, Pipe};
use super::{A, B, Side, World, key};

/// One connection between the hosts: the session at each end, and the substreams.
pub(crate) struct Link {
    pub(crate) ends: [Option<SessionId>; 2],
    pub(crate) pipes: Vec<Pipe>,
    pub(crate) is_down: bool,
    /// What a side has not been told yet: that there is a connection, and how it ended.
    arriving: [Option<Origin>; 2],
    lost: [Option<ConnectionLost>; 2],
    /// Substreams that are being opened, and refusals on their way back.
    offers: VecDeque<Offer>,
    refusals: VecDeque<(Side, SubstreamId)>,
}

struct Offer {
    opener: Side,
    buffer: SubstreamBuffer,
    protocols: Vec<ProtocolId>,
}

/// Something that the transport or an application can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// A word of a session reaches its node.
    ToNode(Side),
    /// A word of a node reaches its session.
    ToSession(Side),
    /// A side hears that there is a connection.
    Arrive(usize, Side),
    /// A side hears that a connection is gone.
    Lose(usize, Side),
    /// The first of the substreams that are being opened reaches the peer.
    Offer(usize),
    /// The opener of a substream hears that it was refused.
    Refuse(usize),
    /// The opener of a substream hears what was agreed.
    Answer(usize, usize),
    /// Bytes go from a session to a pipe.
    Write(usize, usize, Side),
    /// Bytes, or an end, go from a pipe to a session.
    Deliver(usize, usize, Side),
    /// A side hears that all it wrote has arrived.
    Acknowledge(usize, usize, Side),
    /// The application of a side takes what there is.
    Application(Side),
}

impl World {
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        for side in [A, B] {
            moves.push(Move::ToNode(side));
            moves.push(Move::ToSession(side));
        }
        for (at, link) in self.links.iter().enumerate() {
            for side in [A, B] {
                moves.push(Move::Arrive(at, side));
                moves.push(Move::Lose(at, side));
            }
            moves.extend(link.offers.iter().map(|_| Move::Offer(at)));
            moves.extend(link.refusals.iter().map(|_| Move::Refuse(at)));
            for pipe in 0..link.pipes.len() {
                moves.push(Move::Answer(at, pipe));
                for side in [A, B] {
                    moves.push(Move::Write(at, pipe, side));
                    moves.push(Move::Deliver(at, pipe, side));
                    moves.push(Move::Acknowledge(at, pipe, side));
                }
            }
        }
        moves.extend([Move::Application(A), Move::Application(B)]);
        moves
    }

    /// Makes a move, if it can be made.
    pub(crate) fn perform(&mut self, each: Move) -> bool {
        let moved = match each {
            Move::ToNode(side) => self.hear_session(side),
            Move::ToSession(side) => self.hear_node(side),
            Move::Arrive(link, side) => self.arrive(link, side),
            Move::Lose(link, side) => self.lose(link, side),
            Move::Offer(link) => self.offer(link),
            Move::Refuse(link) => self.refuse(link),
            Move::Answer(link, pipe) => self.answer(link, pipe),
            Move::Write(link, pipe, side) => self.write(link, pipe, side),
            Move::Deliver(link, pipe, side) => self.deliver(link, pipe, side),
            Move::Acknowledge(link, pipe, side) => self.acknowledge(link, pipe, side),
            Move::Application(side) => self.drain_application(side),
        };
        if moved {
            self.drain_actions();
        }
        moved
    }

    // ---- connections --------------------------------------------------------------------------

    /// A dial succeeds: both ends are to hear of it.
    pub(crate) fn link_up(&mut self, dialler: Side, origin: Origin) {
        let mut arriving = [Some(Origin::Accepted), Some(Origin::Accepted)];
        arriving[dialler] = Some(origin);
        self.links.push(Link {
            ends: [None, None],
            pipes: Vec::new(),
            is_down: false,
            arriving,
            lost: [None, None],
            offers: VecDeque::new(),
            refusals: VecDeque::new(),
        });
    }

    fn arrive(&mut self, link: usize, side: Side) -> bool {
        let Some(origin) = self.links[link].arriving[side].take() else {
            return false;
        };
        if self.links[link].is_down {
            return true;
        }
        let connection = NewConnection { peer: key(1 - side), origin, naming: self.naming };
        let node = &mut self.hosts[side].node;
        let now = self.clock.tell(self.now, node);
        match node.handle_connection(now, connection) {
            Admission::Accept(session) => {
                let id = session.id();
                self.log.connections[side].push(id);
                self.links[link].ends[side] = Some(id);
                self.hosts[side].sessions.insert(id, *session);
            }
            _ => self.hang_up(link, side),
        }
        true
    }

    /// A side closes a connection: the other hears of it later, and what was on its way is gone.
    fn hang_up(&mut self, link: usize, side: Side) {
        let link = &mut self.links[link];
        if !link.is_down {
            link.is_down = true;
            link.lost[1 - side] = Some(ConnectionLost::ClosedByPeer { code: 0 });
        }
    }

    fn lose(&mut self, link: usize, side: Side) -> bool {
        let link = &mut self.links[link];
        if link.arriving[side].is_some() {
            return false;
        }
        let Some(why) = link.lost[side].take() else {
            return false;
        };
        if let Some(connection) = link.ends[side]
            && let Some(session) = self.hosts[side].sessions.get_mut(&connection)
        {
            let now = self.clock.tell(self.now, session);
            session.handle_connection_lost(now, why);
        }
        true
    }

    /// Both ends lose a connection, and hear of it at once.
    pub(crate) fn cut(&mut self, link: usize) {
        self.links[link].is_down = true;
        for side in [A, B] {
            self.links[link].lost[side] = Some(ConnectionLost::TimedOut);
            self.lose(link, side);
        }
        self.drain_actions();
    }

    // ---- actions ------------------------------------------------------------------------------

    pub(crate) fn drain_actions(&mut self) -> bool {
        let mut moved = false;
        for side in [A, B] {
            while let Some(action) = self.hosts[side].node.poll_action() {
                moved = true;
                self.log.note(|| format!("{side} {action:?}"));
                self.node_action(side, action);
            }
            let connections: Vec<SessionId> = self.hosts[side].sessions.keys().copied().collect();
            for connection in connections {
                while let Some(action) = self.poll_action(side, connection) {
                    moved = true;
                    self.log.note(|| format!("{side} {connection} {action:?}"));
                    self.session_action(side, connection, action);
                }
            }
        }
        moved
    }

    fn poll_action(&mut self, side: Side, connection: SessionId) -> Option<Action> {
        self.hosts[side].sessions.get_mut(&connection)?.poll_action()
    }

    fn node_action(&mut self, side: Side, action: NodeAction) {
        match action {
            NodeAction::Dial { dial, .. } => {
                self.log.dials[side].push(dial);
                if self.hosts[side].is_unreachable {
                    let node = &mut self.hosts[side].node;
                    let now = self.clock.tell(self.now, node);
                    return node.handle_dial_failed(now, dial, DialError::NoUsableAddress);
                }
                self.link_up(side, Origin::Dialled(dial));
            }
            NodeAction::Forward { session, message } => {
                self.hosts[side].to_session.push_back((session, message));
            }
            NodeAction::SaveBook => {
                let host = &mut self.hosts[side];
                assert!(host.saving.is_none(), "one save at a time");
                host.saving = Some(host.node.book().clone());
            }
            _ => {}
        }
    }

    /// What was being stored is, or could not be.
    pub(crate) fn stored(&mut self, side: Side, is_stored: bool) {
        let host = &mut self.hosts[side];
        let Some(saving) = host.saving.take() else {
            return;
        };
        let now = self.clock.tell(self.now, &mut host.node);
        if is_stored {
            host.node.handle_book_saved(now, saving.revision());
            host.store = Some(saving);
        } else {
            host.node.handle_book_not_saved(now);
        }
        self.drain_actions();
    }

    fn hear_session(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let Some((connection, message)) = host.to_node.pop_front() else {
            return false;
        };
        let now = self.clock.tell(self.now, &mut host.node);
        host.node.handle_session_message(now, connection, message);
        true
    }

    fn hear_node(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let Some((connection, message)) = host.to_session.pop_front() else {
            return false;
        };
        if let Some(session) = host.sessions.get_mut(&connection) {
            let now = self.clock.tell(self.now, session);
            session.handle_node_message(now, message);
        }
        true
    }

    fn session_action(&mut self, side: Side, connection: SessionId, action: Action) {
        let link = self.link_of(side, connection);
        self.log.action(side, connection, &action);
        if self.links[link].is_down && !matches!(action, Action::Forward(_)) {
            return;
        }
        match action {
            Action::OpenSubstream { substream, protocols } => {
                self.log.substreams.entry((side, connection)).or_default().push(substream);
                let buffer = SubstreamBuffer::new(substream);
                self.links[link].offers.push_back(Offer { opener: side, buffer, protocols });
            }
            Action::WantWrite(id) => self.with(link, side, id, |pipe| {
                pipe.towards[1 - side].wants_write = true;
            }),
            Action::ResumeRead(id) => {
                let (now, clock) = (self.now, self.clock);
                let session = self.hosts[side].sessions.get_mut(&connection).unwrap();
                let pipes = &mut self.links[link].pipes;
                if let Some(buffer) = pipes.iter_mut().find_map(|pipe| pipe.buffer(side, id)) {
                    let now = clock.tell(now, session);
                    buffer.resume(session, now);
                }
            }
            Action::Finish(id) => self.with(link, side, id, |pipe| {
                pipe.buffers[side].as_mut().unwrap().finish();
                pipe.towards[1 - side].wants_write = true;
            }),
            Action::Reset { substream, .. } => {
                self.links[link]
                    .offers
                    .retain(|offer| offer.opener != side || offer.buffer.substream() != substream);
                self.with(link, side, substream, |pipe| pipe.reset(side));
            }
            Action::Forward(message) => self.hosts[side].to_node.push_back((connection, message)),
            Action::CloseConnection { .. } => self.hang_up(link, side),
            _ => {}
        }
    }

    pub(crate) fn link_of(&self, side: Side, connection: SessionId) -> usize {
        self.links.iter().position(|link| link.ends[side] == Some(connection)).unwrap()
    }

    fn with(&mut self, link: usize, side: Side, id: SubstreamId, change: impl FnOnce(&mut Pipe)) {
        let mut pipes = self.links[link].pipes.iter_mut();
        if let Some(pipe) = pipes.find_map(|pipe| pipe.buffer(side, id).is_some().then_some(pipe)) {
            change(pipe);
        }
    }

    // ---- substreams ---------------------------------------------------------------------------

    fn offer(&mut self, link: usize) -> bool {
        let Some(opener) = self.links[link].offers.front().map(|offer| offer.opener) else {
            return false;
        };
        let other = 1 - opener;
        if self.links[link].is_down {
            self.links[link].offers.clear();
            return true;
        }
        let Some(connection) = self.links[link].ends[other] else {
            return false;
        };
        let offer = self.links[link].offers.pop_front().unwrap();
        let session = self.hosts[other].sessions.get_mut(&connection).unwrap();
        let agreed = match self.naming {
            Naming::Negotiated => {
                let known = session.protocols();
                offer.protocols.iter().find(|id| known.contains(id)).cloned().map(Some)
            }
            _ => Some(None),
        };
        let Some(agreed) = agreed else {
            self.links[link].refusals.push_back((opener, offer.buffer.substream()));
            return true;
        };
        let now = self.clock.tell(self.now, session);
        let theirs = session.handle_accepted(now, agreed.clone());
        self.log.substreams.entry((other, connection)).or_default().push(theirs);
        let mut buffers = [Some(offer.buffer), Some(SubstreamBuffer::new(theirs))];
        if opener == B {
            buffers.swap(0, 1);
        }
        self.links[link].pipes.push(Pipe {
            buffers,
            towards: <[Half; 2]>::default(),
            log: <[Vec<u8>; 2]>::default(),
            answer: Some((opener, agreed)),
        });
        true
    }

    /// Somebody who is no session opens a substream towards a side.
    pub(crate) fn intrude(&mut self, link: usize, side: Side, protocol: Option<ProtocolId>) {
        let Some(connection) = self.links[link].ends[side] else {
            return;
        };
        if self.links[link].is_down {
            return;
        }
        let session = self.hosts[side].sessions.get_mut(&connection).unwrap();
        let now = self.clock.tell(self.now, session);
        let id = session.handle_accepted(now, protocol);
        self.log.substreams.entry((side, connection)).or_default().push(id);
        let mut buffers = [None, None];
        buffers[side] = Some(SubstreamBuffer::new(id));
        let (towards, log) = (<[Half; 2]>::default(), <[Vec<u8>; 2]>::default());
        self.links[link].pipes.push(Pipe { buffers, towards, log, answer: None });
        self.drain_actions();
    }

    fn refuse(&mut self, link: usize) -> bool {
        let Some((opener, id)) = self.links[link].refusals.pop_front() else {
            return false;
        };
        if let Some(session) = self.end(link, opener) {
            session.0.handle_open_failed(session.1, id, OpenError::Refused);
        }
        true
    }

    fn answer(&mut self, link: usize, pipe: usize) -> bool {
        let Some((opener, agreed)) = self.links[link].pipes[pipe].answer.take() else {
            return false;
        };
        let id = self.links[link].pipes[pipe].buffers[opener].as_ref().unwrap().substream();
        if let Some(session) = self.end(link, opener) {
            session.0.handle_opened(session.1, id, agreed);
        }
        true
    }

    /// Returns the session at one end of a link that is not down, and the time to tell it.
    pub(crate) fn end(
        &mut self,
        link: usize,
        side: Side,
    ) -> Option<(&mut Session, glueberry_proto::Instant)> {
        let link = self.links.get(link).filter(|link| !link.is_down)?;
        let session = self.hosts[side].sessions.get_mut(&link.ends[side]?)?;
        let now = self.clock.tell(self.now, session);
        Some((session, now))
    }
}
