//! One session of a peer takes over from another, while words between the node and its sessions are on
//! their way: what may begin then, and what must.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use glueberry_proto::{
    Action, Address, Admission, Config, ConnectionState, Instant, Node, NodeAction, NodeTimer,
    OpenError, Origin, PeerTimer, Profile, ProtocolId, PublicKey, Session, SessionId, SubstreamEnd,
    SubstreamId, ToNode, ToSession,
};
use proptest::prelude::*;

use crate::support::{A, B, Checked, Side, arrive, key, name, names, node};

/// The application prepares streams on a session that was asked to yield because a Go node has given up
/// its handshake substream: the one that takes over does so all the same.
#[test]
fn streams_that_are_prepared_meanwhile_do_not_end_the_session_that_takes_over() {
    for side in [A, B] {
        let mut desk = Desk::new(side, Profile::V1Go);
        let (first, second) = (desk.accept(), desk.accept());
        let substream = desk.agree(first);
        desk.run();
        desk.agree(second);
        desk.run();
        desk.reset(first, substream);
        desk.hear_all();
        // The request is on its way.
        desk.prepare(first);
        desk.hear_all();
        desk.run();
        assert_eq!(desk.current(), Some(second), "side {side}");
        assert!(desk.sessions[&second].streams().any(|stream| *stream == name("chat")));
    }
}

/// The peer gives up its handshake substream once more meanwhile: that decides nothing anew.
#[test]
fn what_is_lost_again_meanwhile_does_not_end_the_session_that_takes_over() {
    let mut desk = Desk::new(B, Profile::V1Go);
    let (first, second) = (desk.accept(), desk.dial());
    let substream = desk.agree(first);
    desk.agree(second);
    desk.reset(first, substream);
    let again = desk.agree(first);
    desk.hear();
    desk.tell();
    desk.prepare(first);
    desk.reset(first, again);
    desk.run();
    assert_eq!(desk.current(), Some(second));
}

/// What was prepared on a session that has yielded says nothing of the one that has taken over, before
/// that has prepared it, too: it gives way if it has no handshake substream.
#[test]
fn a_session_that_has_taken_over_gives_way_until_it_has_prepared_itself() {
    for (side, profile) in
        [(A, Profile::V1), (B, Profile::V1), (A, Profile::V1Go), (B, Profile::V1Go)]
    {
        let mut desk = Desk::new(side, profile);
        let [first, second, third] = [(); 3].map(|()| desk.accept());
        let substream = desk.agree(first);
        desk.run();
        let other = desk.agree(second);
        desk.run();
        desk.reset(first, substream);
        desk.hear_all();
        desk.prepare(first);
        desk.reset(second, other);
        desk.hear_all();
        desk.tell_all();
        desk.hear_all();
        assert_eq!(desk.current(), Some(second), "side {side}, {profile}");
        // That it has taken over is on its way.
        desk.agree(third);
        desk.hear_all();
        desk.run();
        assert_eq!(desk.current(), Some(third), "side {side}, {profile}");
        let events = std::iter::from_fn(|| desk.node.poll_event());
        assert!(events.into_iter().all(|event| event.state != ConnectionState::Disconnected));
        assert_eq!(desk.node.internal_errors(), 0);
    }
}

/// A Go node has given up the handshake substream of a session, and opens another there later: that is no
/// reason to give up the session that it has kept in between.
#[test]
fn a_session_that_has_yielded_does_not_take_over_from_its_successor() {
    let mut desk = Desk::new(B, Profile::V1Go);
    let (theirs, own) = (desk.accept(), desk.dial());
    let substream = desk.agree(theirs);
    desk.run();
    desk.agree(own);
    desk.run();
    desk.reset(theirs, substream);
    desk.run();
    assert_eq!(desk.current(), Some(own));
    desk.agree(theirs);
    desk.run();
    desk.answer(own);
    desk.run();
    assert_eq!(desk.current(), Some(own));
    assert!(desk.sessions[&own].is_granted());
}

