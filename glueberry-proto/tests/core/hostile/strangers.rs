//! Strangers crowd nobody out: a peer that is known, or has shown more than they have, is not
//! refused, ended or forgotten because of them.

use std::collections::BTreeMap;
use std::time::Duration;

use glueberry_proto::{
    Action, Address, Admission, Config, ConnectionState, DialError, Identity, Instant, Node,
    NodeAction, Origin, PeerError, Profile, PublicKey, ReconnectPolicy, RefuseReason, Session,
    SessionId, StateReason,
};

use crate::support::{A, arrive, node};

const SECOND: Duration = Duration::from_secs(1);

fn peer(number: u32) -> PublicKey {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    Identity::from_seed(&seed).public_key()
}

/// One node and all its sessions. Peers do what the test has them do.
struct Crowd {
    node: Node,
    now: Instant,
    sessions: BTreeMap<SessionId, Session>,
    /// Makes keys that were not seen before.
    keys: u32,
    events: Vec<(PublicKey, ConnectionState)>,
}

impl Crowd {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let node = node(A, |config| {
            config.reconnect = ReconnectPolicy::default();
            change(config);
        });
        let (now, sessions) = (Instant::from_micros(1), BTreeMap::new());
        Self { node, now, sessions, keys: 0, events: Vec::new() }
    }

    fn stranger(&mut self) -> PublicKey {
        self.keys += 1;
        peer(self.keys)
    }

    fn friend(&mut self) -> PublicKey {
        let friend = self.stranger();
        self.node.add_peer(self.now, friend, &[Address::new("memory")]).unwrap();
        friend
    }

    fn arrive(&mut self, peer: PublicKey, origin: Origin) -> Result<SessionId, RefuseReason> {
        match arrive(&mut self.node, self.now, peer, origin) {
            Admission::Accept(session) => {
                let id = session.id();
                self.sessions.insert(id, *session);
                self.exchange();
                Ok(id)
            }
            Admission::Refuse(reason) => Err(reason),
        }
    }

    /// A peer dials and opens a handshake substream.
    fn connected(&mut self, peer: PublicKey) -> SessionId {
        let id = self.arrive(peer, Origin::Accepted).unwrap();
        self.agree(id);
        assert_eq!(self.node.state(peer), ConnectionState::Connected);
        id
    }

    fn established(&mut self, peer: PublicKey) -> SessionId {
        let id = self.connected(peer);
        self.establish(id);
        assert_eq!(self.node.state(peer), ConnectionState::Established);
        id
    }

    fn agree(&mut self, id: SessionId) {
        let now = self.now;
        let handshake = Some(Profile::V1.handshake_id());
        _ = self.sessions.get_mut(&id).unwrap().handle_accepted(now, handshake);
        self.exchange();
    }

    fn establish(&mut self, id: SessionId) {
        let (now, session) = (self.now, self.sessions.get_mut(&id).unwrap());
        let streams = [crate::support::name("chat")];
        session.prepare_streams(now, session.peer(), &streams).unwrap();
        session.finalize_handshake(now).unwrap();
        self.exchange();
    }

    fn reject(&mut self, id: SessionId) {
        let now = self.now;
        self.sessions.get_mut(&id).unwrap().reject_handshake(now, "no");
        self.exchange();
    }

    /// Dials a friend, which answers.
    fn dialled(&mut self, friend: PublicKey) -> SessionId {
        self.node.connect(self.now, friend).unwrap();
        let dial = loop {
            match self.node.poll_action().expect("a dial starts") {
                NodeAction::Dial { dial, peer, .. } if peer == friend => break dial,
                action => self.act(action),
            }
        };
        let id = self.arrive(friend, Origin::Dialled(dial)).unwrap();
        self.agree(id);
        assert_eq!(self.node.state(friend), ConnectionState::Connected);
        id
    }

    fn wait(&mut self, by: Duration) {
        self.now = self.now + by;
        self.node.handle_timeout(self.now);
        self.exchange();
    }

    fn act(&mut self, action: NodeAction) {
        if let NodeAction::Forward { session, message } = action
            && let Some(session) = self.sessions.get_mut(&session)
        {
            session.handle_node_message(self.now, message);
        }
    }

    /// Passes messages until there are none, and forgets sessions that are over.
    fn exchange(&mut self) {
        let mut is_first = true;
        loop {
            let mut told = Vec::new();
            while let Some(action) = self.node.poll_action() {
                if let NodeAction::Forward { session, .. } = &action {
                    told.push(*session);
                }
                self.act(action);
            }
            // At first any session may have something to say.
            let all = if is_first { self.sessions.keys().copied().collect() } else { told };
            let mut has_said = false;
            for id in all {
                let Some(session) = self.sessions.get_mut(&id) else { continue };
                while let Some(action) = session.poll_action() {
                    if let Action::Forward(message) = action {
                        has_said = true;
                        self.node.handle_session_message(self.now, id, message);
                    }
                }
            }
            if !has_said && !is_first {
                break;
            }
            is_first = false;
        }
        self.sessions.retain(|_, session| !session.is_closed());
        let events = std::iter::from_fn(|| self.node.poll_event());
        self.events.extend(events.map(|event| (event.peer, event.state)));
    }

    fn count(&self, peers: &[PublicKey], state: ConnectionState) -> usize {
        peers.iter().filter(|peer| self.node.state(**peer) == state).count()
    }
}

