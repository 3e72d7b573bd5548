use glueberry_proto::{ConnectionState, Profile, StateReason, StreamName};
use libp2p_identity::PeerId;

use crate::event::{BookTrouble, Event, StateChanged};

#[test]
fn events_are_one_line_that_begins_with_the_peer() {
    let (peer, stream) = (PeerId::random(), StreamName::new("chat").unwrap());
    let changed = StateChanged {
        peer,
        state: ConnectionState::Disconnected,
        direction: None,
        session: None,
        reason: Some(StateReason::Blacklisted),
        at: std::time::SystemTime::UNIX_EPOCH,
    };
    let interrupted = Event::StreamInterrupted { peer, stream: stream.clone(), in_doubt: 2 };
    let ends = [
        (Event::State(changed.clone()), "Disconnected (blacklisted)"),
        (interrupted, "stream chat was interrupted: 2 messages in doubt"),
        (Event::StreamTruncated { peer, stream: stream.clone() }, "stream chat broke off"),
        (
            Event::DowngradeRefused { peer, offered: Some(Profile::V1) },
            "downgrade refused: it has spoken v2 before, and now v1",
        ),
        (Event::Backpressure { peer, stream }, "send queue of chat is full"),
    ];
    for (event, end) in ends {
        assert_eq!(event.to_string(), format!("{peer} {end}"));
    }
    let trouble = Event::AddressBook(BookTrouble::NotSaved("no space left".into()));
    assert_eq!(trouble.to_string(), "address book was not stored: no space left");
    assert_eq!(Event::Lagged { missed: 3 }.to_string(), "3 events missed");
    let snapshot = Event::Snapshot(vec![changed]);
    assert_eq!(snapshot.to_string(), "states of 1 peers after missed events");
}
