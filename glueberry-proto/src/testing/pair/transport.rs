//! The links between two hosts, and the moves that they can make.

use std::collections::VecDeque;

use super::pipe::Pipe;
use super::{A, Application, B, Pair, Side};
use crate::{
    Action, Admission, ConnectionLost, DialError, Instant, Naming, NewConnection, NodeAction,
    OpenError, Origin, ProtocolId, Session, SessionId, SubstreamBuffer, SubstreamId,
};

/// A connection between the hosts: the session at each end, and the substreams.
#[derive(Debug)]
pub struct Link {
    /// The session of each side, once its node has accepted the connection.
    pub ends: [Option<SessionId>; 2],
    /// The substreams.
    pub pipes: Vec<Pipe>,
    /// True if nothing passes any more.
    pub is_down: bool,
    /// The connection as it will be reported to each side.
    arriving: [Option<Origin>; 2],
    /// The loss of the connection as it will be reported to each side.
    lost: [Option<ConnectionLost>; 2],
    /// Substreams on their way to the peer of their opener.
    offers: VecDeque<Offer>,
    /// Refusals on their way back.
    refusals: VecDeque<(Side, SubstreamId)>,
}

#[derive(Debug)]
struct Offer {
    opener: Side,
    buffer: SubstreamBuffer,
    protocols: Vec<ProtocolId>,
}

/// Something that the transport or an application can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tests choose among all moves")]
pub enum Move {
    /// A message of a session reaches its node.
    ToNode(Side),
    /// A message of a node reaches its session.
    ToSession(Side),
    /// A side gets the connection of a link.
    Arrive(usize, Side),
    /// A side learns that a link is down.
    Lose(usize, Side),
    /// The first substream that is being opened on a link reaches the peer.
    Offer(usize),
    /// The opener of a substream learns that it was refused.
    Refuse(usize),
    /// The opener of a substream learns which protocol was agreed.
    Answer(usize, usize),
    /// Bytes go from a session to a pipe.
    Write(usize, usize, Side),
    /// Bytes, or an end, go from a pipe to a session.
    Deliver(usize, usize, Side),
    /// A side learns that all it wrote has arrived.
    Acknowledge(usize, usize, Side),
    /// The application of a side takes events and messages.
    Application(Side),
}