#[test]
fn strangers_that_never_agree_lock_nobody_out() {
    // As fast as on real sockets, and all at one time.
    for pause in [Duration::from_millis(118), Duration::ZERO] {
        let mut crowd = Crowd::new(|_| {});
        for round in 0..1_200 {
            let stranger = crowd.stranger();
            crowd.arrive(stranger, Origin::Accepted).unwrap();
            crowd.wait(pause);
            if round % 20 == 0 {
                let newcomer = crowd.stranger();
                let id = crowd.connected(newcomer);
                crowd.establish(id);
            }
            if round % 50 == 0 {
                let (inbound, outbound) = (crowd.friend(), crowd.friend());
                crowd.established(inbound);
                let id = crowd.dialled(outbound);
                crowd.establish(id);
            }
        }
        assert!(crowd.events.iter().all(|(_, state)| *state != ConnectionState::Disconnected));
        assert!(crowd.sessions.len() <= 64 + 60 + 48, "{}", crowd.sessions.len());
    }
}

#[test]
fn no_more_are_pruned_than_there_are_too_many() {
    let mut crowd = Crowd::new(|config| (config.sessions_low, config.sessions_high) = (1, 3));
    let peers = [(); 6].map(|()| crowd.stranger());
    for peer in &peers[..3] {
        crowd.established(*peer);
    }
    for peer in &peers[3..] {
        let id = crowd.arrive(*peer, Origin::Accepted).unwrap();
        crowd.agree(id);
        assert_eq!(crowd.count(&peers, ConnectionState::Established), 3);
    }
    // One that is protected is not among those that may go, and counts.
    let friend = crowd.stranger();
    crowd.node.protect(crowd.now, friend, true).unwrap();
    crowd.connected(friend);
    assert_eq!(crowd.count(&peers, ConnectionState::Established), 2);
}

#[test]
fn what_was_queued_for_a_peer_that_is_pruned_is_still_sent() {
    let mut crowd = Crowd::new(|config| (config.sessions_low, config.sessions_high) = (1, 2));
    let peer = crowd.stranger();
    let id = crowd.established(peer);
    let session = crowd.sessions.get_mut(&id).unwrap();
    session.send(crowd.now, &crate::support::name("chat"), "last".into()).unwrap();
    for friend in [(); 2].map(|()| crowd.stranger()) {
        crowd.node.protect(crowd.now, friend, true).unwrap();
        crowd.connected(friend);
    }
    assert_eq!(crowd.node.state(peer), ConnectionState::Disconnected);
    assert!(crowd.sessions.get(&id).is_some_and(|session| !session.is_closed()));
}

#[test]
fn a_session_that_is_not_agreed_ends_soon() {
    let mut crowd = Crowd::new(|_| {});
    let stranger = crowd.stranger();
    crowd.arrive(stranger, Origin::Accepted).unwrap();
    crowd.wait(crowd.node.config().negotiation_timeout);
    assert!(crowd.sessions.is_empty());
    assert_eq!(crowd.node.peers().count(), 0);
}