/// What happens to the sessions of a peer, or what is on its way.
#[derive(Clone, Copy, Debug)]
enum Step {
    Dial,
    Accept,
    /// The peer opens a handshake substream on a session.
    Agree(usize),
    /// It resets the last of a session.
    Reset(usize),
    Prepare,
    Finalize,
    /// It refuses the first probe.
    Answer,
    /// The next word to the node arrives.
    Hear,
    /// The next word to a session arrives.
    Tell,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Dial),
        2 => Just(Step::Accept),
        6 => (0..4_usize).prop_map(Step::Agree),
        4 => (0..4_usize).prop_map(Step::Reset),
        3 => Just(Step::Prepare),
        1 => Just(Step::Finalize),
        3 => Just(Step::Answer),
        12 => Just(Step::Hear),
        8 => Just(Step::Tell),
        1 => (1..3000_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// In whatever order words arrive, a session is asked to yield only when it may be, and always when
    /// it must.
    #[test]
    fn who_takes_over_is_decided_once_and_by_the_rules(
        steps in prop::collection::vec(step(), 0..80), side in 0..2_usize, is_go: bool,
    ) {
        let profile = if is_go { Profile::V1Go } else { Profile::V1 };
        let mut desk = Desk::new(side, profile);
        for step in steps {
            desk.take(step);
            desk.look();
            desk.rules.check()?;
        }
        desk.run();
        desk.rules.check()?;
        prop_assert_eq!(desk.node.internal_errors(), 0);
    }
}

/// What the rules know of the sessions of the peer, by the words that have arrived at the node and those
/// that it has said.
#[derive(Debug, Default)]
struct Rules {
    /// A handshake substream was agreed, and the session has not ended.
    agreed: BTreeSet<SessionId>,
    /// They have no handshake substream any more.
    lost: BTreeSet<SessionId>,
    /// They have prepared streams since they were chosen.
    prepared: BTreeSet<SessionId>,
    /// They were asked to yield, and have not answered; and whether they had lost their handshake
    /// substream then.
    asked: BTreeMap<SessionId, bool>,
    /// They have yielded, and were not chosen since.
    yielded: BTreeSet<SessionId>,
    /// They speak for the peer, and were asked whether it lives.
    probed: BTreeSet<SessionId>,
    /// They were asked to end.
    ending: BTreeSet<SessionId>,
    /// A session was agreed or lost its handshake substream, which may show another as the better one.
    is_news: bool,
    broken: Option<String>,
}

impl Rules {
    fn check(&self) -> Checked {
        prop_assert!(self.broken.is_none(), "{}", self.broken.as_deref().unwrap_or_default());
        Ok(())
    }

    fn hold(&mut self, holds: bool, rule: &str, id: SessionId) {
        if !holds {
            self.broken.get_or_insert_with(|| format!("{rule}: {id}"));
        }
    }

    /// A word of a session has arrived at the node, whose current session was `before` and is now
    /// `current`.
    fn heard(&mut self, id: SessionId, word: &str, [before, current]: [Option<SessionId>; 2]) {
        match word {
            word if word.starts_with("Agreed") => drop(self.agreed.insert(id)),
            "HandshakeLost(true)" => drop(self.lost.insert(id)),
            "HandshakeLost(false)" => drop(self.lost.remove(&id)),
            "Alive" => drop(self.probed.remove(&id)),
            "Prepared" => drop(self.prepared.insert(id)),
            word if word.starts_with("Established") => drop(self.asked.remove(&id)),
            word if word.starts_with("Yielded") => {
                let was_lost = self.asked.remove(&id) == Some(true);
                self.prepared.remove(&id);
                self.probed.remove(&id);
                if let Some(next) = current.filter(|next| before == Some(id) && *next != id) {
                    let had_to = was_lost || !self.yielded.contains(&next);
                    self.hold(had_to, "one that has yielded takes over from its successor", next);
                    self.yielded.insert(id);
                }
            }
            word if word.starts_with("Closed") => {
                self.asked.remove(&id);
                for set in [&mut self.agreed, &mut self.lost, &mut self.prepared] {
                    set.remove(&id);
                }
            }
            _ => {}
        }
        if !word.starts_with("Yielded") {
            self.chosen(before, current);
        }
    }

    /// Another session of several has become current: not one without a handshake substream, if others
    /// have theirs.
    fn chosen(&mut self, before: Option<SessionId>, current: Option<SessionId>) {
        let Some(current) = current.filter(|current| before != Some(*current)) else {
            return;
        };
        let is_better = |other: &SessionId| {
            *other != current && !self.lost.contains(other) && !self.ending.contains(other)
        };
        let holds = !self.lost.contains(&current) || !self.agreed.iter().any(is_better);
        self.hold(holds, "is chosen without a handshake substream", current);
    }

    /// The node waits for one that the peer is about to open: in behalf of one that is agreed.
    fn held(&mut self, current: Option<SessionId>) {
        let mut waiting = self.agreed.iter().filter(|id| !self.ending.contains(*id));
        if !waiting.any(|id| Some(*id) != current) {
            self.broken.get_or_insert_with(|| "none waits for one that is about to come".into());
        }
    }