impl<App: Application> Pair<App> {
    /// Returns all moves of the present links. Not each of them can be made.
    pub fn moves(&self) -> Vec<Move> {
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

    /// Makes a move. Returns false if it cannot be made now.
    pub fn perform(&mut self, each: Move) -> bool {
        let moved = match each {
            Move::ToNode(side) => self.pass_to_node(side),
            Move::ToSession(side) => self.pass_to_session(side),
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

    /// Adds a link as after a successful dial. Its connection arrives by [`Move::Arrive`].
    pub fn link_up(&mut self, dialler: Side, origin: Origin) {
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

    /// Takes a link down. Both ends learn it at once.
    pub fn cut(&mut self, link: usize) {
        self.take_down(link);
        for side in [A, B] {
            self.lose(link, side);
        }
        self.drain_actions();
    }

    /// Takes a link down. Each end learns it by [`Move::Lose`].
    pub fn take_down(&mut self, link: usize) {
        self.links[link].is_down = true;
        for side in [A, B] {
            self.links[link].lost[side] = Some(ConnectionLost::TimedOut);
        }
    }

    fn arrive(&mut self, link: usize, side: Side) -> bool {
        let Some(origin) = self.links[link].arriving[side].take() else {
            return false;
        };
        if self.links[link].is_down {
            return true;
        }
        let peer = self.key(1 - side);
        let connection = NewConnection { peer, origin, naming: self.naming };
        let node = &mut self.hosts[side].node;
        let now = self.clock.input_time(self.now, node);
        match node.handle_connection(now, connection) {
            Admission::Accept(session) => {
                let id = session.id();
                self.app.connected(side, id);
                self.links[link].ends[side] = Some(id);
                self.hosts[side].sessions.insert(id, *session);
            }
            _ => self.close(link, side),
        }
        true
    }

    /// A side closes a link. What was on its way is lost, and the other side learns it later. It
    /// learns at once, as by QUIC, what the side has read before.
    fn close(&mut self, link: usize, side: Side) {
        for pipe in 0..self.links[link].pipes.len() {
            self.acknowledge(link, pipe, 1 - side);
        }
        let link = &mut self.links[link];
        if !link.is_down {
            link.is_down = true;
            link.lost[1 - side] = Some(ConnectionLost::ClosedByPeer { code: 0 });
        }
    }

    fn lose(&mut self, link: usize, side: Side) -> bool {
        let link = &mut self.links[link];
        // A connection arrives before it is lost.
        if link.arriving[side].is_some() {
            return false;
        }
        let Some(why) = link.lost[side].take() else {
            return false;
        };
        if let Some(id) = link.ends[side]
            && let Some(session) = self.hosts[side].sessions.get_mut(&id)
        {
            let now = self.clock.input_time(self.now, session);
            session.handle_connection_lost(now, why);
        }
        true
    }

    // ---- actions ------------------------------------------------------------------------------

    /// Executes all actions of nodes and sessions. Returns true if there were any.
    pub fn drain_actions(&mut self) -> bool {
        let mut moved = false;
        for side in [A, B] {
            while let Some(action) = self.hosts[side].node.poll_action() {
                moved = true;
                self.app.node_action(side, &action);
                self.node_action(side, action);
            }
            let sessions: Vec<SessionId> = self.hosts[side].sessions.keys().copied().collect();
            for id in sessions {
                while let Some(action) = self.poll_action(side, id) {
                    moved = true;
                    self.app.session_action(side, id, &action);
                    self.session_action(side, id, action);
                }
            }
        }
        moved
    }

    /// Moves the messages of a session to its node before those of other sessions.
    pub fn prioritise_messages_of(&mut self, side: Side, session: SessionId) {
        self.drain_actions();
        self.hosts[side].to_node.make_contiguous().sort_by_key(|(from, _)| *from != session);
    }

    /// Ends the saving of a book that was asked for, if there is one.
    pub fn finish_saving(&mut self, side: Side, is_stored: bool) {
        let host = &mut self.hosts[side];
        let Some(saving) = host.saving.take() else {
            return;
        };
        let now = self.clock.input_time(self.now, &mut host.node);
        if is_stored {
            host.node.handle_book_saved(now, saving.revision());
            host.store = Some(saving);
        } else {
            host.node.handle_book_not_saved(now);
        }
        self.drain_actions();
    }

    fn poll_action(&mut self, side: Side, session: SessionId) -> Option<Action> {
        self.hosts[side].sessions.get_mut(&session)?.poll_action()
    }

    fn node_action(&mut self, side: Side, action: NodeAction) {
        let host = &mut self.hosts[side];
        match action {
            NodeAction::Dial { dial, .. } if host.is_unreachable => {
                let now = self.clock.input_time(self.now, &mut host.node);
                host.node.handle_dial_failed(now, dial, DialError::NoUsableAddress);
            }
            NodeAction::Dial { dial, .. } => self.link_up(side, Origin::Dialled(dial)),
            NodeAction::Forward { session, message } => {
                host.to_session.push_back((session, message));
            }
            NodeAction::SaveBook => {
                assert!(host.saving.is_none(), "one save at a time");
                host.saving = Some(host.node.book().clone());
            }
            // Too late: a dial succeeds as soon as it is asked for. The node closes the connection.
            NodeAction::CancelDial(_) => {}
        }
    }

    fn pass_to_node(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let Some((session, message)) = host.to_node.pop_front() else {
            return false;
        };
        let now = self.clock.input_time(self.now, &mut host.node);
        host.node.handle_session_message(now, session, message);
        true
    }

    fn pass_to_session(&mut self, side: Side) -> bool {
        let host = &mut self.hosts[side];
        let Some((session, message)) = host.to_session.pop_front() else {
            return false;
        };
        if let Some(session) = host.sessions.get_mut(&session) {
            let now = self.clock.input_time(self.now, session);
            session.handle_node_message(now, message);
        }
        true
    }

    fn session_action(&mut self, side: Side, session: SessionId, action: Action) {
        let link = self.link_of(side, session);
        // A message for the node does not go over the link.
        if self.links[link].is_down && !matches!(action, Action::Forward(_)) {
            return;
        }
        match action {
            Action::OpenSubstream { substream, protocols } => {
                self.app.substream(side, session, substream);
                let buffer = SubstreamBuffer::new(substream);
                self.links[link].offers.push_back(Offer { opener: side, buffer, protocols });
            }
            Action::WantWrite(id) => {
                if let Some(pipe) = self.pipe_of(link, side, id) {
                    pipe.towards[1 - side].wants_write = true;
                }
            }
            Action::ResumeRead(id) => {
                let (now, clock) = (self.now, self.clock);
                let pipes = &mut self.links[link].pipes;
                if let Some(session) = self.hosts[side].sessions.get_mut(&session)
                    && let Some(buffer) = pipes.iter_mut().find_map(|pipe| pipe.buffer(side, id))
                {
                    let now = clock.input_time(now, session);
                    buffer.resume(session, now);
                }
            }
            Action::Finish(id) => {
                if let Some(pipe) = self.pipe_of(link, side, id) {
                    pipe.finish(side);
                }
            }
            Action::Reset { substream, .. } => {
                self.links[link]
                    .offers
                    .retain(|offer| offer.opener != side || offer.buffer.substream() != substream);
                if let Some(pipe) = self.pipe_of(link, side, substream) {
                    pipe.reset(side);
                }
            }
            Action::Forward(message) => self.hosts[side].to_node.push_back((session, message)),
            Action::CloseConnection { .. } => self.close(link, side),
        }
    }

    /// Returns the link of a session.
    ///
    /// # Panics
    ///
    /// Panics if the side has no such session.
    pub fn link_of(&self, side: Side, session: SessionId) -> usize {
        let is_its = |link: &Link| link.ends[side] == Some(session);
        self.links.iter().position(is_its).expect("each session has a link")
    }

    fn pipe_of(&mut self, link: usize, side: Side, id: SubstreamId) -> Option<&mut Pipe> {
        self.links[link].pipes.iter_mut().find(|pipe| pipe.is_substream(side, id))
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
        let Some(id) = self.links[link].ends[other] else {
            return false;
        };
        let Some(session) = self.hosts[other].sessions.get_mut(&id) else {
            return false;
        };
        let Some(offer) = self.links[link].offers.pop_front() else {
            return false;
        };
        let agreed = match self.naming {
            Naming::Negotiated => {
                let known = session.protocols();
                let agreed = offer.protocols.into_iter().find(|id| known.contains(id));
                if agreed.is_none() {
                    let refusal = (opener, offer.buffer.substream());
                    self.links[link].refusals.push_back(refusal);
                    return true;
                }
                agreed
            }
            // The sessions agree by preamble.
            Naming::Preamble => None,
        };
        let now = self.clock.input_time(self.now, session);
        let accepted = session.handle_accepted(now, agreed.clone());
        self.app.substream(other, id, accepted);
        let mut buffers = [Some(offer.buffer), Some(SubstreamBuffer::new(accepted))];
        if opener == B {
            buffers.swap(0, 1);
        }
        self.links[link].pipes.push(Pipe::new(buffers, Some((opener, agreed))));
        true
    }

    /// Opens a substream towards a side, as a peer with no session would.
    pub fn intrude(&mut self, link: usize, side: Side, protocol: Option<ProtocolId>) {
        let Some(id) = self.links[link].ends[side] else {
            return;
        };
        if let Some((session, now)) = self.end(link, side) {
            let substream = session.handle_accepted(now, protocol);
            self.app.substream(side, id, substream);
            let mut buffers = [None, None];
            buffers[side] = Some(SubstreamBuffer::new(substream));
            self.links[link].pipes.push(Pipe::new(buffers, None));
            self.drain_actions();
        }
    }

    fn refuse(&mut self, link: usize) -> bool {
        let Some((opener, id)) = self.links[link].refusals.pop_front() else {
            return false;
        };
        if let Some((session, now)) = self.end(link, opener) {
            session.handle_open_failed(now, id, OpenError::Refused);
        }
        true
    }

    fn answer(&mut self, link: usize, pipe: usize) -> bool {
        let Some((opener, id, agreed)) = self.links[link].pipes[pipe].take_answer() else {
            return false;
        };
        if let Some((session, now)) = self.end(link, opener) {
            session.handle_opened(now, id, agreed);
        }
        true
    }

    /// Returns the session at one end of a link that is up, and the time for its next input.
    fn end(&mut self, link: usize, side: Side) -> Option<(&mut Session, Instant)> {
        let link = self.links.get(link).filter(|link| !link.is_down)?;
        let session = self.hosts[side].sessions.get_mut(&link.ends[side]?)?;
        let now = self.clock.input_time(self.now, session);
        Some((session, now))
    }
}
