//! One node with several sessions of several peers, driven by a script of commands, of what peers
//! do and of messages between node and sessions that overtake each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::script::Script;
use crate::address::Address;
use crate::config::Config;
use crate::config::ReconnectPolicy;
use crate::crypto::{Identity, PublicKey};
use crate::error::DialError;
use crate::id::{DialId, SessionId, SubstreamId};
use crate::message::{ToNode, ToSession};
use crate::node::{Admission, ConnectionState, NewConnection, Node, NodeAction, Origin};
use crate::seed::Seed;
use crate::session::{Action, Naming, OpenError, Session, SubstreamEnd};
use crate::time::Instant;
use crate::wall::WallTime;
use crate::wire::{Profile, StreamName};

/// Runs a script against a node with eight peers and small limits.
///
/// Messages between the node and one session keep their order; between different sessions they may
/// overtake each other, as they do where each session is in a task of its own. Nothing may panic.
/// Timers must lie ahead. No limit may be exceeded, and no state be reached that the node itself
/// takes for impossible. After a shutdown nothing may be left.
pub fn fuzz_node(data: &[u8]) {
    let mut script = Script::new(data);
    let mut play = Play::new(script.byte());
    while let Some(step) = script.next() {
        play.step(step, &mut script);
        play.check();
    }
    play.end();
}

struct Play {
    node: Node,
    now: Instant,
    peers: Vec<PublicKey>,
    sessions: BTreeMap<SessionId, Live>,
    /// Dials that the node waits for.
    dials: BTreeMap<DialId, PublicKey>,
    unsaved: usize,
    streams: Vec<StreamName>,
}

/// A session, and what is under way between it and the node.
struct Live {
    session: Session,
    to_node: VecDeque<ToNode>,
    to_session: VecDeque<ToSession>,
    /// Substreams that it wants to open.
    opening: VecDeque<SubstreamId>,
    handshake: Option<SubstreamId>,
}

