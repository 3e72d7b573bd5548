//! One node without a transport: the test reports what happens to it.

use glueberry_proto::{
    Action, Address, Admission, Config, DialId, Identity, Instant, Naming, NewConnection, Node,
    NodeAction, Origin, ProtocolId, PublicKey, Seed, Session, SessionId, SubstreamId,
};

use super::{Side, config, identity};

/// Makes a node with the stream `chat`, from a changed configuration.
pub(crate) fn node(side: Side, change: impl FnOnce(&mut Config)) -> Node {
    let mut config = config(&["chat"]);
    change(&mut config);
    Node::new(Instant::ZERO, identity(side), config, Seed::from_bytes([7; 32])).unwrap()
}

/// Returns the key of a peer that is neither A nor B.
pub(crate) fn stranger(number: u8) -> PublicKey {
    Identity::from_seed(&[number; 32]).public_key()
}

/// Dials a peer, and takes the node's actions up to the dial.
#[track_caller]
pub(crate) fn dial(node: &mut Node, now: Instant, peer: PublicKey) -> DialId {
    node.add_peer(now, peer, &[Address::new("memory")]).unwrap();
    node.connect(now, peer).unwrap();
    loop {
        match node.poll_action().expect("a dial starts") {
            NodeAction::Dial { dial, peer: dialled, .. } if dialled == peer => return dial,
            _ => {}
        }
    }
}

/// Reports a connection.
pub(crate) fn arrive(node: &mut Node, now: Instant, peer: PublicKey, origin: Origin) -> Admission {
    node.handle_connection(now, NewConnection { peer, origin, naming: Naming::Negotiated })
}

/// Reports a connection, which the node accepts.
#[track_caller]
pub(crate) fn accept(node: &mut Node, now: Instant, peer: PublicKey, origin: Origin) -> Session {
    accepted(arrive(node, now, peer, origin))
}

#[track_caller]
pub(crate) fn accepted(admission: Admission) -> Session {
    match admission {
        Admission::Accept(session) => *session,
        other => panic!("{other:?}"),
    }
}

/// A substream that a session wants, and what it is proposed for.
pub(crate) type Opening = (SessionId, SubstreamId, Vec<ProtocolId>);

/// Passes messages between a node and its sessions until there are none. Returns the substreams that
/// the sessions want; all other actions are dropped: the peer answers nothing.
pub(crate) fn exchange(
    node: &mut Node,
    now: Instant,
    sessions: &mut [&mut Session],
) -> Vec<Opening> {
    let mut openings = Vec::new();
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for session in &mut *sessions {
            while let Some(action) = session.poll_action() {
                moved = true;
                match action {
                    Action::Forward(message) => {
                        node.handle_session_message(now, session.id(), message);
                    }
                    Action::OpenSubstream { substream, protocols } => {
                        openings.push((session.id(), substream, protocols));
                    }
                    _ => {}
                }
            }
        }
        while let Some(action) = node.poll_action() {
            moved = true;
            if let NodeAction::Forward { session: id, message } = action
                && let Some(session) = sessions.iter_mut().find(|session| session.id() == id)
            {
                session.handle_node_message(now, message);
            }
        }
    }
    openings
}