#[test]
fn strangers_that_are_only_connected_have_nobody_else_pruned() {
    let mut crowd = Crowd::new(|_| {});
    let honest: Vec<PublicKey> = (0..300).map(|_| crowd.stranger()).collect();
    for peer in &honest {
        crowd.established(*peer);
    }
    let strangers: Vec<PublicKey> = (0..150).map(|_| crowd.stranger()).collect();
    for peer in &strangers {
        crowd.connected(*peer);
    }
    assert_eq!(crowd.count(&honest, ConnectionState::Established), 300);
    assert_eq!(crowd.count(&strangers, ConnectionState::Connected), 100, "only the excess");
    // Who was pruned may come back; who comes last stays.
    crowd.connected(strangers[0]);
    let newcomer = crowd.stranger();
    crowd.established(newcomer);
    // Those that take too long all make room for the next.
    crowd.wait(SECOND * 20);
    let last = crowd.stranger();
    crowd.established(last);
    assert_eq!(crowd.count(&strangers, ConnectionState::Connected), 0);
    assert_eq!(crowd.count(&honest, ConnectionState::Established), 300);
    assert_eq!(crowd.count(&[newcomer, last], ConnectionState::Established), 2);
}

#[test]
fn established_strangers_give_way_to_known_and_dialled_peers_and_no_more_than_necessary() {
    let mut crowd = Crowd::new(|_| {});
    let strangers: Vec<PublicKey> = (0..400).map(|_| crowd.stranger()).collect();
    for peer in &strangers {
        crowd.established(*peer);
    }
    assert_eq!(crowd.count(&strangers, ConnectionState::Established), 400);
    let friends: Vec<PublicKey> = (0..100).map(|_| crowd.friend()).collect();
    for (at, friend) in friends.iter().enumerate() {
        let id = match at % 2 {
            0 => crowd.connected(*friend),
            _ => crowd.dialled(*friend),
        };
        crowd.establish(id);
    }
    assert_eq!(crowd.count(&friends, ConnectionState::Established), 100);
    assert_eq!(crowd.count(&strangers, ConnectionState::Established), 300);
    // The youngest were taken.
    assert_eq!(crowd.count(&strangers[..300], ConnectionState::Established), 300);
    let late = crowd.stranger();
    let id = crowd.arrive(late, Origin::Accepted).unwrap();
    crowd.agree(id);
    assert_eq!(crowd.node.state(late), ConnectionState::Disconnected);
}

/// Its two sessions become one in a moment, for which there need not be two places.
#[test]
fn who_has_a_session_takes_no_strangers_place_for_another() {
    let mut crowd = Crowd::new(|config| {
        (config.sessions_low, config.sessions_high) = (511, 512);
    });
    let strangers: Vec<PublicKey> = (0..464).map(|_| crowd.stranger()).collect();
    for peer in &strangers {
        crowd.established(*peer);
    }
    let friends: Vec<PublicKey> = (0..48).map(|_| crowd.friend()).collect();
    for friend in &friends {
        crowd.established(*friend);
    }
    for friend in &friends {
        for _ in 0..2 {
            crowd.arrive(*friend, Origin::Accepted).unwrap();
        }
    }
    assert_eq!(crowd.count(&strangers, ConnectionState::Established), 464);
    let friend = crowd.friend();
    crowd.connected(friend);
    assert_eq!(crowd.count(&strangers, ConnectionState::Established), 463);
}

/// All of them at once, before a session of a stranger has had the time to end.
#[test]
fn known_peers_have_all_places_if_they_want_them() {
    let mut crowd = Crowd::new(|_| {});
    for _ in 0..464 {
        let stranger = crowd.stranger();
        if let Ok(id) = crowd.arrive(stranger, Origin::Accepted) {
            crowd.agree(id);
        }
    }
    let friends: Vec<PublicKey> = (0..512).map(|_| crowd.friend()).collect();
    let mut kept = Vec::new();
    for friend in &friends {
        let admission = arrive(&mut crowd.node, crowd.now, *friend, Origin::Accepted);
        assert!(matches!(admission, Admission::Accept(_)), "{admission:?}");
        kept.push(admission);
    }
    let friend = crowd.friend();
    let full = RefuseReason::LimitReached("max_sessions");
    assert_eq!(crowd.arrive(friend, Origin::Accepted), Err(full));
}

#[test]
fn a_protected_stranger_is_none() {
    let mut crowd = Crowd::new(|config| {
        (config.sessions_low, config.sessions_high) = (1, 2);
    });
    let protected = crowd.stranger();
    crowd.node.protect(crowd.now, protected, true).unwrap();
    crowd.connected(protected);
    for _ in 0..5 {
        let stranger = crowd.stranger();
        let id = crowd.arrive(stranger, Origin::Accepted).unwrap();
        crowd.agree(id);
        crowd.wait(SECOND * 11);
        assert_eq!(crowd.node.state(protected), ConnectionState::Connected);
    }
}

