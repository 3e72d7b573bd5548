//! What is held when nothing happens.

use std::time::Duration;

use bytes::Bytes;
use glueberry_proto::{Naming, Profile, WRITE_CHUNK};

use crate::support::{Raw, config, frame};
use crate::{Flood, KIB, alone, pump, take};

#[test]
fn an_idle_session_holds_little() {
    let alone = alone();
    for profile in [Profile::V1, Profile::V1Go] {
        let mut flood = Flood::new(profile, 1, &[10, 200_000, 3_000], 1_000 * KIB, &[]).bytes;
        let measured = alone.measure();
        let mut config = config(&["chat"]);
        config.profiles = vec![profile];
        let (mut raw, handshake) = Raw::connected(Naming::Negotiated, config);
        for _ in 0..6 {
            let message = Bytes::from(vec![1; 10 * KIB]);
            raw.session.send_handshake(raw.now, message).unwrap();
        }
        take(&mut raw, handshake, usize::MAX);
        pump(&mut raw, handshake, &mut frame(profile, &vec![1; 60 * KIB]).into(), usize::MAX);
        assert_eq!(raw.heard().len(), 1);
        raw.prepare(&["chat"]);
        raw.session.send_handshake(raw.now, Bytes::from(vec![1; 60 * KIB])).unwrap();
        raw.finalize();
        take(&mut raw, handshake, usize::MAX);
        raw.acknowledge(handshake);
        let id = raw.open_stream("chat");
        while !flood.is_empty() {
            pump(&mut raw, id, &mut flood, usize::MAX);
            raw.received("chat");
        }
        for _ in 0..900 {
            raw.send("chat", &[1; 2_000]);
        }
        take(&mut raw, id, usize::MAX);
        raw.wait(Duration::from_secs(2));
        raw.events();
        while raw.node.poll_event().is_some() {}
        raw.actions = Vec::new();
        let held = measured.now();
        assert!(held < 24 * KIB, "{profile:?}: {held} bytes held by node and session");
    }
}

#[test]
fn a_substream_that_has_written_holds_no_buffer() {
    let alone = alone();
    let measured = alone.measure();
    let mut raw = Raw::chat(Naming::Negotiated, Profile::V1);
    let id = raw.open_stream("chat");
    raw.send("chat", b"warm up");
    take(&mut raw, id, usize::MAX);
    let before = measured.now();
    for size in [10, 1_000, 3 * WRITE_CHUNK] {
        raw.send("chat", &vec![1; size]);
        take(&mut raw, id, usize::MAX);
        let held = measured.now().saturating_sub(before);
        assert!(held < 16 * KIB, "{held} bytes held after {size} were written");
    }
}
