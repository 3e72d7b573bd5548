//! The node of the two-machine form.

use glueberry_proto::{
    Action, Address, Admission, CloseReason, ConnectionState, DialError, DialId, Naming,
    NewConnection, Node, NodeAction, Origin, Session,
};

use super::Row;
use super::setup::{NOW, after, config, dialling, key, last_reason, node};

/// Takes the dial.
fn dial(node: &mut Node) -> DialId {
    loop {
        match node.poll_action().unwrap() {
            NodeAction::Dial { dial, .. } => return dial,
            NodeAction::CancelDial(_) | NodeAction::Forward { .. } | NodeAction::SaveBook => {}
        }
    }
}

fn connection(peer: u8, origin: Origin) -> NewConnection {
    NewConnection { peer: key(peer), origin, naming: Naming::Preamble }
}

fn accept(node: &mut Node, peer: u8, origin: Origin) -> Session {
    match node.handle_connection(NOW, connection(peer, origin)) {
        Admission::Accept(session) => *session,
        other => panic!("{other:?}"),
    }
}

fn refusal(node: &mut Node, peer: u8, origin: Origin) -> String {
    match node.handle_connection(NOW, connection(peer, origin)) {
        Admission::Refuse(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

fn oldest(node: &Node) -> String {
    node.owed().first().map_or_else(|| "nothing".into(), ToString::to_string)
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        misuse: "actions of the node are not taken",
        happens: "no peer is dialled",
        told: "1 actions were not taken since 0.000000s",
        run: || oldest(&dialling()),
    },
    Row {
        misuse: "a dial is not answered",
        happens: "it fails after `dial_timeout`",
        told: "a dial was not answered since 0.000000s, then: dial failed: timed out",
        run: || {
            let mut node = dialling();
            dial(&mut node);
            let owed = oldest(&node);
            node.handle_timeout(after(30));
            assert_eq!(node.state(key(2)), ConnectionState::Reconnecting);
            format!("{owed}, then: {}", last_reason(&mut node))
        },
    },
    Row {
        misuse: "a dial is answered twice",
        happens: "the first answer counts",
        told: "dial failed: no usable address",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            node.handle_dial_failed(NOW, dial, DialError::NoUsableAddress);
            node.handle_dial_failed(NOW, dial, DialError::TimedOut);
            last_reason(&mut node)
        },
    },
    Row {
        misuse: "a dial is answered after it was given up",
        happens: "the connection is not wanted",
        told: "dial was cancelled",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            node.disconnect(NOW, key(2));
            refusal(&mut node, 2, Origin::Dialled(dial))
        },
    },
    Row {
        misuse: "a dial is answered with another peer's key",
        happens: "the dial has failed",
        told: "answered by another peer than was dialled",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            let told = refusal(&mut node, 3, Origin::Dialled(dial));
            assert_eq!(node.state(key(2)), ConnectionState::Reconnecting);
            told
        },
    },
    Row {
        misuse: "a connection comes with the node's own key",
        happens: "it is not wanted",
        told: "own key",
        run: || refusal(&mut node(config()), 1, Origin::Accepted),
    },
    Row {
        misuse: "a key is handed in that the peer only claims",
        happens: "an attacker can be any peer (C0): nothing can notice it",
        told: "nothing",
        run: || {
            let mut node = node(config());
            drop(accept(&mut node, 3, Origin::Accepted));
            "nothing".into()
        },
    },
    Row {
        misuse: "the session of a dial is dropped",
        happens: "the dial has failed, and is tried again later",
        told: "dial failed: session ended first: the driver has dropped the session",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            drop(accept(&mut node, 2, Origin::Dialled(dial)));
            node.handle_timeout(NOW);
            assert_eq!(node.state(key(2)), ConnectionState::Reconnecting);
            last_reason(&mut node)
        },
    },
    Row {
        misuse: "sessions of a peer are dropped, as many as it may have",
        happens: "their places are free with the next input",
        told: "nothing",
        run: || {
            let mut node = node(config());
            for _ in 0..3 * node.config().max_sessions_per_peer {
                drop(accept(&mut node, 2, Origin::Accepted));
            }
            assert!(node.internal_errors() == 0);
            "nothing".into()
        },
    },
    Row {
        misuse: "the last message of a session is not carried to the node",
        happens: "its place is free when it is dropped; the reason is lost",
        told: "dial failed: session ended first: the driver has dropped the session",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            let mut session = accept(&mut node, 2, Origin::Dialled(dial));
            session.close(NOW);
            while session.poll_action().is_some() {}
            node.handle_timeout(NOW);
            last_reason(&mut node)
        },
    },
    Row {
        misuse: "messages of a session are not carried to the node",
        happens: "it is ended after `handshake_timeout`",
        told: "nothing was heard of session-0 since 0.000000s",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            let session = accept(&mut node, 2, Origin::Dialled(dial));
            let told = oldest(&node);
            node.handle_timeout(after(60));
            let asked = std::iter::from_fn(|| node.poll_action());
            let ends = asked.filter(
                |it| matches!(it, NodeAction::Forward { session: id, .. } if *id == session.id()),
            );
            assert_eq!(ends.count(), 1);
            told
        },
    },
    Row {
        misuse: "a message of a session is handed in under another's name",
        happens: "of a session that there is not: nothing",
        told: "nothing",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            let mut session = accept(&mut node, 2, Origin::Dialled(dial));
            let other = accept(&mut super::setup::node(config()), 3, Origin::Accepted);
            session.close(NOW);
            while let Some(action) = session.poll_action() {
                if let Action::Forward(message) = action {
                    node.handle_session_message(NOW, other.id(), message);
                }
            }
            "nothing".into()
        },
    },
    Row {
        misuse: "events of the node are not taken",
        happens: "nothing new begins",
        told: "limit reached: event_queue",
        run: || {
            let mut config = config();
            config.event_queue = 1;
            let mut node = node(config);
            for peer in [2, 3] {
                node.add_peer(NOW, key(peer), &[Address::new("there")]).unwrap();
            }
            node.connect(NOW, key(2)).unwrap();
            node.connect(NOW, key(3)).unwrap_err().to_string()
        },
    },
    Row {
        misuse: "the book is not stored",
        happens: "it is asked for again when there is something to store",
        told: "nothing",
        run: || {
            let mut node = node(config());
            node.blacklist(NOW, key(2), None).unwrap();
            let saves = |node: &mut Node| {
                std::iter::from_fn(|| node.poll_action())
                    .filter(|it| matches!(it, NodeAction::SaveBook))
                    .count()
            };
            assert_eq!(saves(&mut node), 1);
            node.blacklist(NOW, key(3), None).unwrap();
            node.handle_book_not_saved(NOW);
            node.handle_timeout(after(60));
            assert_eq!(saves(&mut node), 1);
            "nothing".into()
        },
    },
    Row {
        misuse: "a peer without an address is dialled",
        happens: "nothing",
        told: "no address is known for the peer",
        run: || node(config()).connect(NOW, key(2)).unwrap_err().to_string(),
    },
    Row {
        misuse: "inputs about sessions and dials that are over",
        happens: "nothing",
        told: "nothing",
        run: || {
            let mut node = dialling();
            let dial = dial(&mut node);
            let session = accept(&mut node, 2, Origin::Dialled(dial));
            node.handle_session_gone(NOW, session.id());
            node.handle_session_gone(NOW, session.id());
            node.handle_dial_failed(NOW, dial, DialError::TimedOut);
            let gone = DialError::Session(CloseReason::Dropped).to_string();
            assert!(last_reason(&mut node).ends_with(&gone));
            "nothing".into()
        },
    },
];