#[test]
fn strangers_that_were_turned_away_fill_no_table() {
    let mut crowd = Crowd::new(|config| config.max_peers = 50);
    let disconnects = |crowd: &mut Crowd, peer: PublicKey| {
        assert!(crowd.node.disconnect(crowd.now, peer));
        crowd.exchange();
    };
    for round in 0..200 {
        let stranger = crowd.stranger();
        let id = crowd.connected(stranger);
        match round % 2 {
            0 => crowd.reject(id),
            _ => disconnects(&mut crowd, stranger),
        }
    }
    assert_eq!(crowd.node.peers().count(), 50);
    // The latest are still refused.
    let last = peer(crowd.keys);
    assert_eq!(crowd.arrive(last, Origin::Accepted), Err(RefuseReason::Disconnected));
    let newcomer = crowd.stranger();
    crowd.established(newcomer);
    let (inbound, outbound, protected) = (crowd.friend(), crowd.friend(), crowd.stranger());
    crowd.established(inbound);
    crowd.dialled(outbound);
    crowd.node.protect(crowd.now, protected, true).unwrap();
    // Of a peer in the book the cooldown is remembered, whoever comes.
    let friend = crowd.friend();
    let id = crowd.connected(friend);
    crowd.reject(id);
    for _ in 0..200 {
        let stranger = crowd.stranger();
        let id = crowd.connected(stranger);
        crowd.reject(id);
    }
    assert_eq!(crowd.node.state(friend), ConnectionState::Cooldown);
    assert_eq!(crowd.arrive(friend, Origin::Accepted), Err(RefuseReason::InCooldown));
}

/// Some places are never a stranger's, but no more than half of them.
#[test]
fn strangers_leave_places_for_those_that_are_known() {
    for (reserved, left) in [(3, 5), (100, 4)] {
        let mut crowd = Crowd::new(|config| {
            (config.max_sessions, config.reserved_sessions) = (8, reserved);
        });
        let strangers: Vec<PublicKey> = (0..left).map(|_| crowd.stranger()).collect();
        for peer in &strangers {
            crowd.established(*peer);
        }
        let late = crowd.stranger();
        let full = RefuseReason::LimitReached("max_sessions");
        assert_eq!(crowd.arrive(late, Origin::Accepted), Err(full));
        for _ in left..8 {
            let friend = crowd.friend();
            crowd.established(friend);
        }
        assert_eq!(crowd.count(&strangers, ConnectionState::Established), left);
    }
}

/// It has given up its place, though its end is not reported yet.
#[test]
fn a_session_that_is_ending_has_nobody_else_dismissed() {
    let mut crowd = Crowd::new(|config| config.max_pending_sessions = 2);
    let [first, second, third] = [(); 3].map(|()| crowd.stranger());
    let id = crowd.arrive(first, Origin::Accepted).unwrap();
    crowd.connected(second);
    assert!(crowd.node.disconnect(crowd.now, second));
    crowd.arrive(third, Origin::Accepted).unwrap();
    assert!(crowd.sessions.contains_key(&id));
}

/// What the application has said of a peer is remembered, and counts with all that is.
#[test]
fn a_peer_with_a_policy_of_its_own_makes_no_room_for_a_stranger() {
    let mut crowd = Crowd::new(|config| config.max_peers = 1);
    let (peer, other) = (crowd.stranger(), crowd.stranger());
    crowd.connected(peer);
    let policy = Some(ReconnectPolicy::never());
    crowd.node.set_reconnect_policy(crowd.now, peer, policy).unwrap();
    assert!(crowd.node.disconnect(crowd.now, peer));
    crowd.exchange();
    let full = RefuseReason::LimitReached("max_peers");
    assert_eq!(crowd.arrive(other, Origin::Accepted), Err(full));
    assert_eq!(crowd.arrive(peer, Origin::Accepted), Err(RefuseReason::Disconnected));
}