    /// The node has taken a word of a session, and said what it has to say: of a current session that
    /// has no handshake substream and no streams, one that has its own takes over.
    fn settled(&mut self, id: SessionId, word: &str, current: Option<SessionId>) {
        let Some(current) = current else {
            return;
        };
        let is_new = word.starts_with("Agreed") && id != current;
        let is_lost = word == "HandshakeLost(true)" && id == current;
        let is_free = |other: &&SessionId| {
            **other != current && !self.lost.contains(*other) && !self.ending.contains(*other)
        };
        let has_other = self.agreed.iter().any(|other| is_free(&other));
        if (is_new || is_lost)
            && has_other
            && self.lost.contains(&current)
            && !self.prepared.contains(&current)
            && !self.ending.contains(&current)
        {
            let is_asked = self.asked.contains_key(&current);
            self.hold(is_asked, "one without a handshake substream does not give way", current);
        }
    }

    /// The node says something to a session.
    fn told(&mut self, id: SessionId, word: &str, current: Option<SessionId>) {
        match word {
            "Probe" if current == Some(id) && !self.ending.contains(&id) => {
                let is_first = self.probed.insert(id);
                self.hold(is_first, "is asked twice whether its peer lives", id);
            }
            "Yield" => {
                let is_lost = self.lost.contains(&id);
                let is_first = self.asked.insert(id, is_lost).is_none();
                self.hold(is_first || self.is_news, "is asked to yield twice", id);
                let is_prepared = self.prepared.contains(&id);
                self.hold(!is_prepared, "is asked to yield with its streams", id);
            }
            word if word.starts_with("Grant") => drop(self.yielded.remove(&id)),
            word if word.starts_with("Close") => {
                let takes_over = self.asked.keys().any(|asked| !self.ending.contains(asked));
                let others = self.agreed.iter().filter(|other| {
                    !self.asked.contains_key(*other) && !self.ending.contains(*other)
                });
                // Of two the one that is asked to yield does so to the other.
                let is_only = takes_over && others.eq([&id]) && word.contains("Superseded");
                self.hold(!is_only, "ends, though another is to yield to it", id);
                self.ending.insert(id);
            }
            _ => {}
        }
    }
}

/// One node and the sessions of one peer; what they say to each other arrives when the test says so.
struct Desk {
    node: Node,
    peer: PublicKey,
    profile: Profile,
    now: Instant,
    sessions: BTreeMap<SessionId, Session>,
    /// The last handshake substream that the peer has opened on each.
    substreams: BTreeMap<SessionId, SubstreamId>,
    /// What the peer has not answered.
    probes: VecDeque<(SessionId, SubstreamId)>,
    to_node: VecDeque<(SessionId, ToNode)>,
    to_sessions: VecDeque<(SessionId, ToSession)>,
    rules: Rules,
}

impl Desk {
    fn new(side: Side, profile: Profile) -> Self {
        let change = |config: &mut Config| config.profiles = vec![profile];
        let (mut node, peer, now) = (node(side, change), key(1 - side), Instant::ZERO);
        node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
        Self {
            node,
            peer,
            profile,
            now,
            sessions: BTreeMap::new(),
            substreams: BTreeMap::new(),
            probes: VecDeque::new(),
            to_node: VecDeque::new(),
            to_sessions: VecDeque::new(),
            rules: Rules::default(),
        }
    }

    fn current(&self) -> Option<SessionId> {
        self.node.session_of(self.peer)
    }

    fn take(&mut self, step: Step) {
        let nth = |desk: &Self, at: usize| desk.sessions.keys().nth(at).copied();
        match step {
            Step::Dial => drop(self.try_dial()),
            Step::Accept => drop(self.connection(Origin::Accepted)),
            Step::Agree(at) => {
                if let Some(id) = nth(self, at) {
                    self.agree(id);
                }
            }
            Step::Reset(at) => {
                let id = nth(self, at);
                if let Some((id, substream)) = id.and_then(|id| self.substreams.remove_entry(&id)) {
                    self.reset(id, substream);
                }
            }
            Step::Prepare | Step::Finalize => {
                let Some(session) = self.current().and_then(|id| self.sessions.get_mut(&id)) else {
                    return;
                };
                // What is not allowed now is refused.
                match step {
                    Step::Prepare => {
                        let streams = names(&["chat"]);
                        drop(session.prepare_streams(self.now, self.peer, &streams));
                    }
                    _ => drop(session.finalize_handshake(self.now)),
                }
                self.collect();
            }
            Step::Answer => {
                if let Some((id, probe)) = self.probes.pop_front() {
                    self.refuse(id, probe);
                }
            }
            Step::Hear => drop(self.hear()),
            Step::Tell => drop(self.tell()),
            Step::Pass(millis) => {
                self.now = self.now + Duration::from_millis(millis);
                self.node.handle_timeout(self.now);
                for session in self.sessions.values_mut() {
                    session.handle_timeout(self.now);
                }
                self.collect();
            }
        }
    }