impl Play {
    fn new(flags: u8) -> Self {
        let mut config = Config::default();
        let streams: Vec<StreamName> = StreamName::new("s").into_iter().collect();
        config.streams.clone_from(&streams);
        config.max_peers = 6;
        config.max_bans = 3;
        (config.sessions_low, config.sessions_high) = (2, 4);
        (config.max_sessions, config.reserved_sessions) = (6, 2);
        config.max_pending_sessions = 2;
        config.max_dials = 1 + usize::from(flags & 1);
        config.event_queue = 64;
        config.profiles = match flags & 6 {
            0 => vec![Profile::V1],
            2 => vec![Profile::V1Go],
            _ => vec![Profile::V1, Profile::V1Go],
        };
        config.reconnect = ReconnectPolicy { max_attempts: Some(3), ..ReconnectPolicy::default() };
        // The node's own key is above some of its peers' and below others.
        let identity = Identity::from_seed(&[flags >> 3; 32]);
        let peers = (32..40).map(|seed| Identity::from_seed(&[seed; 32]).public_key()).collect();
        let node = Node::new(Instant::ZERO, identity, config, Seed::from_bytes([9; 32]));
        Self {
            node: node.expect("a valid configuration"),
            now: Instant::ZERO,
            peers,
            sessions: BTreeMap::new(),
            dials: BTreeMap::new(),
            unsaved: 0,
            streams,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step & 0x1f {
            what @ 0..=12 => self.command(what, step >> 5, script),
            what @ 13..=17 => self.network(what, step >> 5, script),
            what => self.session(what, script),
        }
        self.take_actions();
    }

    // ---- what an application does -------------------------------------------------------------

    /// Gives a command about one of the peers; `choice` has three bits.
    fn command(&mut self, what: u8, choice: u8, script: &mut Script<'_>) {
        let (now, peer) = (self.now, self.peer(choice));
        // Each may be refused for a reason of its own.
        match what {
            0 | 1 => drop(self.node.add_peer(now, peer, &[Address::new("memory")])),
            2 => drop(self.node.remove_peer(now, peer)),
            3 | 4 => drop(self.node.connect(now, peer)),
            5 => _ = self.node.disconnect(now, peer),
            6 => {
                let until = WallTime::from_unix(i64::from(script.byte()), 0);
                _ = self.node.blacklist(now, peer, until.filter(|_| choice & 1 != 0));
            }
            7 => _ = self.node.unblacklist(now, peer),
            8 => drop(self.node.protect(now, peer, script.byte() & 1 != 0)),
            9 => self.node.autoconnect(now),
            10 => _ = self.node.cancel_reconnection(now, peer),
            11 => {
                if let Some(wall) = WallTime::from_unix(i64::from(script.byte()), 0) {
                    self.node.set_wall_time(now, wall);
                }
            }
            _ => self.answer_save(choice),
        }
    }

    fn answer_save(&mut self, choice: u8) {
        if self.unsaved == 0 {
            return;
        }
        self.unsaved -= 1;
        match choice & 1 {
            0 => self.node.handle_book_not_saved(self.now),
            _ => {
                let revision = self.node.book().revision();
                self.node.handle_book_saved(self.now, revision);
            }
        }
    }

    // ---- what the network does ----------------------------------------------------------------

    fn network(&mut self, what: u8, choice: u8, script: &mut Script<'_>) {
        match what {
            13 => self.connection(self.peer(choice), Origin::Accepted),
            14 => {
                if let Some((dial, peer)) = self.dial(script) {
                    self.connection(peer, Origin::Dialled(dial));
                }
            }
            15 => {
                if let Some((dial, _)) = self.dial(script) {
                    let error = match choice & 1 {
                        0 => DialError::NoUsableAddress,
                        _ => DialError::TimedOut,
                    };
                    self.node.handle_dial_failed(self.now, dial, error);
                }
            }
            16 => {
                let micros = u64::from(script.byte()) << (2 * u32::from(choice));
                self.wait(Duration::from_micros(micros));
            }
            // As long as a timer of the node takes.
            _ => {
                if let Some(at) = self.node.poll_timeout() {
                    self.wait(at.duration_since(self.now));
                }
            }
        }
    }

    fn connection(&mut self, peer: PublicKey, origin: Origin) {
        let naming = Naming::Negotiated;
        let connection = NewConnection { peer, origin, naming };
        if let Admission::Accept(session) = self.node.handle_connection(self.now, connection) {
            let live = Live {
                session: *session,
                to_node: VecDeque::new(),
                to_session: VecDeque::new(),
                opening: VecDeque::new(),
                handshake: None,
            };
            self.sessions.insert(live.session.id(), live);
        }
    }

    /// Takes one of the dials that are under way.
    fn dial(&mut self, script: &mut Script<'_>) -> Option<(DialId, PublicKey)> {
        let at = script.number() % self.dials.len().max(1);
        let dial = *self.dials.keys().nth(at)?;
        let peer = self.dials.remove(&dial)?;
        Some((dial, peer))
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        self.node.handle_timeout(self.now);
        for live in self.sessions.values_mut() {
            live.session.handle_timeout(self.now);
        }
    }

    // ---- what happens on one of the sessions --------------------------------------------------

    fn session(&mut self, what: u8, script: &mut Script<'_>) {
        let (now, at) = (self.now, script.number() % self.sessions.len().max(1));
        let Some((id, live)) = self.sessions.iter_mut().nth(at) else {
            return;
        };
        let id = *id;
        match what {
            // One message of a queue, or all of it.
            18 | 19 => {
                if let Some(message) = live.to_node.pop_front() {
                    self.node.handle_session_message(now, id, message);
                }
            }
            20 | 21 => {
                if let Some(message) = live.to_session.pop_front() {
                    live.session.handle_node_message(now, message);
                }
            }
            22 => {
                for message in std::mem::take(&mut live.to_node) {
                    self.node.handle_session_message(now, id, message);
                }
            }
            23 => {
                for message in std::mem::take(&mut live.to_session) {
                    live.session.handle_node_message(now, message);
                }
            }
            24 | 25 => live.agree(now),
            26 => live.end_handshake(now, script.byte()),
            27 => drop(live.session.send_handshake(now, "hello".into())),
            28 => {
                let peer = live.session.peer();
                drop(live.session.prepare_streams(now, peer, &self.streams));
            }
            29 => drop(live.session.finalize_handshake(now)),
            30 => live.session.handle_connection_lost(now, crate::error::ConnectionLost::TimedOut),
            _ => {
                // Its task is gone, and with it what was under way to it.
                if let Some(live) = self.sessions.remove(&id) {
                    for message in live.to_node {
                        self.node.handle_session_message(now, id, message);
                    }
                    self.node.handle_session_gone(now, id);
                }
            }
        }
    }

    fn take_actions(&mut self) {
        for live in self.sessions.values_mut() {
            live.take_actions();
        }
        while let Some(action) = self.node.poll_action() {
            match action {
                NodeAction::Dial { dial, peer, .. } => drop(self.dials.insert(dial, peer)),
                NodeAction::CancelDial(dial) => drop(self.dials.remove(&dial)),
                NodeAction::Forward { session, message } => {
                    if let Some(live) = self.sessions.get_mut(&session) {
                        live.to_session.push_back(message);
                    }
                }
                NodeAction::SaveBook => self.unsaved += 1,
            }
        }
        while self.node.poll_event().is_some() {}
    }

    // ---- what must hold -----------------------------------------------------------------------

    fn check(&self) {
        let config = self.node.config();
        assert_eq!(self.node.internal_errors(), 0, "the node is in an impossible state");
        assert!(
            self.node.poll_timeout().is_none_or(|at| at > self.now),
            "a timer does not lie ahead"
        );
        assert!(self.dials.len() <= config.max_dials, "too many dials");
        assert!(self.unsaved <= 1, "the book is to be stored twice at once");
        let bans = self.node.book().iter().filter(|(_, entry)| entry.ban().is_some()).count();
        assert!(bans <= config.max_bans + config.max_peers, "too many bans");
        for peer in &self.peers {
            let is_live = |id: SessionId| self.sessions.contains_key(&id);
            let session = self.node.session_of(*peer);
            assert!(session.is_none_or(is_live), "a current session that is gone");
            let has_session = matches!(
                self.node.state(*peer),
                ConnectionState::Connected | ConnectionState::Established
            );
            assert_eq!(has_session, session.is_some(), "state and session disagree");
        }
    }

    /// Everything comes to an end after a shutdown.
    fn end(&mut self) {
        self.node.shutdown(self.now);
        for _ in 0..8 {
            self.take_actions();
            for (id, live) in &mut self.sessions {
                for message in std::mem::take(&mut live.to_session) {
                    live.session.handle_node_message(self.now, message);
                }
                live.take_actions();
                for message in std::mem::take(&mut live.to_node) {
                    self.node.handle_session_message(self.now, *id, message);
                }
            }
            self.wait(Duration::from_secs(30));
            for live in self.sessions.values() {
                assert!(live.session.poll_timeout().is_none_or(|at| at > self.now));
            }
        }
        assert!(self.node.is_idle(), "something is left after a shutdown");
        assert!(self.node.poll_timeout().is_none(), "a timer is left after a shutdown");
        assert_eq!(self.node.internal_errors(), 0, "the node is in an impossible state");
    }

    fn peer(&self, choice: u8) -> PublicKey {
        self.peers[usize::from(choice) % self.peers.len()]
    }
}

impl Live {
    /// The peer opens a handshake substream, or agrees to ours.
    fn agree(&mut self, now: Instant) {
        let profiles = &self.session.protocols();
        let is_handshake = |profile: &Profile| profiles.contains(&profile.handshake_id());
        let Some(profile) = Profile::ALL.into_iter().find(is_handshake) else {
            return;
        };
        let protocol = Some(profile.handshake_id());
        if let Some(id) = self.opening.pop_front() {
            self.session.handle_opened(now, id, protocol);
            self.handshake = Some(id);
        } else {
            self.handshake = Some(self.session.handle_accepted(now, protocol));
        }
    }

    fn end_handshake(&mut self, now: Instant, how: u8) {
        if let Some(id) = self.opening.pop_front() {
            let error = if how & 4 == 0 { OpenError::Refused } else { OpenError::Failed };
            return self.session.handle_open_failed(now, id, error);
        }
        if let Some(id) = self.handshake.take() {
            let end = match how & 3 {
                0 => SubstreamEnd::Finished,
                1 => SubstreamEnd::Reset,
                2 => SubstreamEnd::Stopped,
                _ => SubstreamEnd::Aborted,
            };
            self.session.handle_substream_end(now, id, end, &[]);
        }
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Forward(message) => self.to_node.push_back(message),
                Action::OpenSubstream { substream, .. } => self.opening.push_back(substream),
                Action::Reset { substream, .. } => {
                    self.opening.retain(|opening| *opening != substream);
                    self.handshake = self.handshake.filter(|id| *id != substream);
                }
                _ => {}
            }
        }
        while self.session.poll_event().is_some() {}
    }
}