#[test]
fn bans_take_effect_however_many_there_are() {
    let mut crowd = Crowd::new(|config| (config.max_peers, config.max_bans) = (20, 20));
    let friends: Vec<PublicKey> = (0..20).map(|_| crowd.friend()).collect();
    let mut lifted = 0;
    for _ in 0..50 {
        let offender = crowd.stranger();
        // It tries again and again.
        let before = crowd.keys - 1;
        if crowd.node.is_blacklisted(peer(before)) {
            let refused = crowd.arrive(peer(before), Origin::Accepted);
            assert_eq!(refused, Err(RefuseReason::Blacklisted));
        }
        lifted += u32::from(crowd.node.blacklist(crowd.now, offender, None).unwrap().is_some());
        assert!(crowd.node.is_blacklisted(offender));
    }
    assert_eq!(lifted, 30);
    let offender = friends[0];
    let id = crowd.established(offender);
    crowd.node.blacklist(crowd.now, offender, None).unwrap();
    crowd.exchange();
    assert!(!crowd.sessions.contains_key(&id));
    let stranger = crowd.stranger();
    let id = crowd.established(stranger);
    crowd.node.blacklist(crowd.now, stranger, None).unwrap();
    crowd.exchange();
    assert!(!crowd.sessions.contains_key(&id));
    assert_eq!(crowd.arrive(stranger, Origin::Accepted), Err(RefuseReason::Blacklisted));
    let own = crowd.node.public_key();
    assert_eq!(crowd.node.blacklist(crowd.now, own, None), Err(PeerError::OwnKey));
}

#[test]
fn a_limit_of_this_node_is_no_attempt_to_reach_the_peer() {
    let mut crowd = Crowd::new(|config| {
        (config.max_sessions, config.reserved_sessions) = (1, 0);
    });
    let (first, friend) = (crowd.friend(), crowd.friend());
    crowd.node.connect(crowd.now, friend).unwrap();
    let occupant = crowd.established(first);
    for _ in 0..30 {
        let dial = loop {
            match crowd.node.poll_action() {
                Some(NodeAction::Dial { dial, .. }) => break dial,
                Some(action) => crowd.act(action),
                None => {
                    crowd.now = crowd.node.poll_timeout().expect("it is tried again");
                    crowd.node.handle_timeout(crowd.now);
                }
            }
        };
        let full = RefuseReason::LimitReached("max_sessions");
        assert_eq!(crowd.arrive(friend, Origin::Dialled(dial)), Err(full));
        let events: Vec<_> = std::iter::from_fn(|| crowd.node.poll_event()).collect();
        let why = StateReason::DialFailed(DialError::LimitReached("max_sessions"));
        assert!(events.iter().any(|event| event.reason == Some(why.clone())), "{events:?}");
        assert_eq!(crowd.node.peer_status(friend).unwrap().attempts, 1);
    }
    crowd.node.handle_session_gone(crowd.now, occupant);
    crowd.sessions.clear();
    crowd.node.disconnect(crowd.now, first);
    crowd.node.cancel_reconnection(crowd.now, friend);
    crowd.dialled(friend);
}

#[test]
fn a_peer_that_comes_again_and_again_is_slowed_down() {
    let mut crowd = Crowd::new(|config| config.max_sessions_per_minute = 10);
    let (first, other) = (crowd.stranger(), crowd.stranger());
    let too_often = RefuseReason::LimitReached("max_sessions_per_minute");
    for _ in 0..10 {
        let id = crowd.arrive(first, Origin::Accepted).unwrap();
        crowd.node.handle_session_gone(crowd.now, id);
    }
    assert_eq!(crowd.arrive(first, Origin::Accepted), Err(too_often));
    crowd.connected(other);
    crowd.wait(SECOND * 6);
    crowd.arrive(first, Origin::Accepted).unwrap();
    assert_eq!(crowd.arrive(first, Origin::Accepted), Err(too_often));
    // What this node dials itself is not counted.
    crowd.node.add_peer(crowd.now, first, &[Address::new("memory")]).unwrap();
    crowd.node.connect(crowd.now, first).unwrap();
}

#[test]
fn events_of_strangers_leave_room_for_others() {
    let mut crowd = Crowd::new(|config| config.event_queue = 8);
    let friend = crowd.friend();
    let mut strangers = Vec::new();
    while strangers.len() < 100 {
        let stranger = crowd.stranger();
        let Admission::Accept(mut session) =
            arrive(&mut crowd.node, crowd.now, stranger, Origin::Accepted)
        else {
            break;
        };
        _ = session.handle_accepted(crowd.now, Some(Profile::V1.handshake_id()));
        while let Some(action) = session.poll_action() {
            if let Action::Forward(message) = action {
                crowd.node.handle_session_message(crowd.now, session.id(), message);
            }
        }
        strangers.push(session);
    }
    assert_eq!(strangers.len(), 6);
    crowd.node.connect(crowd.now, friend).unwrap();
    let admission = arrive(&mut crowd.node, crowd.now, friend, Origin::Accepted);
    assert!(matches!(admission, Admission::Accept(_)), "{admission:?}");
}