    /// Looks at what the node waits for.
    fn look(&mut self) {
        let timer = self.node.next_timer().map(|(_, timer)| timer);
        if matches!(timer, Some(NodeTimer::Peer { timer: PeerTimer::Hold, .. })) {
            self.rules.held(self.current());
        }
    }

    // ---- the peer -----------------------------------------------------------------------------

    fn accept(&mut self) -> SessionId {
        self.connection(Origin::Accepted).expect("the connection is wanted")
    }

    fn dial(&mut self) -> SessionId {
        self.try_dial().expect("the peer may be dialled")
    }

    fn try_dial(&mut self) -> Option<SessionId> {
        self.node.connect(self.now, self.peer).ok()?;
        let mut dialled = None;
        while let Some(action) = self.node.poll_action() {
            match action {
                NodeAction::Dial { dial, .. } => dialled = Some(dial),
                other => self.note(other),
            }
        }
        self.connection(Origin::Dialled(dialled?))
    }

    fn connection(&mut self, origin: Origin) -> Option<SessionId> {
        let admission = arrive(&mut self.node, self.now, self.peer, origin);
        self.collect();
        let Admission::Accept(session) = admission else {
            return None;
        };
        let id = session.id();
        self.sessions.insert(id, *session);
        self.collect();
        Some(id)
    }

    fn agree(&mut self, id: SessionId) -> SubstreamId {
        let session = self.sessions.get_mut(&id).unwrap();
        let protocol = self.profile.handshake_id();
        let is_wanted = session.protocols().contains(&protocol);
        let substream = session.handle_accepted(self.now, is_wanted.then_some(protocol));
        self.substreams.insert(id, substream);
        self.collect();
        substream
    }

    fn reset(&mut self, id: SessionId, substream: SubstreamId) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.handle_substream_end(self.now, substream, SubstreamEnd::Aborted, &[]);
        self.collect();
    }

    /// The peer refuses the probe of a session, which must have one.
    fn answer(&mut self, id: SessionId) {
        let at = self.probes.iter().position(|(of, _)| *of == id);
        let (_, probe) = self.probes.remove(at.expect("the peer is asked")).unwrap();
        self.refuse(id, probe);
    }

    fn refuse(&mut self, id: SessionId, probe: SubstreamId) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.handle_open_failed(self.now, probe, OpenError::Refused);
        self.collect();
    }

    fn prepare(&mut self, id: SessionId) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.prepare_streams(self.now, self.peer, &names(&["chat"])).unwrap();
        self.collect();
    }

    // ---- words --------------------------------------------------------------------------------

    fn run(&mut self) {
        while self.hear() || self.tell() {}
    }

    fn hear_all(&mut self) {
        while self.hear() {}
    }

    /// All arrives that the node has said until now.
    fn tell_all(&mut self) {
        for _ in 0..self.to_sessions.len() {
            self.tell();
        }
    }

    fn hear(&mut self) -> bool {
        let Some((id, message)) = self.to_node.pop_front() else {
            return false;
        };
        let word = inner(&format!("{message:?}"), "ToNode");
        let before = self.current();
        self.rules.is_news = ["Agreed", "HandshakeLost"].iter().any(|it| word.starts_with(it));
        self.node.handle_session_message(self.now, id, message);
        self.rules.heard(id, &word, [before, self.current()]);
        self.collect();
        self.rules.settled(id, &word, self.current());
        self.rules.is_news = false;
        true
    }

    fn tell(&mut self) -> bool {
        let Some((id, message)) = self.to_sessions.pop_front() else {
            return false;
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.handle_node_message(self.now, message);
        }
        self.collect();
        true
    }

    fn collect(&mut self) {
        while let Some(action) = self.node.poll_action() {
            self.note(action);
        }
        for (id, session) in &mut self.sessions {
            while let Some(action) = session.poll_action() {
                match action {
                    Action::Forward(message) => self.to_node.push_back((*id, message)),
                    Action::OpenSubstream { substream, protocols }
                        if protocols == [ProtocolId::Probe] =>
                    {
                        self.probes.push_back((*id, substream));
                    }
                    _ => {}
                }
            }
        }
    }

    fn note(&mut self, action: NodeAction) {
        if let NodeAction::Forward { session, message } = action {
            let current = self.current();
            self.rules.told(session, &inner(&format!("{message:?}"), "ToSession"), current);
            self.to_sessions.push_back((session, message));
        }
    }
}

/// Returns what a message says.
fn inner(text: &str, outer: &str) -> String {
    let inner = text.strip_prefix(outer).and_then(|rest| rest.strip_prefix('('));
    inner.and_then(|rest| rest.strip_suffix(')')).unwrap_or(text).to_owned()
}
