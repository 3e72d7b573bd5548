//! What a session shows of itself: never what messages hold.

use glueberry_proto::{Naming, Profile, SendQueue, SubstreamEnd};

use crate::support::{Raw, config, name};

/// In the form in which `Bytes` would show it.
const MARK: &str = "MARKER";

#[test]
fn nothing_that_holds_messages_shows_what_is_in_them() {
    for profile in [Profile::V1, Profile::V1Go] {
        let mut raw = Raw::chat(Naming::Negotiated, profile);
        // Written and perhaps to be repeated, queued, and given back.
        raw.send("chat", b"MARKER written");
        let own = raw.agree(&profile.stream_id(name("chat")));
        raw.written(own);
        shows_nothing(&raw);
        let theirs = raw.message(b"MARKER received");
        let peers = raw.open_stream("chat");
        raw.feed(peers, &theirs);
        raw.send("chat", b"MARKER queued");
        shows_nothing(&raw);
        raw.end(own, SubstreamEnd::Aborted);
        shows_nothing(&raw);
        raw.session.close(raw.now);
        shows_nothing(&raw);
    }
    let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config(&["chat"]));
    raw.session.send_handshake(raw.now, "MARKER said".into()).unwrap();
    shows_nothing(&raw);
    raw.written(handshake);
    shows_nothing(&raw);
    let mut queue = SendQueue::new((&config(&["chat"])).into());
    queue.push("MARKER".into()).unwrap();
    assert!(!format!("{queue:?}").contains(MARK));
}

fn shows_nothing(raw: &Raw) {
    let session = format!("{:?}", raw.session);
    assert!(!session.contains(MARK), "{session}");
    let buffers = format!("{:?}", raw.buffers);
    assert!(!buffers.contains(MARK), "{buffers}");
}
